//! Which database, from its URL.
//!
//! It must not know the driver: it checks what an operator would want to be told before anything is opened. A URL may
//! hold a password, so no error and no printing repeats it.

use std::{fmt, net::IpAddr, path::PathBuf};

use url::Url;

use super::{secret::SecretText, values::Wrong};

/// What may stand behind the question mark of a URL of PostgreSQL. The driver would pass over anything else.
const PARAMETERS: [&str; 13] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "options[search_path]",
];

/// What libpq would try one after the other.
const SEVERAL_HOSTS: &str = "names several hosts; name one, the one that a failover moves";

/// Those of them that name files, unless they hold the text itself.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
}

/// Where a database of PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    /// The URL, as the driver takes it.
    pub url: SecretText,
    /// Host, port and database: what may be told of it.
    pub place: String,
    /// Whether it is on this machine: what goes there crosses no network.
    pub local: bool,
    /// How its connection is encrypted.
    pub encryption: Encryption,
}

/// How the connection to a database is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all, or only if the server wants to.
    None,
    /// Against whoever listens, not against whoever stands in between: nobody knows whose the certificate is.
    Unverified,
    /// With a certificate that is verified.
    Verified,
}

impl Database {
    /// Reads the URL.
    pub fn parse(url: &str) -> Result<Self, Wrong> {
        match url.split(':').next().unwrap_or_default() {
            "sqlite" => sqlite(url),
            "postgres" | "postgresql" => postgres(url),
            _ => Err("is not the URL of a supported database; give sqlite://PATH, for example \
                 sqlite://data/signalbox.db, or postgres://USER@HOST/DATABASE"
                .to_owned()),
        }
    }
}

impl fmt::Display for Database {
    /// Where it is, without user and password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => {
                let whole = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                write!(out, "sqlite at {}", whole.display())
            }
            Self::Postgres(at) => write!(out, "postgres at {}", at.place),
        }
    }
}

fn sqlite(url: &str) -> Result<Database, Wrong> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    // `sqlite:///absolute` has three slashes, of which the last belongs to the path.
    let path = if url.starts_with("sqlite:///") {
        format!("/{}", path.trim_start_matches('/'))
    } else {
        path.to_owned()
    };
    if path.is_empty() || path == ":memory:" {
        return Err(
            "needs the path of a file that outlives the process, for example sqlite://data/signalbox.db"
                .to_owned(),
        );
    }
    if path.contains(['?', '#']) {
        return Err("takes no parameters; give sqlite://PATH and nothing after it".to_owned());
    }
    Ok(Database::Sqlite(PathBuf::from(path)))
}

fn postgres(text: &str) -> Result<Database, Wrong> {
    const FORM: &str = "give one such as postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full";
    let place = text.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    // With their ports they are no URL any more.
    if place.rsplit('@').next().is_some_and(|hosts| hosts.contains(',')) {
        return Err(SEVERAL_HOSTS.to_owned());
    }
    let url = Url::parse(text).map_err(|_| {
        format!("is not a URL; {FORM}, with `@`, `:`, `/`, `#` and `%` in a user or password written as %40, %3A, %2F, %23 and %25")
    })?;
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&&**name)) {
        return Err(unknown(&name));
    }
    if [url.username(), url.password().unwrap_or_default()].into_iter().any(has_bare_percent) {
        return Err("has a `%` in its user or password that begins nothing such as %40; a `%` itself is written as %25".to_owned());
    }
    let parameter = |wanted: &str| {
        let found = url.query_pairs().filter(|(name, _)| name == wanted).last();
        found.map(|(_, value)| value.into_owned())
    };
    let host =
        parameter("hostaddr").or_else(|| parameter("host")).or_else(|| url.host_str().map(str::to_owned));
    let host = host.filter(|host| !host.is_empty()).ok_or_else(|| format!("names no host; {FORM}"))?;
    if host.contains(',') {
        return Err(SEVERAL_HOSTS.to_owned());
    }
    if url.username().is_empty() && parameter("user").is_none_or(|user| user.is_empty()) {
        return Err(format!("names no user, and none is guessed; {FORM}"));
    }
    let encryption = match parameter("sslmode").as_deref() {
        None | Some("disable" | "allow" | "prefer") => Encryption::None,
        Some("require") => Encryption::Unverified,
        Some("verify-ca" | "verify-full") => Encryption::Verified,
        Some(_) => {
            return Err(
                "has an sslmode that is none of disable, allow, prefer, require, verify-ca, verify-full"
                    .to_owned(),
            );
        }
    };
    for name in FILES {
        if let Some(file) = parameter(name) {
            readable(name, &file)?;
        }
    }
    let local = is_local(&host);
    let port = parameter("port").or_else(|| url.port().map(|port| port.to_string()));
    let name = parameter("dbname").unwrap_or_else(|| url.path().trim_start_matches('/').to_owned());
    let place = format!("{host}:{}/{name}", port.as_deref().unwrap_or("5432"));
    Ok(Database::Postgres(PostgresUrl { url: SecretText::new(text.to_owned()), place, local, encryption }))
}

/// What is said of a parameter that is not taken, and with what to do where there is something.
fn unknown(name: &str) -> Wrong {
    let instead = match name {
        "connect_timeout" => {
            "leave it out: how long is waited is fixed, and a server tries again for as long as nobody answers"
        }
        "target_session_attrs" | "load_balance_hosts" => {
            "leave it out, and name one host, the one that a failover moves"
        }
        _ => "leave it out",
    };
    format!("has a parameter `{name}`, which is none of {}; {instead}", PARAMETERS.join(", "))
}

/// Whether a part of a URL holds a `%` that two digits should follow, and do not. The driver would take it as it stands, and other
/// programs not at all.
fn has_bare_percent(part: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = part.as_bytes();
    let bare = |at: usize| bytes[at] == b'%' && !(digit(bytes.get(at + 1)) && digit(bytes.get(at + 2)));
    (0..bytes.len()).any(bare)
}

/// Whether a file that a parameter names can be read. The driver would say so of the connection only.
fn readable(parameter: &str, file: &str) -> Result<(), Wrong> {
    if file.trim().starts_with("-----BEGIN") {
        return Ok(());
    }
    std::fs::read(file)
        .map(drop)
        .map_err(|error| format!("has {parameter}={file}, which can't be read: {error}; name a PEM file"))
}

/// Whether a host is this machine: the directory of a socket, or a loopback address.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let socket = host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
    socket || host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
