//! Databases that the server tries for an administrator: a real PostgreSQL that asks for passwords in its several ways, and what
//! is told, kept and audited of it.

use signalbox::proto::v1::{
    DatabaseSpec, DatabaseTestReason, DatabaseTlsMode, DatabaseType, Resource, Role, TestDatabaseRequest,
    TestDatabaseResponse, resource::Spec,
};
use tonic::{Code, Status};

use crate::{
    attempt,
    harness::{PATIENCE, within},
    postgres::{self, Server as Postgres},
    probing::{audited, remembered},
    support::{
        caller::{Caller, Rights},
        resources::{by_prefix, given, named},
        server::Server,
        writer::Op,
    },
};

const PASSWORD: &str = "pa55-Wörd-of-a-test";
const ALLOWED: &[(&str, &str)] = &[("allow-outbound", "127.0.0.1")];
const NAME: &str = "databases/d";

fn database(port: u16, change: impl FnOnce(&mut DatabaseSpec)) -> Resource {
    let mut spec = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host: "127.0.0.1".into(),
        port: port.into(),
        database: "app".into(),
        user: "scram".into(),
        password: Some(given(PASSWORD)),
        ..Default::default()
    };
    change(&mut spec);
    named(NAME, Spec::Database(spec))
}

async fn ask(caller: &Caller, name: &str) -> Result<TestDatabaseResponse, Status> {
    let answer =
        caller.database().test_database(TestDatabaseRequest { name: name.into() }).await?.into_inner();
    let told = format!("{answer:?}");
    assert!(!told.contains("pa55") && !told.contains("of-a-test"), "{told}");
    assert!(answer.latency.is_some() && answer.time.is_some());
    Ok(answer)
}

/// What a test of a database that is made like this finds.
async fn tried(server: &Server, resource: Resource) -> TestDatabaseResponse {
    let admin = server.admin();
    // Made anew each time: what is moved wants its password again.
    attempt(&admin, vec![Op::Delete { name: NAME.into(), etag: String::new(), allow_missing: true }])
        .await
        .unwrap();
    attempt(&admin, vec![Op::Create(resource)]).await.unwrap();
    ask(&admin, NAME).await.unwrap()
}

/// A PostgreSQL that asks each user for a password in another way.
async fn asking() -> Postgres {
    let mut server = Postgres::start(&[]);
    let admin = server.url("postgres");
    postgres::run(&admin, "CREATE DATABASE app").await;
    for (user, method) in [("scram", "scram-sha-256"), ("clear", "scram-sha-256"), ("old", "md5")] {
        let sql =
            format!("SET password_encryption = '{method}'; CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'");
        postgres::run(&admin, &sql).await;
    }
    postgres::run(&admin, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await;
    let rules = "host all signalbox 127.0.0.1/32 trust\nhost all scram 127.0.0.1/32 scram-sha-256\n\
                 host all clear 127.0.0.1/32 password\nhost all old 127.0.0.1/32 md5\n";
    let rules = server.give("rules", rules);
    server.stop();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.give("server.crt", &made.cert.pem());
    let key = server.give("server.key", &made.signing_key.serialize_pem());
    server.run(&[
        &format!("hba_file={rules}"),
        "ssl=on",
        &format!("ssl_cert_file={certificate}"),
        &format!("ssl_key_file={key}"),
    ]);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_postgresql_is_signed_in_to() {
    let postgres = asking().await;
    let port = postgres.port();
    let server = Server::with(ALLOWED).await;
    let before = server.admin().status().await;
    let well = tried(&server, database(port, |_| ())).await;
    assert_eq!((well.reason(), well.description.as_str()), (DatabaseTestReason::Ok, ""));
    assert!(well.server_version.starts_with(|digit: char| digit.is_ascii_digit()), "{well:?}");
    assert!(!well.encrypted && well.server_code.is_empty());
    let after = server.admin().status().await;
    assert_eq!(after.revision, before.revision + 1, "a test is no change");
    let kept = remembered(&server.admin(), NAME, "test").await;
    assert!(kept.contains(r#""reason":"OK""#), "{kept}");
    assert_eq!(audited(&server, "database_tested").await, [NAME]);

    use DatabaseTestReason as Is;
    type Change = fn(&mut DatabaseSpec);
    let cases: [(&str, Change, Is, &str); 10] = [
        ("in the clear", |spec| spec.user = "clear".into(), Is::Ok, ""),
        ("disabled", |spec| spec.enabled = Some(false), Is::Ok, ""),
        ("by MD5", |spec| spec.user = "old".into(), Is::Unsupported, ""),
        ("wrong", |spec| spec.password = Some(given("pa55-other")), Is::AuthenticationFailed, "28P01"),
        ("no password", |spec| spec.password = None, Is::NoPassword, ""),
        ("no user", |spec| spec.user = String::new(), Is::NoPassword, ""),
        ("nobody", |spec| spec.user = "nobody".into(), Is::AuthenticationFailed, "28000"),
        ("no database", |spec| spec.database = "none".into(), Is::DatabaseMissing, "3D000"),
        ("not his", |spec| spec.database = "postgres".into(), Is::PermissionDenied, "42501"),
        ("not trusted", |spec| spec.tls_mode = DatabaseTlsMode::VerifyFull.into(), Is::Tls, ""),
    ];
    for (what, change, reason, code) in cases {
        let found = tried(&server, database(port, change)).await;
        assert_eq!((found.reason(), found.server_code.as_str()), (reason, code), "{what}: {found:?}");
        assert_eq!(found.description.is_empty(), reason == Is::Ok, "{what}");
    }
    for mode in [DatabaseTlsMode::Preferred, DatabaseTlsMode::Required] {
        let found = tried(&server, database(port, |spec| spec.tls_mode = mode.into())).await;
        assert_eq!((found.reason(), found.encrypted), (Is::Ok, true), "{mode:?}");
    }
    drop(postgres);
}

#[tokio::test]
async fn a_database_is_tried_by_who_reaches_it_and_where_the_server_may_go() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let strict = Server::start().await;
    let refused = tried(&strict, database(port, |_| ())).await;
    assert_eq!(refused.reason(), DatabaseTestReason::EgressRefused);
    assert!(refused.description.contains("--allow-outbound"), "{}", refused.description);
    let file = database(0, |spec| {
        *spec = DatabaseSpec {
            r#type: DatabaseType::Sqlite.into(),
            database: "/x.db".into(),
            ..Default::default()
        };
    });
    assert_eq!(tried(&strict, file).await.reason(), DatabaseTestReason::Unsupported);
    let admin = strict.admin();
    for name in ["", "providers/x", "databases/", "pa55-Wörd"] {
        assert_eq!(ask(&admin, name).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
    assert_eq!(ask(&admin, "databases/none").await.unwrap_err().code(), Code::NotFound);
    for rights in [Rights::viewer(), Rights::worker(vec![], true)] {
        let other = admin.colleague("other", &rights).await;
        assert_eq!(ask(&other, NAME).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let narrow = Rights { role: Role::Admin, ..Rights::worker(vec![by_prefix("providers/")], false) };
    let elsewhere = admin.colleague("elsewhere", &narrow).await;
    for name in [NAME, "databases/none"] {
        let told = ask(&elsewhere, name).await.unwrap_err();
        assert_eq!(told.code(), Code::PermissionDenied, "{name}");
    }
    drop(listener);
}

/// A Redis with a password, if the machine has one.
struct Redis {
    child: std::process::Child,
    port: u16,
}

impl Redis {
    async fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = std::process::Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
        ]);
        command.args(["--requirepass", PASSWORD]).stdout(std::process::Stdio::null());
        let redis = Self { child: command.spawn().ok()?, port };
        within(PATIENCE, "Redis", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where there is none, the listeners of the unit tests stand for it.
#[tokio::test]
async fn a_real_redis_is_signed_in_to_where_there_is_one() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(ALLOWED).await;
    let of_redis = |change: fn(&mut DatabaseSpec)| {
        database(redis.port, |spec| {
            (spec.r#type, spec.database) = (DatabaseType::Redis.into(), "3".into());
            spec.user.clear();
            change(spec);
        })
    };
    use DatabaseTestReason as Is;
    type Change = fn(&mut DatabaseSpec);
    let cases: [(&str, Change, Is, &str); 7] = [
        ("as it is", |_| (), Is::Ok, ""),
        ("by name", |spec| spec.user = "default".into(), Is::Ok, ""),
        ("wrong", |spec| spec.password = Some(given("pa55-other")), Is::AuthenticationFailed, "WRONGPASS"),
        ("no password", |spec| (spec.password, spec.database) = (None, String::new()), Is::NoPassword, ""),
        ("no database", |spec| spec.database = "99".into(), Is::DatabaseMissing, "ERR"),
        ("no TLS", |spec| spec.tls_mode = DatabaseTlsMode::Required.into(), Is::Tls, ""),
        ("preferred", |spec| spec.tls_mode = DatabaseTlsMode::Preferred.into(), Is::Ok, ""),
    ];
    for (what, change, reason, code) in cases {
        let found = tried(&server, of_redis(change)).await;
        assert_eq!((found.reason(), found.server_code.as_str()), (reason, code), "{what}: {found:?}");
    }
}
