//! Connections to databases as other systems write them: URLs, and the variables of libpq.
//!
//! Must not know where they were found. What is said of them never repeats a part of them.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{gather, providers};
use crate::{
    domain::record::Spec,
    kinds::rules::is_loopback,
    proto::v1::{
        DatabaseOption, DatabasePool, DatabaseSpec, DatabaseTlsMode, DatabaseType, Secret,
        database_option::Value, secret::State,
    },
};

/// A connection that was read.
pub struct Connection {
    /// What it says.
    pub spec: DatabaseSpec,
    /// What is otherwise than it was, and why.
    pub notes: Vec<String>,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is wrong.
    Invalid(String),
    /// It is right, but can't be expressed here.
    NotCarried(String),
}

/// Lists what variables of libpq lead elsewhere, or are files on one machine.
pub const PG_LEFT_OUT: [&str; 8] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGPASSFILE",
    "PGOPTIONS",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGTARGETSESSIONATTRS",
];
/// The variables of libpq that make a connection.
pub const PG_USED: [&str; 8] =
    ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "PGAPPNAME", "PGCONNECT_TIMEOUT"];

/// The type that a word stands for: a URL's scheme, or what a table says.
#[must_use]
pub fn type_of(word: &str) -> Option<DatabaseType> {
    let word = word.to_ascii_lowercase();
    // `postgresql+asyncpg` names the driver too.
    match word.split('+').next().unwrap_or_default() {
        "postgres" | "postgresql" | "pgsql" => Some(DatabaseType::Postgresql),
        "redis" | "rediss" | "valkey" => Some(DatabaseType::Redis),
        "mysql" => Some(DatabaseType::Mysql),
        "mariadb" => Some(DatabaseType::Mariadb),
        "mongodb" | "mongo" => Some(DatabaseType::Mongodb),
        "sqlite" | "sqlite3" => Some(DatabaseType::Sqlite),
        _ => None,
    }
}

/// Reads a connection from its URL, `postgresql://user:password@host:5432/name?sslmode=require`.
///
/// # Errors
/// When it is no such URL, or can't be carried over.
pub fn from_url(text: &str) -> Result<Connection, Refused> {
    let form = "is not the URL of a database, such as postgresql://user:password@host:5432/name (percent-encode \
                `@`, `/`, `#` and the like in the password)";
    let invalid = || Refused::Invalid(form.to_owned());
    let (scheme, rest) = text.trim().split_once(':').ok_or_else(invalid)?;
    if scheme.eq_ignore_ascii_case("mongodb+srv") {
        return Err(Refused::NotCarried(
            "names no host but a DNS record; give the hosts as mongodb://".into(),
        ));
    }
    let database_type = type_of(scheme).ok_or_else(|| {
        let what =
            "begins with no scheme that is known: postgresql, redis, rediss, mysql, mariadb, mongodb, sqlite";
        // There are databases beyond these, and whoever has one has done nothing wrong.
        match rest.starts_with("//") {
            true => Refused::NotCarried(what.into()),
            false => Refused::Invalid(what.into()),
        }
    })?;
    if database_type == DatabaseType::Sqlite {
        return sqlite(rest);
    }
    let url = Url::parse(text.trim()).map_err(|_| invalid())?;
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) if !host.to_string().is_empty() => decoded(&host.to_string())?,
        _ => {
            return Err(Refused::NotCarried(
                "names no host; sockets of one machine can't be carried over".into(),
            ));
        }
    };
    let mut notes = Vec::new();
    let mut spec = DatabaseSpec {
        r#type: database_type.into(),
        host,
        port: url.port().map(u32::from).unwrap_or_default(),
        database: decoded(url.path().trim_start_matches('/'))?,
        user: decoded(url.username())?,
        password: url.password().map(decoded).transpose()?.and_then(|text| password(text, &mut notes)),
        ..DatabaseSpec::default()
    };
    if scheme.eq_ignore_ascii_case("rediss") {
        // What clients of Redis do with this scheme by default.
        spec.tls_mode = DatabaseTlsMode::VerifyFull.into();
    }
    for (name, value) in url.query_pairs() {
        option(&mut spec, &name, &value, &mut notes)?;
    }
    fill_tls(&mut spec, &mut notes);
    Ok(Connection { spec, notes })
}

/// Reads a connection from the variables of libpq.
///
/// # Errors
/// The variable that is wrong, or that keeps the connection from being carried over, and why.
pub fn from_pg<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Connection, (&'static str, Refused)> {
    let text = |name: &str| get(name).unwrap_or_default().to_owned();
    let host = text("PGHOST");
    if host.is_empty() || host.starts_with(['/', '@']) {
        let why = "names no host, so that a socket of one machine is meant, which can't be carried over";
        return Err(("PGHOST", Refused::NotCarried(why.into())));
    }
    let number = |name: &'static str, what: &str| match get(name) {
        None | Some("") => Ok(0),
        Some(number) => number.parse::<u32>().map_err(|_| (name, Refused::Invalid(what.to_owned()))),
    };
    let mut notes = Vec::new();
    let mut spec = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host,
        port: number("PGPORT", "is not the number of a port")?,
        database: text("PGDATABASE"),
        user: text("PGUSER"),
        password: password(text("PGPASSWORD"), &mut notes),
        ..DatabaseSpec::default()
    };
    for (variable, name) in [
        ("PGSSLMODE", "sslmode"),
        ("PGAPPNAME", "application_name"),
        ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ] {
        if let Some(value) = get(variable).filter(|value| !value.is_empty()) {
            option(&mut spec, name, value, &mut notes).map_err(|refused| (variable, refused))?;
        }
    }
    fill_tls(&mut spec, &mut notes);
    Ok(Connection { spec, notes })
}

/// A password. One that only refers to where it is, which nobody has resolved, is none: it is MISSING, and told.
fn password(value: String, notes: &mut Vec<String>) -> Option<Secret> {
    if !providers::is_reference(&value) {
        return secret(value);
    }
    notes.push("its password is a reference that nothing has resolved: it is MISSING until it is set".into());
    Some(Secret { value: None, state: State::Missing.into() })
}

/// A secret with this value; none where there is no value.
#[must_use]
pub fn secret(value: String) -> Option<Secret> {
    (!value.is_empty()).then_some(Secret { value: Some(value), state: 0 })
}

/// Where nothing was said of TLS, takes what the clients of that database do then, so that the connection works as it did,
/// and says so. A loopback address is left to the kind.
pub fn fill_tls(spec: &mut DatabaseSpec, notes: &mut Vec<String>) {
    let said = spec.tls_mode != i32::from(DatabaseTlsMode::Unspecified);
    if said || is_loopback(&spec.host) {
        return;
    }
    let (mode, note) = match spec.r#type() {
        DatabaseType::Redis | DatabaseType::Mongodb => (
            DatabaseTlsMode::Disabled,
            "so that there is none, as before; set `tls_mode` if it can be encrypted",
        ),
        DatabaseType::Postgresql | DatabaseType::Mysql | DatabaseType::Mariadb => (
            DatabaseTlsMode::Preferred,
            "so that it is used where the server offers it, as before; set `tls_mode` to require it",
        ),
        // What its clients do is not known.
        DatabaseType::Other => (
            DatabaseTlsMode::Required,
            "so that it is required from now on; set `tls_mode` if it is not there",
        ),
        DatabaseType::Sqlite | DatabaseType::Unspecified => return,
    };
    spec.tls_mode = mode.into();
    notes.push(format!("says nothing of TLS, {note}"));
}

fn sqlite(rest: &str) -> Result<Connection, Refused> {
    let path = rest.strip_prefix("///").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return Err(Refused::NotCarried("names no file".into()));
    }
    let spec = DatabaseSpec {
        r#type: DatabaseType::Sqlite.into(),
        database: decoded(path)?,
        ..DatabaseSpec::default()
    };
    Ok(Connection { spec, notes: Vec::new() })
}

fn decoded(text: &str) -> Result<String, Refused> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refused::Invalid("holds percent-encoded bytes that are not UTF-8".into()))
}

/// Takes one parameter of a URL's query.
fn option(spec: &mut DatabaseSpec, name: &str, value: &str, notes: &mut Vec<String>) -> Result<(), Refused> {
    match name.to_ascii_lowercase().replace(['_', '-'], "").as_str() {
        "sslmode" | "tlsmode" => spec.tls_mode = tls_mode(value)?.into(),
        "ssl" | "tls" | "usessl" => {
            let on = matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "require" | "on");
            spec.tls_mode = if on { DatabaseTlsMode::Required } else { DatabaseTlsMode::Disabled }.into();
        }
        "connecttimeout" => match value.parse::<u16>() {
            Ok(0) => notes.push("waits for ever to connect, which is 10 s from now on".into()),
            Ok(seconds) => {
                let timeout = prost_types::Duration { seconds: seconds.into(), nanos: 0 };
                let pool: &mut DatabasePool = spec.pool.get_or_insert_default();
                pool.connect_timeout = Some(timeout);
            }
            Err(_) => return Err(Refused::Invalid(format!("has a `{name}` that is no number of seconds"))),
        },
        _ => further_option(spec, name, value, notes),
    }
    Ok(())
}

fn tls_mode(word: &str) -> Result<DatabaseTlsMode, Refused> {
    match word.to_ascii_lowercase().replace('_', "-").as_str() {
        "disable" | "disabled" => Ok(DatabaseTlsMode::Disabled),
        "allow" | "prefer" | "preferred" => Ok(DatabaseTlsMode::Preferred),
        "require" | "required" => Ok(DatabaseTlsMode::Required),
        "verify-ca" => Ok(DatabaseTlsMode::VerifyCa),
        "verify-full" | "verify-identity" => Ok(DatabaseTlsMode::VerifyFull),
        _ => {
            let known = "disable, prefer, require, verify-ca or verify-full";
            Err(Refused::Invalid(format!("has a mode of TLS that is none of {known}")))
        }
    }
}

/// Takes an option that has no field of its own, in the clear or sealed as its kind wants it, or tells why not.
fn further_option(spec: &mut DatabaseSpec, name: &str, value: &str, notes: &mut Vec<String>) {
    let refusal = |spec: &DatabaseSpec| {
        let found = gather::violations("databases/x", &Spec::Database(spec.clone()));
        found.into_iter().find(|violation| violation.field.starts_with("database.options."))
    };
    let before = spec.options.clone();
    let plain = Some(Value::Plain(value.to_owned()));
    spec.options.insert(name.to_owned(), DatabaseOption { value: plain });
    let mut refused = refusal(spec);
    if refused.as_ref().is_some_and(|violation| violation.reason == "SECRET_REQUIRED") {
        let sealed = secret(value.to_owned()).map(Value::Secret);
        spec.options.insert(name.to_owned(), DatabaseOption { value: sealed });
        refused = refusal(spec);
    }
    if let Some(violation) = refused {
        spec.options = before;
        notes.push(format!("has the option `{}`, which {}", name.escape_debug(), violation.description));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Connection {
        from_url(url).unwrap_or_else(|refused| panic!("{url}: {refused:?}"))
    }

    #[test]
    fn urls() {
        let found = read(
            "postgresql+asyncpg://app:p%40ss@db.example.com:5433/main?sslmode=require&application_name=x",
        );
        assert_eq!(found.notes, [""; 0]);
        let spec = found.spec;
        assert_eq!(spec.r#type(), DatabaseType::Postgresql);
        assert_eq!((spec.host.as_str(), spec.port, spec.database.as_str()), ("db.example.com", 5433, "main"));
        assert_eq!(spec.password.as_ref().and_then(|secret| secret.value.as_deref()), Some("p@ss"));
        assert_eq!(spec.tls_mode(), DatabaseTlsMode::Required);
        assert_eq!(spec.options["application_name"].value, Some(Value::Plain("x".into())));

        let redis = read("rediss://:pw@cache:6380/3").spec;
        assert_eq!((redis.database.as_str(), redis.tls_mode()), ("3", DatabaseTlsMode::VerifyFull));
        assert_eq!(read("redis://[::1]:6379/0").spec.host, "::1");
        assert_eq!(read("sqlite:////var/lib/app.db").spec.database, "/var/lib/app.db");
        assert_eq!(read("sqlite:///app.db").spec.database, "app.db");
        assert_eq!(
            read("mysql://u@h/d?connect_timeout=5").spec.pool.unwrap().connect_timeout.unwrap().seconds,
            5
        );
    }

    #[test]
    fn what_changes_is_told() {
        assert!(read("postgres://db/main").notes[0].contains("TLS"));
        assert_eq!(read("postgres://localhost/main").notes, [""; 0]);
        let found = read("postgres://localhost/main?host=other&sslpassword=secret");
        assert_eq!(found.notes.len(), 1, "the host is not moved by an option");
        assert!(matches!(found.spec.options["sslpassword"].value, Some(Value::Secret(_))));
    }

    /// It was reached before, so it has to be reached afterwards.
    #[test]
    fn regression_a_connection_without_a_word_of_tls_works_as_it_did() {
        use DatabaseTlsMode::{Disabled, Preferred, Required, Unspecified, VerifyFull};
        for (url, mode, noted) in [
            ("redis://:pw@cache:6379/0", Disabled, true),
            ("valkey://cache", Disabled, true),
            ("rediss://cache", VerifyFull, false),
            ("mongodb://db/main", Disabled, true),
            ("postgresql://app@db/main", Preferred, true),
            ("postgresql://app@db/main?sslmode=require", Required, false),
            ("mysql://app@db/main", Preferred, true),
            ("mysql://app@db/main?ssl=false", Disabled, false),
            ("redis://localhost", Unspecified, false),
        ] {
            let found = read(url);
            assert_eq!(found.spec.tls_mode(), mode, "{url}");
            assert_eq!(
                found.notes.iter().any(|note| note.starts_with("says nothing of TLS")),
                noted,
                "{url}"
            );
        }
        let get = |name: &str| (name == "PGHOST").then_some("db");
        let found = from_pg(get).unwrap_or_else(|(name, refused)| panic!("{name}: {refused:?}"));
        assert_eq!((found.spec.tls_mode(), found.notes.len()), (Preferred, 1));
    }

    #[test]
    fn refusals_repeat_nothing() {
        for url in [
            "",
            "secret",
            "ftp:secret",
            "postgres://secret@h:port/x",
            "postgres://h/%ff",
            "mysql://h/?sslmode=secret",
        ] {
            let Err(Refused::Invalid(what)) = from_url(url) else { panic!("{url}") };
            assert!(!what.contains("secret"), "{what}");
        }
        for url in ["postgres:///db?host=/run", "mongodb+srv://h/db", "sqlite://:memory:", "mssql://h/db"] {
            assert!(matches!(from_url(url), Err(Refused::NotCarried(_))), "{url}");
        }
    }

    #[test]
    fn variables_of_libpq() {
        let given =
            [("PGHOST", "db"), ("PGPORT", "5433"), ("PGPASSWORD", "pw"), ("PGSSLMODE", "verify-full")];
        let get = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let found = from_pg(get).unwrap_or_else(|(name, refused)| panic!("{name}: {refused:?}"));
        assert_eq!((found.spec.port, found.spec.tls_mode()), (5433, DatabaseTlsMode::VerifyFull));
        let port = |name: &str| if name == "PGPORT" { Some("x") } else { get(name) };
        assert!(matches!(from_pg(port), Err(("PGPORT", Refused::Invalid(_)))));
        assert!(matches!(from_pg(|_| None), Err(("PGHOST", Refused::NotCarried(_)))));
    }
}
