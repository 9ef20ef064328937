//! Several replicas behave as one: what is written on one is seen on all, and each knows of the others.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{
    ApiKeySpec, UpdateResourceRequest, VerifyLogRequest, resource::Spec, watch_config_response::Event,
};

use crate::{
    cluster::{Cluster, Member, create, knows_of},
    harness::{PATIENCE, until_answered, within},
    support::{
        caller::Rights,
        resources::{api_key, by_kind, by_prefix, named, provider, secret_setting, setting, values_in},
        view::View,
        watcher::Open,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_behave_as_one() {
    let cluster = Cluster::new().await;
    // At once, so that one of them finds that the other gave the store its keys.
    let (mut left, right) = tokio::join!(cluster.start(), cluster.start());
    let here = left.caller(&cluster.first_token().await);
    let there = right.caller(&here.token_for("admin-there", &Rights::admin()).await);
    let worker = here.token_for("worker", &Rights::worker(vec![by_kind("setting")], true)).await;
    let view = View { selectors: vec![], grants: vec![by_kind("setting")], secrets: true };
    let mut stream = Open::fresh(&right.caller(&worker), &view).await;
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
        let sites = [left.site.address(), right.site.address()];
        assert!(replicas.iter().all(|replica| sites.contains(&replica.address)), "{replicas:?} {sites:?}");
        let status = caller.status().await;
        assert_eq!((status.doorbell.as_str(), status.warnings), ("notify", vec![]));
    }

    // One goes without a word, the other goes on, and notices.
    left.kill().await;
    let revision = create(&there, setting("settings/after", "x")).await;
    stream.reach(revision).await;
    assert!(knows_of(&there, 1).await[0].answering);
}

/// A key that is put out of use on one replica is refused by the workers of all, and by those that come back to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_on_one_replica_is_told_by_all() {
    let cluster = Cluster::new().await;
    let (left, right) = tokio::join!(cluster.start(), cluster.start());
    let here = left.caller(&cluster.first_token().await);
    let name = "providers/a/apiKeys/k";
    create(&here, provider("providers/a")).await;
    let made = create(&here, api_key(name, "sk-leaked-of-the-test")).await;
    let grants = vec![by_prefix("providers/")];
    let token = here.token_for("worker", &Rights::worker(grants.clone(), true)).await;
    let view = View { selectors: vec![], grants, secrets: true };
    let mut stream = Open::fresh(&right.caller(&token), &view).await;
    // The other replica may hear of both after its snapshot.
    stream.reach(made).await;
    let cursor = stream.cursor.clone().unwrap();

    let spec = ApiKeySpec { active: Some(false), ..ApiKeySpec::default() };
    let update = UpdateResourceRequest {
        resource: Some(named(name, Spec::ApiKey(spec))),
        update_mask: Some(prost_types::FieldMask { paths: vec!["api_key.active".into()] }),
        ..UpdateResourceRequest::default()
    };
    let revision = here.config().update_resource(update).await.unwrap().into_inner().revision;
    let late = cluster.start().await;
    for mut stream in [stream, Open::resumed(&late.caller(&token), &view, &cursor).await] {
        let unlike = |event: &Event| !matches!(event, Event::Progress(_) | Event::Synced(_));
        let event = stream.wait_for("the revocation", unlike).await;
        let Event::Revoked(revoked) = event else { panic!("first comes {event:?}") };
        assert_eq!((revoked.revision, revoked.names), (revision, vec![name.to_owned()]));
        stream.reach(revision).await;
    }
}

/// Nothing of what is in an environment can be told from the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_environments_say_different_things_of_settings_are_named() {
    const NAME: &str = "SIGNALBOX_SETTING_MAX_RETRIES";
    let cluster = Cluster::new().await;
    let one = Member::start_in(cluster.home().with(NAME, "7")).await;
    let mut other = Member::start_in(cluster.home().with(NAME, "8")).await;
    let admin = one.caller(&cluster.first_token().await);
    let warned =
        async || admin.status().await.warnings.iter().any(|warning| warning.contains("SIGNALBOX_SETTING_"));
    until_answered(PATIENCE, "the difference is told of", &warned).await;
    other.stop().await;
    let _same = Member::start_in(cluster.home().with(NAME, "7")).await;
    knows_of(&admin, 2).await;
    until_answered(PATIENCE, "they are told to agree", async || !warned().await).await;
}
