//! For every field of a database connection what is accepted, and what is refused under which path.

use super::*;
use crate::{
    kinds::{
        DISABLED, ENABLED, ROTATED,
        tests::{plan, secret, wrong},
    },
    proto::v1::Secret,
};

const NAME: &str = "databases/main";

fn spec(change: impl FnOnce(&mut DatabaseSpec)) -> Spec {
    let mut database = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host: "db.example.com".into(),
        password: Some(secret("hunter2")),
        ..Default::default()
    };
    change(&mut database);
    Spec::Database(database)
}

#[track_caller]
fn good(change: impl FnOnce(&mut DatabaseSpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut DatabaseSpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("database.{path}")]);
}

fn of(database_type: DatabaseType) -> impl FnOnce(&mut DatabaseSpec) {
    move |spec| spec.r#type = database_type.into()
}

fn option(name: &str, value: Value) -> impl FnOnce(&mut DatabaseSpec) {
    let name = name.to_owned();
    move |spec| drop(spec.options.insert(name, DatabaseOption { value: Some(value) }))
}

fn plain(text: &str) -> Value {
    Value::Plain(text.to_owned())
}

fn pool(change: impl FnOnce(&mut DatabasePool)) -> impl FnOnce(&mut DatabaseSpec) {
    move |spec| change(spec.pool.get_or_insert_default())
}

#[test]
fn defaults_follow_the_type() {
    for (database_type, port) in [
        (DatabaseType::Postgresql, 5432),
        (DatabaseType::Redis, 6379),
        (DatabaseType::Mysql, 3306),
        (DatabaseType::Mariadb, 3306),
        (DatabaseType::Mongodb, 27017),
    ] {
        let (Spec::Database(filled), violations) = plan(NAME, spec(of(database_type)), None) else {
            panic!()
        };
        assert_eq!(violations, []);
        assert_eq!((filled.port, filled.tls_mode()), (port, DatabaseTlsMode::Required));
        let pool = filled.pool.unwrap();
        assert_eq!((pool.max_connections, pool.connect_timeout), (Some(10), Some(seconds(10))));
        assert_eq!((filled.enabled, pool.idle_timeout), (Some(true), None));
    }
    for local in ["localhost", "db.localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "LOCALHOST."] {
        let (Spec::Database(filled), _) = plan(NAME, spec(|spec| spec.host = local.into()), None) else {
            panic!()
        };
        assert_eq!(filled.tls_mode(), DatabaseTlsMode::Disabled, "{local}");
    }
    bad("port", of(DatabaseType::Other));
    good(|spec| (spec.r#type, spec.port) = (DatabaseType::Other.into(), 1));
    good(|spec| (spec.port, spec.tls_mode) = (6432, DatabaseTlsMode::VerifyFull.into()));
}

#[test]
fn type_texts_and_switch() {
    bad("type", |spec| spec.r#type = 0);
    bad("type", |spec| (spec.r#type, spec.port) = (99, 1));
    bad("tls_mode", |spec| spec.tls_mode = 99);
    good(|spec| spec.display_name = "Main 🚀".into());
    bad("display_name", |spec| spec.display_name = "x".repeat(201));
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "a\0".into());
    good(|spec| spec.user = "app@tenant".into());
    bad("user", |spec| spec.user = "a\nb".into());
    good(|spec| spec.enabled = Some(false));
}

#[test]
fn hosts_and_ports() {
    for host in ["db", "my_db.internal", "a.example.", "10.0.0.1", "::1", "2001:db8::1", "1password.example"]
    {
        good(|spec| spec.host = host.into());
    }
    for host in [
        "",
        "a b",
        "https://a.example",
        "a.example:5432",
        "[::1]",
        "user:password@a.example",
        "a..b",
        "-a",
        "a,b",
        "1.2.3",
        "999.1.1.1",
        "ä.example",
        "a\n",
        "/var/run/postgresql",
        &"a".repeat(64),
        &"a.".repeat(127),
    ] {
        bad("host", |spec| spec.host = host.into());
    }
    good(|spec| spec.port = 65535);
    bad("port", |spec| spec.port = 65536);
}

#[test]
fn databases() {
    good(|spec| spec.database = "app-main".into());
    bad("database", |spec| spec.database = "a\0".into());
    bad("database", |spec| spec.database = "x".repeat(1025));
    let redis = |number: &str| {
        let number = number.to_owned();
        move |spec: &mut DatabaseSpec| (spec.r#type, spec.database) = (DatabaseType::Redis.into(), number)
    };
    good(redis("15"));
    bad("database", redis("main"));
    bad("database", redis("-1"));
}

#[test]
fn a_file_has_nothing_to_connect_to() {
    let file = |change: fn(&mut DatabaseSpec)| {
        let mut given = DatabaseSpec {
            r#type: DatabaseType::Sqlite.into(),
            database: "/var/lib/app/app.db".into(),
            ..Default::default()
        };
        change(&mut given);
        wrong(NAME, Spec::Database(given))
    };
    assert_eq!(file(|_| ()), [""; 0]);
    assert_eq!(file(|spec| spec.database.clear()), ["database.database"]);
    assert_eq!(file(|spec| spec.host = "a".into()), ["database.host"]);
    assert_eq!(file(|spec| spec.port = 1), ["database.port"]);
    assert_eq!(file(|spec| spec.user = "a".into()), ["database.user"]);
    assert_eq!(file(|spec| spec.password = Some(secret("a"))), ["database.password"]);
    assert_eq!(file(|spec| spec.password = Some(Secret::default())), [""; 0]);
    assert_eq!(file(|spec| spec.tls_mode = 1), ["database.tls_mode"]);
}

#[test]
fn passwords() {
    good(|spec| spec.password = None);
    good(|spec| spec.password = Some(secret("pä ss\u{1F680}")));
    bad("password", |spec| spec.password = Some(secret("")));
    bad("password", |spec| spec.password = Some(secret("a\n")));
    bad("password", |spec| spec.password = Some(secret("a\0")));
    bad("password", |spec| spec.password = Some(secret(&"x".repeat(1025))));
    bad("password", |spec| spec.password = Some(Secret { value: None, state: 9 }));
}

#[test]
fn options() {
    good(option("application_name", plain("worker")));
    good(option("sslpassword", Value::Secret(secret("x"))));
    good(option("max_tokens", plain("5")));
    for name in ["", "a b", "a.b", "a\n", "ä", "host", "hostAddr", "PORT", "db_name", "user-name", "password"]
    {
        bad(&format!("options.{}", shown(name)), option(name, plain("x")));
    }
    for name in ["sslmode", "tlsAllowInvalidCertificates", "proxyHost", "service", "passfile", "uri"] {
        bad(&format!("options.{name}"), option(name, plain("x")));
        bad(&format!("options.{name}"), option(name, Value::Secret(secret("x"))));
    }
    for name in ["sslpassword", "authToken", "client_secret", "aws_session_token", "apiKey"] {
        bad(&format!("options.{name}.plain"), option(name, plain("x")));
    }
    for name in ["sshPass", "bind_dn_pass", "sshpwd"] {
        bad(&format!("options.{name}.plain"), option(name, plain("x")));
    }
    for shown in [
        "postgres://u:p@h/d",
        "sk-proj-0123456789abcdef",
        "-c password=x",
        "-c password = x",
        "SET PASSWORD = 'x'",
        "CREATE USER a IDENTIFIED BY 'x'",
    ] {
        bad("options.application_name.plain", option("application_name", plain(shown)));
    }
    good(option("options", plain("-c statement_timeout=5 -c search_path=app")));
    bad("options.a.plain", option("a", plain("x\0")));
    bad("options.a.plain", option("a", plain(&"x".repeat(1025))));
    bad("options.a.secret", option("a", Value::Secret(Secret::default())));
    bad("options.a.secret", option("a", Value::Secret(secret(""))));
    bad("options.a.secret", option("a", Value::Secret(secret(&"x".repeat(1025)))));
    bad("options.a", |spec| drop(spec.options.insert("a".into(), DatabaseOption::default())));
    bad("options", |spec| (0..65).for_each(|number| option(&format!("o{number}"), plain("x"))(spec)));
}

#[test]
fn pools() {
    good(pool(|pool| (pool.min_connections, pool.max_connections) = (10_000, Some(10_000))));
    bad("pool.max_connections", pool(|pool| pool.max_connections = Some(0)));
    bad("pool.max_connections", pool(|pool| pool.max_connections = Some(10_001)));
    bad("pool.min_connections", pool(|pool| pool.min_connections = 11));
    let milli = prost_types::Duration { seconds: 0, nanos: 1_000_000 };
    good(pool(|pool| (pool.connect_timeout, pool.acquire_timeout) = (Some(milli), Some(seconds(600)))));
    good(pool(|pool| (pool.idle_timeout, pool.max_lifetime) = (Some(seconds(1)), Some(seconds(86_400)))));
    for wait in [
        seconds(0),
        seconds(601),
        seconds(-1),
        seconds(i64::MAX),
        prost_types::Duration { seconds: 1, nanos: -1 },
    ] {
        bad("pool.connect_timeout", pool(|pool| pool.connect_timeout = Some(wait)));
        bad("pool.acquire_timeout", pool(|pool| pool.acquire_timeout = Some(wait)));
    }
    for life in [milli, seconds(86_401)] {
        bad("pool.idle_timeout", pool(|pool| pool.idle_timeout = Some(life)));
        bad("pool.max_lifetime", pool(|pool| pool.max_lifetime = Some(life)));
    }
}

#[test]
fn a_stored_password_goes_only_where_it_was_saved_for() {
    let given = spec(option("sslpassword", Value::Secret(secret("x"))));
    let (stored, violations) = plan(NAME, given, None);
    assert_eq!(violations, []);
    let moved = |change: fn(&mut DatabaseSpec), state: State| {
        let Spec::Database(mut after) = stored.clone() else { panic!() };
        after.password = Some(Secret { value: None, state: state.into() });
        change(&mut after);
        let found = plan(NAME, Spec::Database(after), Some(&stored)).1;
        found.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let both = ["database.options.sslpassword.secret", "database.password"];
    let away: [fn(&mut DatabaseSpec); 4] = [
        |spec| spec.host = "evil.example".into(),
        |spec| spec.port = 1,
        |spec| spec.r#type = DatabaseType::Mysql.into(),
        |spec| spec.tls_mode = DatabaseTlsMode::Preferred.into(),
    ];
    for change in away {
        assert_eq!(moved(change, State::Present), both);
        // A caller who pretends that there is none would keep it as well.
        assert_eq!(moved(change, State::Missing), both);
        // Nothing said is no word that it may go.
        assert_eq!(moved(change, State::Unspecified), both);
        assert_eq!(moved(change, State::Absent), both[..1]);
    }
    assert_eq!(moved(|spec| spec.tls_mode = DatabaseTlsMode::VerifyFull.into(), State::Present), [""; 0]);
    assert_eq!(moved(|spec| spec.database = "other".into(), State::Present), [""; 0]);
    let again = |spec: &mut DatabaseSpec| {
        spec.host = "new.example".into();
        spec.password = Some(secret("new"));
        option("sslpassword", Value::Secret(secret("new")))(spec);
    };
    assert_eq!(moved(again, State::Present), [""; 0]);
}

#[test]
fn regression_no_option_shows_a_stored_password_to_others() {
    let (stored, _) = plan(NAME, spec(option("sslrootcert", plain("/etc/ca.pem"))), None);
    let found = |change: &dyn Fn(&mut DatabaseSpec)| {
        let Spec::Database(mut after) = stored.clone() else { panic!() };
        change(&mut after);
        let found = plan(NAME, Spec::Database(after), Some(&stored)).1;
        found.into_iter().map(|violation| (violation.field, violation.description)).collect::<Vec<_>>()
    };
    for name in [
        "options",
        "sslrootcert",
        "sslnegotiation",
        "gssencmode",
        "channel_binding",
        "require_auth",
        "allowPublicKeyRetrieval",
        "allowCleartextPasswords",
        "defaultAuthenticationPlugin",
        "authMechanism",
        "tlsCAFile",
        "verifyServerCertificate",
        "init_command",
        "nobody_knows",
    ] {
        let told = found(&|spec| option(name, plain("x"))(spec));
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert_eq!(told[0].0, "database.password");
        assert!(told[0].1.contains(&format!("because `options.{name}` changes")), "{told:?}");
    }
    // To take one away is a change as well.
    assert_eq!(found(&|spec| spec.options.clear())[0].0, "database.password");
    // What shows it to nobody can change, and so can all where the password comes along.
    assert_eq!(found(&|spec| option("application_name", plain("x"))(spec)), []);
    assert_eq!(found(&|spec| option("statement_timeout", plain("5"))(spec)), []);
    let given = |spec: &mut DatabaseSpec| {
        option("channel_binding", plain("disable"))(spec);
        spec.password = Some(secret("given"));
    };
    assert_eq!(found(&given), []);
}

#[test]
fn actions_and_warnings() {
    let (on, off) = (spec(|_| ()), spec(|spec| spec.enabled = Some(false)));
    assert_eq!(Database.action(&on, &off, true), DISABLED);
    assert_eq!(Database.action(&off, &on, false), ENABLED);
    assert_eq!(Database.action(&on, &on, true), ROTATED);
    let warned = |change: fn(&mut DatabaseSpec)| {
        let (stored, _) = plan(NAME, spec(change), None);
        Database.warnings(None, &stored).len()
    };
    assert_eq!(warned(|_| ()), 0);
    assert_eq!(warned(|spec| spec.tls_mode = DatabaseTlsMode::Disabled.into()), 1);
    assert_eq!(warned(|spec| spec.host = "localhost".into()), 0);
    assert_eq!(warned(|spec| (spec.tls_mode, spec.password) = (1, None)), 0);
}

#[test]
fn regression_nothing_beside_the_host_leads_elsewhere() {
    for name in [
        "sentinels",
        "sentinel_host",
        "cluster-nodes",
        "proxyHost",
        "jdbcUrl",
        "socketFactory",
        "socksProxyPort",
    ] {
        bad(&format!("options.{name}"), option(name, plain("x")));
    }
    for database in ["host=evil.example", "postgres://evil.example/x", "app?host=evil.example"] {
        bad("database", |spec| spec.database = database.into());
    }
    good(option("target_session_attrs", plain("any")));
}
