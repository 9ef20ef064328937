//! Connections to databases: `databases/{id}`.
//!
//! Must not know how a connection is made; it sees to what a driver is told, and that a stored password goes only where it
//! was saved for.

use std::{collections::BTreeMap, time::Duration};

use super::{
    CheckContext, Kind, SecretInput, credential, put_out,
    rules::{
        DESCRIPTION_CHARS, NAME_CHARS, check_duration, check_not_moved, host_problem, is_loopback, shown,
        unknown_value,
    },
    switched,
};
use crate::{
    domain::{
        Action, FeatureLevel, FieldPath, FieldViolation, KindName, ResourceName, Text, Violations,
        record::Spec,
    },
    proto::v1::{
        DatabaseOption, DatabasePool, DatabaseSpec, DatabaseTlsMode, DatabaseType, database_option::Value,
        secret::State,
    },
    setting_key,
};

/// The kind `database`.
pub struct Database;

const DATABASE_CHARS: usize = 1024;
const PASSWORD_BYTES: usize = 1024;
const MAX_OPTIONS: usize = 64;
const OPTION_CHARS: usize = 1024;
const MAX_CONNECTIONS: u32 = 10_000;
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(600));
const LIVES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// Options that say the same as a field: their names in lower case without `_` and `-`, and the field.
const OWN_FIELDS: [(&str, &[&str]); 6] = [
    ("host", &["host", "hosts", "hostname", "hostaddr", "server", "servers", "address", "endpoint"]),
    ("port", &["port"]),
    ("database", &["database", "dbname", "db"]),
    ("user", &["user", "username", "uid"]),
    ("password", &["password", "passwd", "pwd", "pass"]),
    (
        "tls_mode",
        &[
            "ssl",
            "sslmode",
            "tls",
            "tlsmode",
            "usessl",
            "requiressl",
            "encrypt",
            "tlsinsecure",
            "tlsallowinvalidcertificates",
            "tlsallowinvalidhostnames",
            "trustservercertificate",
        ],
    ),
];

/// Options that lead the connection elsewhere, or have it read its credentials from somewhere, in the same spelling.
const DETOURS: [&str; 20] = [
    "dsn",
    "passfile",
    "proxy",
    "proxyport",
    "service",
    "servicefile",
    "socket",
    "srvservicename",
    "unixsocket",
    "unixsocketpath",
    "uri",
    "sentinels",
    "sentinel",
    "clusternodes",
    "nodes",
    "sslfactory",
    "socketfactory",
    "failoverpartner",
    "allowloadlocalinfile",
    "autodeserialize",
];
/// Parts of the names of such options, in the same spelling.
const DETOUR_PARTS: [&str; 4] = ["host", "url", "socks", "sentinel"];

/// Options of well-known drivers that don't touch who may learn a password, in the same spelling. Any other one may say how a
/// server is known, how a connection is kept from others, or how the password is shown to the server.
const HARMLESS: [&str; 40] = [
    "applicationname",
    "appname",
    "clientname",
    "clientencoding",
    "charset",
    "characterset",
    "collation",
    "timezone",
    "searchpath",
    "datestyle",
    "connecttimeout",
    "connecttimeoutms",
    "connectiontimeout",
    "logintimeout",
    "readtimeout",
    "writetimeout",
    "sockettimeout",
    "sockettimeoutms",
    "statementtimeout",
    "locktimeout",
    "idleintransactionsessiontimeout",
    "tcpusertimeout",
    "tcpkeepalive",
    "keepalives",
    "keepalivesidle",
    "keepalivesinterval",
    "keepalivescount",
    "healthcheckinterval",
    "retryonerror",
    "retryreads",
    "retrywrites",
    "readpreference",
    "readconcernlevel",
    "journal",
    "w",
    "wtimeoutms",
    "preparethreshold",
    "statementcachesize",
    "autocommit",
    "targetsessionattrs",
];

impl Kind for Database {
    fn name(&self) -> KindName {
        KindName("database")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["databases/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        let Spec::Database(spec) = spec else { return };
        spec.enabled.get_or_insert(true);
        if spec.port == 0 {
            spec.port = default_port(spec.r#type()).unwrap_or_default();
        }
        if has_host(spec) && spec.tls_mode == i32::from(DatabaseTlsMode::Unspecified) {
            let local = is_loopback(&spec.host);
            spec.tls_mode = if local { DatabaseTlsMode::Disabled } else { DatabaseTlsMode::Required }.into();
        }
        let pool = spec.pool.get_or_insert_default();
        pool.max_connections.get_or_insert(10);
        pool.connect_timeout.get_or_insert(seconds(10));
        pool.acquire_timeout.get_or_insert(seconds(30));
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Database(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.text("database.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("database.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        check_type(spec, &mut violations);
        check_place(spec, &mut violations);
        check_database(spec, &mut violations);
        violations.text("database.user", &spec.user, Text::Line, NAME_CHARS);
        check_password(context, &mut violations);
        check_options(context, spec, &mut violations);
        check_pool(&spec.pool.unwrap_or_default(), &mut violations);
        if spec.r#type() == DatabaseType::Sqlite {
            check_is_file(context, spec, &mut violations);
        }
        check_moved(context, spec, &mut violations);
        violations.into_vec()
    }

    fn revoker(&self) -> Option<fn(&str, Option<&Spec>) -> bool> {
        Some(|action, after| put_out(action, after.map(is_enabled)))
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::Database(spec) = after else { return Vec::new() };
        let open = matches!(spec.tls_mode(), DatabaseTlsMode::Disabled | DatabaseTlsMode::Preferred);
        let secret = spec.password.as_ref().is_some_and(|password| password.state() != State::Absent);
        let exposed = open && secret && has_host(spec) && !is_loopback(&spec.host);
        let warning = "`tls_mode` lets the password go over the network in the clear";
        exposed.then(|| warning.to_owned()).into_iter().collect()
    }
}

/// The port of a type, where it has one.
#[must_use]
pub fn default_port(database_type: DatabaseType) -> Option<u32> {
    match database_type {
        DatabaseType::Postgresql => Some(5432),
        DatabaseType::Redis => Some(6379),
        DatabaseType::Mysql | DatabaseType::Mariadb => Some(3306),
        DatabaseType::Mongodb => Some(27017),
        DatabaseType::Sqlite | DatabaseType::Other | DatabaseType::Unspecified => None,
    }
}

fn has_host(spec: &DatabaseSpec) -> bool {
    spec.r#type() != DatabaseType::Sqlite
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn check_type(spec: &DatabaseSpec, violations: &mut Violations) {
    match DatabaseType::try_from(spec.r#type) {
        Ok(DatabaseType::Unspecified) => violations.add(
            "database.type",
            "REQUIRED",
            "is required, for example DATABASE_TYPE_POSTGRESQL, or DATABASE_TYPE_OTHER for anything else",
        ),
        Ok(_) => {}
        Err(_) => violations.add("database.type", "UNKNOWN_VALUE", unknown_value(spec.r#type)),
    }
    if DatabaseTlsMode::try_from(spec.tls_mode).is_err() {
        violations.add("database.tls_mode", "UNKNOWN_VALUE", unknown_value(spec.tls_mode));
    }
}

fn check_place(spec: &DatabaseSpec, violations: &mut Violations) {
    let known = spec.r#type() != DatabaseType::Unspecified;
    if spec.host.is_empty() {
        if known && has_host(spec) {
            violations.add("database.host", "REQUIRED", "is required, for example `db.example.com`");
        }
    } else if let Some(problem) = host_problem(&spec.host) {
        violations.add("database.host", "INVALID_FORMAT", problem);
    }
    if spec.port > u32::from(u16::MAX) {
        violations.add("database.port", "OUT_OF_RANGE", "must be from 1 to 65535");
    } else if spec.port == 0 && known && has_host(spec) {
        violations.add("database.port", "REQUIRED", "is required for this type, from 1 to 65535");
    }
}

fn check_database(spec: &DatabaseSpec, violations: &mut Violations) {
    let (path, database) = ("database.database", &spec.database);
    violations.text(path, database, Text::Line, DATABASE_CHARS);
    match spec.r#type() {
        DatabaseType::Sqlite if database.is_empty() => {
            violations.add(path, "REQUIRED", "is required for SQLite: the path of the file");
        }
        DatabaseType::Redis if !database.is_empty() && database.parse::<u16>().is_err() => {
            violations.add(path, "INVALID_FORMAT", "must be a number for Redis, for example `0`");
        }
        DatabaseType::Sqlite => {}
        _ if database.contains(['=', '?']) || database.contains("://") => {
            let problem = "must be the plain name of a database, without `=`, `?` and `://`; say where it is with `host` \
                and `port`, and all else with `options`";
            violations.add(path, "INVALID_FORMAT", problem);
        }
        _ => {}
    }
}

fn check_password(context: &CheckContext<'_>, violations: &mut Violations) {
    let path = "database.password";
    let Some(SecretInput::Replace(value)) = context.secrets.get(&FieldPath(path.into())) else { return };
    if value.len() > PASSWORD_BYTES {
        let length = value.len();
        violations.add(path, "TOO_LONG", format!("has {length} bytes; at most {PASSWORD_BYTES} are allowed"));
    }
    // A line feed at its end is the commonest slip. What is wrong with every secret, the engine says.
    if value.chars().any(|letter| letter.is_control() && letter != '\0') {
        violations.add(path, "FORBIDDEN_CHARACTER", "holds a line break or control character; remove it");
    }
}

fn check_options(context: &CheckContext<'_>, spec: &DatabaseSpec, violations: &mut Violations) {
    violations.at_most("database.options", spec.options.len(), MAX_OPTIONS, "options");
    for (name, option) in spec.options.iter().take(MAX_OPTIONS) {
        let path = format!("database.options.{}", shown(name));
        if let Some(problem) = option_name_problem(name) {
            violations.add(&path, "NOT_ALLOWED", problem);
            continue;
        }
        let secret = FieldPath(format!("database.options.{name}.secret"));
        check_option(name, option, &path, context.secrets.get(&secret), violations);
    }
}

fn option_name_problem(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
        return Some(
            "has a name that is not allowed; names are letters, digits, `_` and `-`, at most 128".into(),
        );
    }
    let plain = in_one_word(name);
    if let Some((field, _)) = OWN_FIELDS.iter().find(|(_, names)| names.contains(&plain.as_str())) {
        return Some(format!("has a field of its own; set `{field}` instead"));
    }
    let leads = DETOURS.contains(&plain.as_str()) || DETOUR_PARTS.iter().any(|part| plain.contains(part));
    leads.then(|| {
        "leads the connection elsewhere; say where it goes with `host`, `port` and `database`".into()
    })
}

fn in_one_word(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '-'], "")
}

/// The options that may decide who learns a password, with their values; that of a sealed one is none.
fn guards(spec: &DatabaseSpec) -> BTreeMap<&str, Option<&str>> {
    let is_guard = |(name, option): &(&String, &DatabaseOption)| match option.value {
        Some(Value::Secret(_)) => !carries_credentials(name),
        Some(Value::Plain(_)) | None => !HARMLESS.contains(&in_one_word(name).as_str()),
    };
    let options = spec.options.iter().filter(is_guard);
    options
        .map(|(name, option)| match &option.value {
            Some(Value::Plain(value)) => (name.as_str(), Some(value.as_str())),
            Some(Value::Secret(_)) | None => (name.as_str(), None),
        })
        .collect()
}

/// The name of an option that may decide who learns a password, and that is another one than before.
fn changed_guard<'s>(before: &'s DatabaseSpec, after: &'s DatabaseSpec) -> Option<&'s str> {
    let (before, after) = (guards(before), guards(after));
    let differs = |name: &&&str| before.get(**name) != after.get(**name);
    before.keys().chain(after.keys()).find(differs).copied()
}

fn check_option(
    name: &str,
    option: &DatabaseOption,
    path: &str,
    secret: Option<&SecretInput>,
    violations: &mut Violations,
) {
    match (&option.value, secret) {
        (None, _) => violations.add(path, "REQUIRED", "has no value; set `plain` or `secret`"),
        (Some(Value::Plain(value)), _) if carries_credentials(name) || shows_credentials(value) => violations
            .add(
                format!("{path}.plain"),
                "SECRET_REQUIRED",
                "must not be set, because the option carries credentials; set `secret` instead",
            ),
        (Some(Value::Plain(value)), _) => {
            violations.text(&format!("{path}.plain"), value, Text::Value, OPTION_CHARS);
        }
        (Some(Value::Secret(secret)), _) if secret.state() == State::Absent => violations.add(
            format!("{path}.secret"),
            "REQUIRED",
            "has no value; give one, or remove the option",
        ),
        (Some(Value::Secret(_)), Some(SecretInput::Replace(value))) if value.len() > PASSWORD_BYTES => {
            let length = value.len();
            let problem = format!("has {length} bytes; at most {PASSWORD_BYTES} are allowed");
            violations.add(format!("{path}.secret"), "TOO_LONG", problem);
        }
        (Some(Value::Secret(_)), _) => {}
    }
}

/// Whether an option's name says that its value is a secret. Drivers write names in one word too: `sslpassword`.
fn carries_credentials(name: &str) -> bool {
    let normal = setting_key::normalise(name);
    let endings = ["password", "passphrase", "passwd", "pass", "pwd", "secret", "token", "credentials"];
    setting_key::is_secret(&normal) || endings.iter().any(|ending| normal.ends_with(ending))
}

/// Whether an option's value shows one, alone or among the words that a server is given, as `-c password=x` and
/// `SET PASSWORD = 'x'` do.
fn shows_credentials(value: &str) -> bool {
    let joined = value.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    credential::found_in(value).is_some()
        || joined.split([' ', '\t', ',', ';', '&']).any(|word| credential::found_in(word).is_some())
        || value.to_ascii_lowercase().contains("identified by")
}

fn check_pool(pool: &DatabasePool, violations: &mut Violations) {
    let most = pool.max_connections.unwrap_or(MAX_CONNECTIONS);
    if !(1..=MAX_CONNECTIONS).contains(&most) {
        let problem = format!("must be from 1 to {MAX_CONNECTIONS}");
        violations.add("database.pool.max_connections", "OUT_OF_RANGE", problem);
    } else if pool.min_connections > most {
        let problem = format!("must be at most `max_connections`, which is {most}");
        violations.add("database.pool.min_connections", "OUT_OF_RANGE", problem);
    }
    check_duration("database.pool.connect_timeout", pool.connect_timeout, WAITS, violations);
    check_duration("database.pool.acquire_timeout", pool.acquire_timeout, WAITS, violations);
    check_duration("database.pool.idle_timeout", pool.idle_timeout, LIVES, violations);
    check_duration("database.pool.max_lifetime", pool.max_lifetime, LIVES, violations);
}

/// A file has nothing to connect to.
fn check_is_file(context: &CheckContext<'_>, spec: &DatabaseSpec, violations: &mut Violations) {
    let password = context.secrets.get(&FieldPath("database.password".into()));
    let given = [
        ("host", !spec.host.is_empty()),
        ("port", spec.port != 0),
        ("user", !spec.user.is_empty()),
        ("password", password.is_some_and(|input| *input != SecretInput::Clear)),
        ("tls_mode", spec.tls_mode != i32::from(DatabaseTlsMode::Unspecified)),
    ];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        let problem = "must be left out, because SQLite is a file on the worker's own machine";
        violations.add(format!("database.{field}"), "NOT_ALLOWED", problem);
    }
}

/// A stored secret goes only to the server that it was saved for, and no more openly than it was.
fn check_moved(context: &CheckContext<'_>, spec: &DatabaseSpec, violations: &mut Violations) {
    let Some(Spec::Database(before)) = context.before else { return };
    let changes = [
        ("type", before.r#type != spec.r#type),
        ("host", before.host != spec.host),
        ("port", before.port != spec.port),
        // The modes are in the order of their strength.
        ("tls_mode", spec.tls_mode < before.tls_mode),
    ];
    if let Some((field, _)) = changes.iter().find(|(_, changed)| *changed) {
        return check_not_moved(context, field, violations);
    }
    if let Some(name) = changed_guard(before, spec) {
        check_not_moved(context, &format!("options.{}", shown(name)), violations);
    }
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::Database(spec) if spec.enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests;
