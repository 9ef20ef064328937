//! The real binary on PostgreSQL, twice: what is written on one replica is watched on the other.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use signalbox::proto::v1::{CreateResourceRequest, VerifyLogRequest, watch_config_response::Event};
use support::{
    PATIENCE,
    caller::{Caller, Rights},
    process::Process,
    resources::{by_kind, secret_setting, setting, values_in},
    view::View,
    watcher::Open,
    within,
};
use tokio::task::block_in_place;

/// A key as an operator makes one.
fn key() -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_signalbox")).args(["keys", "generate"]).output().unwrap();
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Settings live as long as the test: the process wants them so.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The first administrator's token: made with what the servers share, because none lies in a file.
fn first_token(settings: &[(&'static str, &'static str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.current_dir(folder.path()).env_clear().envs(settings.iter().copied()).stdin(Stdio::null());
    command.args(["token", "create", "--local", "--role", "admin", "--grant-secrets", "--ttl", "1h"]);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Waits until a replica knows of so many.
async fn knows_of(caller: &Caller, count: usize) -> Vec<signalbox::proto::v1::Replica> {
    within(PATIENCE, "the replicas know of each other", async {
        loop {
            let replicas = caller.status().await.replicas;
            if replicas.len() == count {
                return replicas;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

async fn create(caller: &Caller, resource: signalbox::proto::v1::Resource) -> u64 {
    let request = CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() };
    caller.config().create_resource(request).await.expect("it is created").into_inner().revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_behave_as_one() {
    let url = leaked(postgres::shared().database().await);
    let settings = [("SIGNALBOX_DATABASE_URL", url), ("ENCRYPTION_KEY", leaked(key()))];
    // At once, so that one of them finds that the other gave the store its keys.
    let (left, right) = block_in_place(|| {
        let right = std::thread::spawn(move || Process::start(&settings));
        (Process::start(&settings), right.join().expect("it starts"))
    });
    let here = Caller::new(left.site(), &first_token(&settings));
    let there = Caller::new(right.site(), &here.token_for("admin-there", &Rights::admin()).await);
    let worker = here.token_for("worker", &Rights::worker(vec![by_kind("setting")], true)).await;
    let view = View { selectors: vec![], grants: vec![by_kind("setting")], secrets: true };
    let mut stream = Open::fresh(&Caller::new(right.site(), &worker), &view).await;
    stream.wait_for("the snapshot", |event| matches!(event, Event::Synced(_))).await;

    let begin = Instant::now();
    let revision = create(&here, secret_setting("settings/db_password", "s3cret of the test")).await;
    let event = stream.wait_for("the change", |event| matches!(event, Event::Changes(_))).await;
    let took = begin.elapsed();
    let Event::Changes(changes) = event else { unreachable!() };
    assert_eq!(changes.revision, revision);
    let values = values_in(changes.changes[0].resource.as_ref().unwrap());
    let opened = values.values().any(|value| value.contains("s3cret of the test"));
    assert!(opened, "the other replica opens it");
    assert!(took < Duration::from_secs(1), "{took:?}");
    eprintln!("from the write on one replica to the event on the other: {took:?}");

    let revision = create(&there, setting("settings/model", "groq")).await;
    stream.reach(revision).await;
    within(PATIENCE, "the other replica's view", async {
        while here.status().await.revision < revision {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (one, other) = (here.status().await, there.status().await);
    assert_eq!((one.store_kind.as_str(), &one.store_id), ("postgres", &other.store_id));
    assert_eq!((one.revision, &one.digest, &one.epoch), (other.revision, &other.digest, &other.epoch));
    let verified = there.admin().verify_log(VerifyLogRequest { anchor_token: one.revision_token }).await;
    assert!(verified.expect("the log is checked").into_inner().intact);

    for caller in [&here, &there] {
        let replicas = knows_of(caller, 2).await;
        assert_eq!(replicas.iter().filter(|replica| replica.answering).count(), 1);
        assert!(replicas.iter().all(|replica| replica.doorbell == "notify"), "{replicas:?}");
        assert!(
            replicas
                .iter()
                .all(|replica| replica.key_ids == replicas[0].key_ids && replica.feature_level > 0)
        );
        let sites = [left.site().address(), right.site().address()];
        assert!(replicas.iter().all(|replica| sites.contains(&replica.address)), "{replicas:?} {sites:?}");
        let status = caller.status().await;
        assert_eq!((status.doorbell.as_str(), status.warnings), ("notify", vec![]));
    }

    // One goes without a word, the other goes on, and notices.
    drop(left);
    let revision = create(&there, setting("settings/after", "x")).await;
    stream.reach(revision).await;
    assert!(knows_of(&there, 1).await[0].answering);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_ever_made_and_no_password_is_told() {
    let url = postgres::shared().database().await.replace("signalbox@", "signalbox:hunter2hunter2@");
    let folder = tempfile::tempdir().unwrap();
    let refused = |url: &str| {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_signalbox"));
        serve.arg("serve").current_dir(folder.path()).env_clear().stdin(Stdio::null());
        serve.env("SIGNALBOX_LISTEN", "127.0.0.1:0").env("SIGNALBOX_DATABASE_URL", url);
        let begin = Instant::now();
        let output = block_in_place(|| serve.env("RUST_LOG", "trace").output().unwrap());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert!(!output.status.success(), "{output:?}");
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains("hunter2"), "{told}");
        told
    };
    let told = refused(&url);
    assert!(told.contains("signalbox keys generate"), "{told}");
    assert!(!folder.path().join("data/encryption.key").exists());
    let nowhere = refused("postgres://u:hunter2hunter2@127.0.0.1:1/db");
    assert!(nowhere.contains("can't be read or written"), "{nowhere}");
    let plain = refused("postgres://u:hunter2hunter2@db.example/db");
    assert!(plain.contains("sslmode=verify-full"), "{plain}");
}
