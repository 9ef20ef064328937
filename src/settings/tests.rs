//! Precedence, checks and complaints.

use std::{collections::BTreeSet, ffi::OsString, fs, path::PathBuf, time::Duration};

use super::{options::Opt, *};
use crate::domain::Role;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn load(flags: &[(&'static str, &str)], env: Pairs<'_>) -> Result<Settings, String> {
    let flags: Flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Settings::load(&flags, &Environment::of(env.iter().copied())).map_err(|problems| problems.to_string())
}

fn complaints(env: Pairs<'_>) -> String {
    load(&[], env).expect_err("these settings are wrong")
}

fn file(content: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.toml");
    fs::write(&path, content).unwrap();
    (dir, path.to_str().unwrap().to_owned())
}

#[test]
fn nothing_has_to_be_set() {
    let settings = load(&[], &[]).unwrap();
    assert_eq!(settings.listen.address.to_string(), "127.0.0.1:50051");
    assert_eq!(settings.listen.health, None);
    assert_eq!(settings.store.database, Database::Sqlite(PathBuf::from("data/signalbox.db")));
    assert_eq!(settings.store.retention, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(settings.keys.dir, PathBuf::from("data"));
    assert_eq!(settings.jwt.key, JwtKey::Generated);
    assert_eq!(settings.limits.accept_backlog, 4096);
    assert!(settings.store.starters && settings.tls.is_none());
}

#[test]
fn a_flag_goes_before_the_environment_before_the_file() {
    let (_dir, path) =
        file("[listen]\naddress = '127.0.0.1:3'\n[limits]\nmax_streams = 7\n[store]\ndata_dir = 'there'");
    let address = |settings: Settings| settings.listen.address.port();
    let env: Pairs<'_> = &[("SIGNALBOX_CONFIG", &path), ("SIGNALBOX_LISTEN", "127.0.0.1:2")];
    assert_eq!(address(load(&[("listen", "127.0.0.1:1")], env).unwrap()), 1);
    assert_eq!(address(load(&[], env).unwrap()), 2);
    let from_file = load(&[("config", &path)], &[("SIGNALBOX_LISTEN", "")]).unwrap();
    assert_eq!(from_file.limits.max_streams, 7);
    assert_eq!(from_file.store.database, Database::Sqlite(PathBuf::from("there/signalbox.db")));
    assert_eq!(address(from_file), 3, "an empty variable counts as unset");
}

#[test]
fn the_file_takes_only_what_is_known() {
    let (_dir, path) = file(
        "[listen]\nadress = 'x'\n[limitz]\nmax_streams = 1\n[keys]\nencryption_key = 'abc'\n[foo]\nbar = 1",
    );
    let text = complaints(&[("SIGNALBOX_CONFIG", &path)]);
    assert!(
        text.contains("`listen.adress` in the settings file: is not a setting; there are listen.address"),
        "{text}"
    );
    assert!(text.contains("did you mean `limits.max_streams`?"), "{text}");
    assert!(text.contains("`keys.encryption_key`"), "{text}");
    assert!(text.contains("the sections are listen, store"), "{text}");
    assert!(!text.contains("abc"), "{text}");
    let (_dir, path) = file("[listen\npassword-that-slipped-in");
    let text = complaints(&[("SIGNALBOX_CONFIG", &path)]);
    assert!(text.contains("line 1 is not TOML") && !text.contains("slipped"), "{text}");
    assert!(complaints(&[("SIGNALBOX_CONFIG", "/no/such")]).contains("/no/such: can't be read"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = complaints(&[
        ("SIGNALBOX_LISTEN", "somewhere"),
        ("SIGNALBOX_DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("SIGNALBOX_MAX_STREAMS", "0"),
        ("SIGNALBOX_LOG_FORMAT", "xml"),
        ("ENCRYPTION_PASSWORD", "tiny77"),
        ("SIGNALBOX_JWT_LEEWAY", "1h"),
    ]);
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(!text.contains("hunter2") && !text.contains("tiny77"), "{text}");
}

#[test]
fn every_complaint_names_the_option_and_what_would_be_right() {
    let cases: &[(Pairs<'_>, &str)] = &[
        (
            &[("SIGNALBOX_LISTEN", "50051")],
            "--listen (SIGNALBOX_LISTEN, listen.address in the file): `50051` is not an",
        ),
        (&[("SIGNALBOX_LISTEN", "0.0.0.0:1")], "say --allow-plaintext"),
        (
            &[("SIGNALBOX_LISTEN", "127.0.0.1:5"), ("SIGNALBOX_HEALTH_LISTEN", "127.0.0.1:5")],
            "give another port",
        ),
        (&[("SIGNALBOX_ALLOW_PLAINTEXT", "maybe")], "`maybe` is neither true nor false"),
        (&[("SIGNALBOX_REFLECTION", "never")], "`never` is none of on, off, auto"),
        (&[("SIGNALBOX_DATA_DIR", "Cargo.toml")], "Cargo.toml is a file; give a directory"),
        (&[("SIGNALBOX_KEY_DIR", "Cargo.toml")], "Cargo.toml is a file; give a directory"),
        (
            &[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@h/d")],
            "without TLS password and configuration would cross the network in the clear",
        ),
        (&[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@[h/d")], "is not a URL"),
        (&[("SIGNALBOX_DATABASE_URL", "postgres:///d?user=u&password=hunter2")], "names no host"),
        (
            &[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@h/d?sslmode=always")],
            "an sslmode that is none of",
        ),
        (&[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@localhost/d?ssl=on")], "a parameter `ssl`"),
        (&[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@a:1,b:2/d")], "names several hosts"),
        (
            &[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@a,b/d?sslmode=verify-full")],
            "names several hosts",
        ),
        (
            &[("SIGNALBOX_DATABASE_URL", "postgres://u:hunter2@a/d?host=a,b&sslmode=verify-full")],
            "names several hosts",
        ),
        (&[("SIGNALBOX_DATABASE_URL", "mysql://u:hunter2@h/d")], "give sqlite://PATH"),
        (&[("SIGNALBOX_DATABASE_URL", "sqlite::memory:")], "outlives the process"),
        (&[("SIGNALBOX_DATABASE_URL", "sqlite://a.db?mode=ro")], "takes no parameters"),
        (&[("SIGNALBOX_DATABASE_URL", "sqlite://src")], "src is a directory; give a file"),
        (
            &[("SIGNALBOX_RETENTION", "1s")],
            "--retention (SIGNALBOX_RETENTION, store.retention in the file): 1s is out of range",
        ),
        (&[("SIGNALBOX_RETENTION", "long")], "`long` is not a length of time"),
        (&[("ENCRYPTION_KEY_FILE", "/no/such")], "/no/such can't be read"),
        (&[("ENCRYPTION_KEY", "")], "ENCRYPTION_KEY: is set but empty"),
        (&[("ENCRYPTION_PASSWORD", "elevenchars")], "ENCRYPTION_PASSWORD: is too short; give at least 12"),
        (&[("SIGNALBOX_JWT_SECRET", "tooshort")], "SIGNALBOX_JWT_SECRET: is too short; give at least 32"),
        (&[("SIGNALBOX_JWT_SECRET_FILE", "/no/such")], "--jwt-secret-file"),
        (&[("SIGNALBOX_JWT_PUBLIC_KEY_FILE", "src")], "src is a directory; give a file"),
        (&[("SIGNALBOX_JWT_JWKS_FILE", "/no/such")], "--jwt-jwks-file"),
        (
            &[("SIGNALBOX_JWT_JWKS_FILE", "a"), ("SIGNALBOX_JWT_PUBLIC_KEY_FILE", "b")],
            "is given together with SIGNALBOX_JWT_JWKS_FILE",
        ),
        (
            &[("SIGNALBOX_JWT_ISSUER", " ")],
            "--jwt-issuer (SIGNALBOX_JWT_ISSUER, jwt.issuer in the file): must not be",
        ),
        (&[("SIGNALBOX_JWT_AUDIENCE", " ")], "must not be empty"),
        (&[("SIGNALBOX_JWT_ROLE_CLAIM", "realm..roles")], "must be names joined by dots"),
        (&[("SIGNALBOX_JWT_ROLE_MAP", "ops=admin,dev=god")], "`dev=god` is not VALUE=ROLE"),
        (&[("SIGNALBOX_JWT_LEEWAY", "6m")], "6m is out of range; give 0s to 5m"),
        (&[("SIGNALBOX_JWT_PRINCIPAL_MAP_FILE", "/no/such")], "--jwt-principal-map-file"),
        (&[("SIGNALBOX_TLS_CERT_FILE", "Cargo.toml")], "--tls-key-file"),
        (&[("SIGNALBOX_TLS_KEY_FILE", "Cargo.toml")], "--tls-cert-file"),
        (&[("SIGNALBOX_TLS_CLIENT_CA_FILE", "Cargo.toml")], "TLS needs both"),
        (&[("SIGNALBOX_TLS_CERT_FILE", "/no/c"), ("SIGNALBOX_TLS_KEY_FILE", "/no/k")], "/no/k can't be read"),
        (&[("SIGNALBOX_MAX_STREAMS_PER_IDENTITY", "-1")], "`-1` is not a whole number"),
        (&[("SIGNALBOX_MAX_STREAMS_PER_CONNECTION", "0")], "give 1 to 1000000"),
        (&[("SIGNALBOX_MAX_CONNECTIONS", "0")], "--max-connections"),
        (&[("SIGNALBOX_ACCEPT_BACKLOG", "70000")], "give 1 to 65535"),
        (&[("SIGNALBOX_MAX_REQUEST_BYTES", "1KiB")], "1KiB is out of range; give 512KiB to 16MiB"),
        (&[("SIGNALBOX_MAX_RESPONSE_BYTES", "1MB")], "`1MB` is not a size"),
        (&[("SIGNALBOX_HEADER_LIST_BYTES", "8KiB")], "give 10KiB to 1MiB"),
        (&[("SIGNALBOX_LOG_RING_BYTES", "64")], "--log-ring-bytes"),
        (&[("SIGNALBOX_KEEPALIVE_INTERVAL", "0s")], "--keepalive-interval"),
        (&[("SIGNALBOX_KEEPALIVE_TIMEOUT", "10m")], "--keepalive-timeout"),
        (&[("SIGNALBOX_HANDSHAKE_TIMEOUT", "0s")], "--handshake-timeout"),
        (&[("SIGNALBOX_REQUEST_TIMEOUT", "1h")], "--request-timeout"),
        (&[("SIGNALBOX_CONNECTION_MAX_AGE", "1s")], "--connection-max-age"),
        (&[("SIGNALBOX_CONNECTION_AGE_JITTER", "1h")], "more than half of --connection-max-age"),
        (
            &[("RUST_LOG", "a=b=c")],
            "--log-filter (RUST_LOG, log.filter in the file): `a=b=c` is not a filter",
        ),
        (&[("SIGNALBOX_SHUTDOWN_DEADLINE", "1h")], "--shutdown-deadline"),
        (&[("SIGNALBOX_SHUTDOWN_GRACE", "10s")], "must be less than --shutdown-deadline"),
        (&[("SIGNALBOX_SHUTDOWN_DELAY", "5s")], "--shutdown-delay (SIGNALBOX_SHUTDOWN_DELAY"),
    ];
    for (env, expected) in cases {
        let text = complaints(env);
        assert!(text.contains(expected), "{env:?} gave: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let env = Environment::of([("ENCRYPTION_PASSWORD", OsString::from_vec(vec![0xff; 20]))]);
    let problems = Settings::load(&Flags::new(), &env).unwrap_err();
    assert_eq!(problems.to_string(), "ENCRYPTION_PASSWORD: is not valid UTF-8");
}

#[test]
fn no_secret_can_be_printed() {
    let secrets = ["a-key-that-seals", "a-password-that-seals", "a-secret-that-signs-tokens-for-all-of-us"];
    let env: Pairs<'_> = &[
        ("ENCRYPTION_KEY", secrets[0]),
        ("ENCRYPTION_PASSWORD", secrets[1]),
        ("SIGNALBOX_JWT_SECRET", secrets[2]),
    ];
    let settings = load(&[], env).unwrap();
    let shown = format!("{settings:?} {settings:#?} {:?}", settings.warnings());
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    assert_eq!(settings.keys.encryption_key.unwrap().expose(), secrets[0]);
}

#[test]
fn databases_are_named_by_url() {
    let path = |url| match load(&[("database-url", url)], &[]).unwrap().store.database {
        Database::Sqlite(path) => path.to_str().unwrap().to_owned(),
        Database::Postgres(url) => panic!("{url:?}"),
    };
    assert_eq!(path("sqlite://data/x.db"), "data/x.db");
    assert_eq!(path("sqlite:///var/lib/x.db"), "/var/lib/x.db");
    assert_eq!(path("sqlite:x.db"), "x.db");
}

#[test]
fn a_database_beyond_this_machine_needs_tls() {
    let warnings = |url: &str, env: &[(&str, &str)]| {
        let settings = load(&[("database-url", url)], env);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        settings.map(|settings| settings.store.warnings().len()).map_err(|problems| problems.lines().count())
    };
    for here in ["localhost", "127.0.0.1:5433", "[::1]", "%2Frun%2Fpostgresql"] {
        assert_eq!(warnings(&format!("postgres://u:hunter2@{here}/d"), &[]), Ok(0), "{here}");
    }
    assert_eq!(warnings("postgres:///d?host=/run/postgresql&user=u", &[]), Ok(0));
    assert_eq!(warnings("postgresql://u:hunter2@db/d", &[]), Err(1));
    assert_eq!(warnings("postgresql://u:hunter2@localhost/d?host=db", &[]), Err(1), "the parameter counts");
    assert_eq!(
        warnings("postgresql://u:hunter2@db/d", &[("SIGNALBOX_DATABASE_ALLOW_PLAINTEXT", "true")]),
        Ok(1)
    );
    assert_eq!(warnings("postgresql://u:hunter2@db/d?sslmode=require", &[]), Ok(1));
    let verified = "postgresql://u:hunter2@db/d?sslmode=verify-full&sslrootcert=";
    assert_eq!(warnings(&format!("{verified}Cargo.toml"), &[]), Ok(0), "what is in there the driver says");
    assert_eq!(warnings(&format!("{verified}-----BEGIN CERTIFICATE-----"), &[]), Ok(0));
}

#[test]
fn regression_what_an_address_of_the_database_lacks_is_told_with_what_to_do() {
    let problem = |url: &str| {
        let problems = load(&[("database-url", url)], &[]).unwrap_err();
        assert!(!problems.contains("hunter2"), "{problems}");
        problems
    };
    let timeout = problem("postgres://u:hunter2@localhost/d?connect_timeout=3");
    assert!(timeout.contains("leave it out: how long is waited is fixed"), "{timeout}");
    assert!(!timeout.contains("one host"), "{timeout}");
    let session = problem("postgres://u@localhost/d?target_session_attrs=primary");
    assert!(session.contains("one host, the one that a failover moves"), "{session}");
    for bare in ["hunter2%zzw", "hunter2%", "hunter2%4"] {
        let percent = problem(&format!("postgres://u:{bare}@localhost/d"));
        assert!(percent.contains("written as %25"), "{bare}: {percent}");
    }
    for nobody in ["postgres://localhost/d", "postgres:///d?host=/run/postgresql&user="] {
        let user = problem(nobody);
        assert!(user.contains("names no user") && user.contains("postgres://USER:PASSWORD@"), "{user}");
    }
    assert!(load(&[("database-url", "postgres://u:hunter2%25%40@localhost/d")], &[]).is_ok());
}

#[test]
fn regression_a_certificate_of_the_database_that_is_not_there_is_named() {
    let url = "postgresql://u:hunter2@db/d?sslmode=verify-full&sslrootcert=none.crt";
    let problems = load(&[("database-url", url)], &[]).unwrap_err();
    assert!(problems.contains("sslrootcert=none.crt") && !problems.contains("hunter2"), "{problems}");
}

#[test]
fn reflection_follows_the_listener() {
    let serves = |env: Pairs<'_>, tls| load(&[], env).unwrap().listen.serves_reflection(tls);
    let open: Pairs<'_> = &[("SIGNALBOX_LISTEN", "0.0.0.0:1"), ("SIGNALBOX_ALLOW_PLAINTEXT", "true")];
    assert!(serves(&[], false));
    assert!(!serves(open, false) && serves(open, true));
    assert!(serves(&[&[("SIGNALBOX_REFLECTION", "on")], open].concat(), false));
    assert!(!serves(&[("SIGNALBOX_REFLECTION", "off")], true));
}

#[test]
fn roles_can_be_mapped() {
    let settings = load(&[("jwt-role-map", "ops = admin, app=worker")], &[]).unwrap();
    assert_eq!(settings.jwt.role_map, [("ops".to_owned(), Role::Admin), ("app".to_owned(), Role::Worker)]);
}

#[test]
fn warnings_say_what_to_look_at() {
    let warnings = |env| load(&[], env).unwrap().warnings().join("\n");
    assert!(warnings(&[]).contains("give another --key-dir"));
    assert_eq!(warnings(&[("SIGNALBOX_KEY_DIR", "elsewhere")]), "");
    let both = warnings(&[("ENCRYPTION_KEY", "k"), ("ENCRYPTION_PASSWORD", "long enough for this")]);
    assert_eq!(
        both,
        "ENCRYPTION_KEY holds the current key; ENCRYPTION_PASSWORD only opens what it sealed before"
    );
    let old = warnings(&[
        ("CHIMERA_DB_PATH", "/x"),
        ("DB_ENCRYPTION_KEY", "seven-words"),
        ("SUPABASE_DB_HOST", "h"),
    ]);
    assert!(old.contains("CHIMERA_DB_PATH is set but not read any more; it is now SIGNALBOX_DATABASE_URL"));
    assert!(old.contains("it is now ENCRYPTION_PASSWORD") && old.contains("SUPABASE_DB_HOST"));
    assert!(!old.contains("seven-words"));
    let open = warnings(&[("SIGNALBOX_LISTEN", "[::]:1"), ("SIGNALBOX_ALLOW_PLAINTEXT", "yes")]);
    assert!(open.contains("without TLS"));
}

#[test]
fn no_two_options_share_a_name() {
    let names =
        |name: fn(&'static Opt) -> Option<&'static str>| options().filter_map(name).collect::<Vec<_>>();
    for names in [names(|option| option.flag), names(|option| Some(option.env)), names(|option| option.key)] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
