//! Moves that are cut off at any moment: run again they end well, and never can two stores be served.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rand::RngExt as _;
use rustix::process::Signal;
use signalbox::store::postgres::PostgresDatabase;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::time::{Instant, sleep};

use super::{
    SQLITE, beside, caller, made_key, migrate, moved,
    refused::{on_postgres, stored},
};
use crate::{
    cluster::create,
    harness::{Home, PATIENCE, Server, end, until_answered},
    postgres,
    support::{from_env, resources::setting},
};

/// Has PostgreSQL do something when a move commits there.
pub async fn at_commit(url: &str, what: &str) {
    drop(PostgresDatabase::open(url, true).await.unwrap());
    let text = format!(
        "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON moves DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION at_commit()"
    );
    postgres::run(url, &text).await;
}

/// `signalbox migrate` in the background, as a process that can be killed.
fn start(home: &Home, from: &str, to: &str) -> Child {
    let mut command = beside(home, env!("CARGO_BIN_EXE_signalbox"), &["migrate", "--from", from, "--to", to]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What stands in the environment of a folder's processes.
fn variable(home: &Home, name: &str) -> String {
    let command = home.signalbox(&[]);
    let found = command.get_envs().find(|(other, _)| *other == name).and_then(|(_, value)| value);
    found.unwrap().to_str().unwrap().to_owned()
}

async fn kill(mut child: Child) {
    let _ = child.kill();
    end(child).await;
}

/// What a file of SQLite says of moves; nothing if there is no store in it.
async fn states(file: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let Ok(mut connection) = options.connect().await else { return vec![] };
    sqlx::query_scalar("SELECT state FROM moves").fetch_all(&mut connection).await.unwrap_or_default()
}

/// The same of a database of PostgreSQL.
async fn states_on(url: &str) -> Vec<String> {
    let mut connection = postgres::connect(url).await;
    sqlx::query_scalar("SELECT state FROM moves").fetch_all(&mut connection).await.unwrap_or_default()
}

/// Whether a store that arrived in a database, or was made there, may be served.
fn lives(states: &[String], arrivals: usize) -> bool {
    let arrived = states.iter().filter(|state| *state == "arrived").count();
    arrived >= arrivals && !states.iter().any(|state| state != "arrived")
}

/// A copy of a folder's data, as if nothing had happened to it yet.
fn again(home: &Home, saved: &Path) {
    let _ = fs::remove_dir_all(home.path("data"));
    let copied = Command::new("cp").arg("-a").arg(saved).arg(home.path("data")).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_a_move_ends_well_when_it_is_run_again() {
    let rounds = from_env("SIGNALBOX_TEST_ROUNDS", 8);
    let home = stored().await;
    let saved = home.path("saved");
    assert!(Command::new("cp").arg("-a").arg(home.path("data")).arg(&saved).status().unwrap().success());
    let first = postgres::shared().database().await;
    let begin = Instant::now();
    moved(&home, SQLITE, &first).await;
    let whole = begin.elapsed();
    for round in 0..rounds {
        again(&home, &saved);
        let url = postgres::shared().database().await;
        let child = start(&home, SQLITE, &url);
        let pause = whole.mul_f64(rand::rng().random_range(0.0..1.1));
        sleep(pause).await;
        kill(child).await;
        let (here, there) = (states(&home.path("data/signalbox.db")).await, states_on(&url).await);
        assert!(!(lives(&here, 0) && lives(&there, 1)), "round {round}, {pause:?}: {here:?} {there:?}");
        eprintln!("killed after {pause:?} of {whole:?}: {here:?} {there:?}");
        moved(&home, SQLITE, &url).await;
        assert_eq!(states(&home.path("data/signalbox.db")).await, ["moved"]);
        let target = Home::new().with("SIGNALBOX_DATABASE_URL", &url).with("ENCRYPTION_KEY", made_key(&home));
        let doctor = target.run(&["doctor", "--offline"]).await;
        assert!(doctor.status.success(), "{doctor:?}");

        let child = start(&target, &url, SQLITE);
        sleep(pause).await;
        kill(child).await;
        let (here, there) = (states_on(&url).await, states(&target.path("data/signalbox.db")).await);
        assert!(!(lives(&here, 1) && lives(&there, 2)), "back, {round}, {pause:?}: {here:?} {there:?}");
        eprintln!("back: {here:?} {there:?}");
        moved(&target, &url, SQLITE).await;
        assert_eq!(states(&target.path("data/signalbox.db")).await, ["arrived", "arrived"]);
        assert!(!lives(&states_on(&url).await, 1));
    }
}

/// Waits until the source of a move is fenced: only the target's commit is still to come.
async fn fenced(home: &Home) {
    until_answered(PATIENCE, "the source is fenced", async || {
        states(&home.path("data/signalbox.db")).await == ["moving"]
    })
    .await;
}

/// Waits until the database does what it was told to do slowly: the command has asked for it.
async fn at_work(url: &str) {
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' \
                  AND datname = current_database()";
    until_answered(PATIENCE, "the database is at work", async || postgres::count(url, asleep).await == 1)
        .await;
}

/// The command dies while the target is still committing for it: the store is there, though nobody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_outlives_the_command_is_found() {
    let home = stored().await;
    let url = postgres::shared().database().await;
    at_commit(&url, "PERFORM pg_sleep(20)").await;
    let child = start(&home, SQLITE, &url);
    at_work(&url).await;
    assert_eq!(states(&home.path("data/signalbox.db")).await, ["moving"]);
    kill(child).await;
    let refused = home.refused().await;
    assert!(refused.message.contains("is being moved to postgres at 127.0.0.1"), "{}", refused.message);
    let early = migrate(&home, SQLITE, &url, &["--abandon"]).await;
    assert_eq!(early.status.code(), Some(6), "nobody knows yet: {early:?}");
    let other = postgres::shared().database().await;
    let elsewhere = migrate(&home, SQLITE, &other, &[]).await;
    assert_eq!(elsewhere.status.code(), Some(5), "{elsewhere:?}");
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("not the database that it began with"));
    until_answered(PATIENCE, "the commit ends", async || states_on(&url).await == ["arrived"]).await;
    let late = migrate(&home, SQLITE, &url, &["--abandon"]).await;
    assert_eq!(late.status.code(), Some(5), "{late:?}");
    assert!(String::from_utf8_lossy(&late.stderr).contains("the store is at postgres at"), "{late:?}");
    moved(&home, SQLITE, &url).await;
    assert_eq!(states(&home.path("data/signalbox.db")).await, ["moved"]);
}

/// The command dies, and the target never has the store: the move can be run again, or given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_never_arrived_is_run_again_or_given_up() {
    for again in [true, false] {
        let home = stored().await;
        let url = postgres::shared().database().await;
        at_commit(&url, "PERFORM pg_sleep(2); RAISE EXCEPTION 'the test refuses it'").await;
        let child = start(&home, SQLITE, &url);
        fenced(&home).await;
        kill(child).await;
        assert!(home.refused().await.message.contains("`signalbox migrate --abandon`"));
        let mut output = None;
        until_answered(PATIENCE, "the target has given up", async || {
            let more: &[&str] = if again { &["--dry-run"] } else { &["--abandon"] };
            output = Some(migrate(&home, SQLITE, &url, more).await);
            output.as_ref().unwrap().status.success()
        })
        .await;
        if again {
            postgres::run(&url, "DROP TRIGGER at_commit ON moves").await;
            moved(&home, SQLITE, &url).await;
            continue;
        }
        let told = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(told.contains("can be served again") && !told.contains("new life"), "{told}");
        let server = Server::start_in(&home).await;
        create(&caller(&server, &server.admin_token()), setting("settings/goes_on", "x")).await;
        server.stop().await;
        assert_eq!(states_on(&url).await, Vec::<String>::new());
    }
}

/// The command dies when the store is in its new place and only the old one has not been told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_was_not_told_stays_fenced() {
    let (home, url) = on_postgres().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; \
                END $$; CREATE TRIGGER slow BEFORE UPDATE ON moves FOR EACH ROW EXECUTE FUNCTION slow()";
    postgres::run(&url, slow).await;
    let child = start(&home, &url, SQLITE);
    let file = home.path("data/signalbox.db");
    at_work(&url).await;
    assert_eq!(states(&file).await, ["arrived", "arrived"]);
    kill(child).await;
    assert!(home.refused().await.message.contains("is being moved to sqlite at"));
    let end_slow = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep' \
                    AND datname = current_database()";
    assert_eq!(postgres::count(&url, end_slow).await, 1);
    postgres::run(&url, "DROP TRIGGER slow ON moves").await;
    // The new place can be served before the old one knows.
    let there = Home::new().with("ENCRYPTION_KEY", variable(&home, "ENCRYPTION_KEY"));
    fs::rename(home.path("data"), there.path("data")).unwrap();
    let there = Arc::new(there);
    Server::start_in(&there).await.stop().await;
    fs::rename(there.path("data"), home.path("data")).unwrap();
    moved(&home, &url, SQLITE).await;
    assert_eq!(states_on(&url).await.last().map(String::as_str), Some("moved"));
}

/// A replica that nobody has heard of for long is asleep, and wakes up when the store has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slept_through_the_move_neither_writes_nor_claims_to_be_in_touch() {
    let (home, url) = on_postgres().await;
    let admin = variable(&home, "ADMIN");
    let home = Arc::new(home);
    let server = Server::start_in(&home).await;
    let caller = caller(&server, &admin);
    create(&caller, setting("settings/before", "x")).await;
    server.signal(Signal::STOP);
    until_answered(PATIENCE, "it is taken for dead", async || {
        migrate(&home, &url, SQLITE, &[]).await.status.success()
    })
    .await;
    server.signal(Signal::CONT);
    let resource = Some(setting("settings/after", "x"));
    let request = signalbox::proto::v1::CreateResourceRequest { resource, ..Default::default() };
    let mut client = caller.config();
    let refused = tokio::time::timeout(Duration::from_secs(30), client.create_resource(request));
    let refused = refused.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("moved to another database"), "{refused:?}");
    until_answered(PATIENCE, "it knows that it is stale", async || caller.status().await.stale).await;
    assert_eq!(postgres::count(&url, "SELECT count(*) FROM log WHERE name = 'settings/after'").await, 0);
    server.kill().await;
}

/// It looked as if it hung.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_commit_that_takes_long_is_said_to_be_waited_for() {
    let home = stored().await;
    let url = postgres::shared().database().await;
    at_commit(&url, "PERFORM pg_sleep(7)").await;
    let output = migrate(&home, SQLITE, &url, &[]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("the target has not yet answered"), "{told}");
}
