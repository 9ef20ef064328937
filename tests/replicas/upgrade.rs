//! Old and new binary side by side on one store, as a rolling upgrade has them. The older one is `examples/another_release.rs`,
//! and so is a newer one, which has a step of the schema more.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use signalbox::{
    domain::FeatureLevel,
    proto::v1::{
        FrameStreamExtractor, ProviderSpec, ProviderType, RaiseFeatureLevelRequest, Resource,
        ResponseExtractor, UpdateResourceRequest, resource::Spec,
    },
    store::LIFETIME,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    cluster::{Cluster, Member, create, knows_of, read, request},
    harness::{Home, PATIENCE, example, until, until_answered},
    postgres,
    support::{
        caller::Caller,
        resources::{named, setting},
    },
};

const NAME: &str = "providers/a";
const CURRENT: u32 = FeatureLevel::CURRENT.0;

/// A folder that runs the binary of one level ago.
async fn older(cluster: &Cluster) -> Home {
    cluster.home().running(&example("another_release").await)
}

/// The release after this one, with a step of the schema that leaves room for the one before.
async fn start_next(cluster: &Cluster) -> Member {
    let next = older(cluster).await.with("OLDER_BY", "0").with("NEXT_SCHEMA", (CURRENT - 1).to_string());
    Member::start_in(next).await
}

async fn start_older(cluster: &Cluster) -> Member {
    Member::start_in(older(cluster).await).await
}

/// Both know providers of this type, but only the newer one that answers come in frames.
async fn create_provider(caller: &Caller) {
    let spec = ProviderSpec {
        r#type: ProviderType::Bedrock.into(),
        base_url: "https://llm.example.com".into(),
        ..ProviderSpec::default()
    };
    create(caller, named(NAME, Spec::Provider(spec))).await;
}

/// Writes how the provider's answers are read: as its type has it, or with how they are read in frames said besides.
async fn write_extractor(caller: &Caller, frames: bool) -> Result<(), Status> {
    let mut extractor = spec(caller).await.response_extractor;
    if let Some(extractor) = &mut extractor {
        let rules = extractor.extraction_rules.clone();
        let framed = FrameStreamExtractor { extraction_rules: rules, ..FrameStreamExtractor::default() };
        extractor.frame_stream = Some(framed);
    }
    let response_extractor: Option<ResponseExtractor> = extractor.filter(|_| frames);
    let spec = ProviderSpec { response_extractor, ..ProviderSpec::default() };
    let mask = prost_types::FieldMask { paths: vec!["provider.response_extractor".into()] };
    let request = UpdateResourceRequest {
        resource: Some(named(NAME, Spec::Provider(spec))),
        update_mask: Some(mask),
        ..UpdateResourceRequest::default()
    };
    caller.config().update_resource(request).await.map(|_| ())
}

/// Whether the provider says how answers are read in frames.
async fn has_frames(caller: &Caller) -> bool {
    spec(caller).await.response_extractor.is_some_and(|extractor| extractor.frame_stream.is_some())
}

async fn spec(caller: &Caller) -> ProviderSpec {
    let found = read(caller, NAME, "").await.expect("it is there");
    let Some(Resource { spec: Some(Spec::Provider(spec)), .. }) = found.resource else {
        panic!("no provider")
    };
    spec
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn told(warnings: &[String], words: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(words))
}

async fn level(caller: &Caller) -> u32 {
    caller.status().await.feature_level
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_replica_does_not_know_waits_until_none_is_left() {
    let cluster = Cluster::new().await;
    let mut old = start_older(&cluster).await;
    let token = cluster.first_token().await;
    let (there, new) = (old.caller(&token), start_next(&cluster).await);
    let here = new.caller(&token);
    let levels: Vec<u32> = knows_of(&here, 2).await.iter().map(|replica| replica.feature_level).collect();
    assert!(levels.contains(&CURRENT) && levels.contains(&(CURRENT - 1)), "{levels:?}");

    // Both serve, and what both know is written on either.
    let revision = create(&here, setting("settings/from_the_new", "x")).await;
    until_answered(PATIENCE, "the old one has it", async || there.status().await.revision >= revision).await;
    create(&there, setting("settings/from_the_old", "x")).await;
    create_provider(&there).await;
    until_answered(PATIENCE, "the new one has it", async || {
        here.status().await.revision >= there.status().await.revision
    })
    .await;
    for caller in [&here, &there] {
        assert_eq!(level(caller).await, CURRENT - 1);
        let waits =
            format!("feature level {CURRENT} waits for {} (level {})", old.site.address(), CURRENT - 1);
        until_answered(PATIENCE, "it says which one is waited for", async || {
            told(&caller.status().await.warnings, &waits)
        })
        .await;
        let refused = write_extractor(caller, true).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "FEATURE_LEVEL".into()));
        assert!(refused.message().contains("raised once every replica supports it"), "{refused}");
    }
    // What is new is left out of what is filled in.
    write_extractor(&here, false).await.expect("both know it");
    assert!(!has_frames(&here).await);
    let asked = here.admin().raise_feature_level(RaiseFeatureLevelRequest {}).await.unwrap_err();
    assert_eq!((asked.code(), reason(&asked)), (Code::FailedPrecondition, "REPLICAS_TOO_OLD".into()));
    assert!(asked.message().contains(&old.site.address()), "it is named: {asked}");

    // The last old one goes: nobody has to do anything.
    old.stop().await;
    until_answered(PATIENCE, "the level is raised", async || level(&here).await == CURRENT).await;
    write_extractor(&here, true).await.expect("every replica knows it now");
    assert!(has_frames(&here).await);
    assert!(!told(&here.status().await.warnings, "an upgrade is under way"));

    // None comes back.
    let refused = older(&cluster).await.refused().await;
    assert!(refused.message.contains(&format!("feature level {CURRENT}")), "{refused:?}");
    assert_eq!(refused.code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_left_to_somebody_the_level_stays_and_the_old_binary_can_come_back() {
    let cluster = Cluster::new().await.with("SIGNALBOX_RAISE_FEATURE_LEVEL", "manual");
    let mut old = start_older(&cluster).await;
    create(&old.caller(&cluster.first_token().await), setting("settings/before", "x")).await;
    old.stop().await;
    let mut new = cluster.start().await;
    let here = new.caller(&cluster.first_token().await);
    create_provider(&here).await;
    let revision = create(&here, setting("settings/a", "x")).await;
    // With a heartbeat after this it would have been raised.
    let beaten = async || here.status().await.replicas.iter().any(|replica| replica.revision >= revision);
    until_answered(PATIENCE, "a heartbeat", beaten).await;
    assert_eq!(level(&here).await, CURRENT - 1);
    write_extractor(&here, true).await.unwrap_err();
    new.stop().await;
    start_older(&cluster).await.stop().await;
    let new = cluster.start().await;
    let here = new.caller(&cluster.first_token().await);
    let home = cluster
        .home()
        .with("SIGNALBOX_URL", format!("http://{}", new.site.address()))
        .with("SIGNALBOX_TOKEN", cluster.first_token().await);
    let raised = home.run(&["raise-feature-level"]).await;
    assert!(raised.status.success(), "{}", String::from_utf8_lossy(&raised.stderr));
    assert_eq!(level(&here).await, CURRENT);
    write_extractor(&here, true).await.expect("it was allowed");
}

/// Found by an attack: one that slept while the others went on served on, and wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_binary_that_the_store_outgrew_while_it_slept_stops() {
    let cluster = Cluster::new().await;
    let mut left = start_older(&cluster).await;
    let caller = left.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    // It is stopped for longer than it is waited for: a newer one forgets it, and raises the level.
    left.signal(Signal::STOP);
    let newer = cluster.start().await;
    let there = newer.caller(caller.token());
    until_answered(PATIENCE, "the level is raised", async || level(&there).await == CURRENT).await;
    left.signal(Signal::CONT);
    assert_eq!(left.ended().await, Some(1));
    let log = left.log();
    assert!(log.contains(&format!("feature level {CURRENT}")) && log.contains("too old"), "{log}");
}

/// After an outage the first to come back found itself alone, and raised the level over the head of one that lived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_an_outage_in_the_midst_of_an_upgrade_raises_nothing() {
    let mut database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    let (old, new) = (start_older(&cluster).await, cluster.start().await);
    let here = new.caller(&cluster.first_token().await);
    knows_of(&here, 2).await;
    database.stop();
    old.signal(Signal::STOP);
    // Both are taken for dead by then.
    let away = Instant::now();
    until(PATIENCE, "the outage", || away.elapsed() > LIFETIME + Duration::from_secs(1)).await;
    database.run(&["fsync=on"]);
    until_answered(PATIENCE, "the new one is back, and alone", async || {
        let status = here.status().await;
        // It does not say that it is alone without saying that others may live.
        !status.stale
            && status.replicas.len() == 1
            && told(&status.warnings, "heard nothing of the database until a moment ago")
    })
    .await;
    old.signal(Signal::CONT);
    knows_of(&here, 2).await;
    assert_eq!(level(&here).await, CURRENT - 1);
    create(&old.caller(here.token()), setting("settings/by_the_old", "x")).await;
}

/// A clock of the database that jumps makes every row old, or of a time to come: whoever told of itself first after it found itself
/// alone, and raised the level over the head of one that lived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_rows_that_are_gone_for_a_moment_raise_nothing() {
    let cluster = Cluster::new().await;
    let (old, new) = (start_older(&cluster).await, cluster.start().await);
    let here = new.caller(&cluster.first_token().await);
    // Long enough for the level to be raised if there were nobody else.
    let begun = Instant::now();
    until_answered(PATIENCE, "both were heard of all the time", async || {
        knows_of(&here, 2).await;
        begun.elapsed() > LIFETIME * 2 + Duration::from_secs(3)
    })
    .await;
    let gone = format!("DELETE FROM replicas WHERE feature_level < {CURRENT}");
    let jump = Instant::now();
    until_answered(PATIENCE, "two heartbeats of the new one", async || {
        postgres::run(cluster.url(), &gone).await;
        jump.elapsed() > Duration::from_secs(5)
    })
    .await;
    assert_eq!(level(&here).await, CURRENT - 1);
    knows_of(&here, 2).await;
    create(&old.caller(here.token()), setting("settings/by_the_old", "x")).await;
}

/// Whoever may write to the database stopped every replica for good with one number, which its trigger did not let anybody take
/// back, and none started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_level_that_no_binary_raised_stops_nobody() {
    const FORGED: &str = "its feature level says 99, which no signalbox wrote";
    let cluster = Cluster::new().await;
    let first = cluster.start().await;
    let caller = first.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    postgres::run(cluster.url(), "UPDATE feature_level SET level = 99").await;
    let second = cluster.start().await;
    let there = second.caller(caller.token());
    for (member, caller) in [(&first, &caller), (&second, &there)] {
        let told = async || caller.status().await.warnings.iter().any(|warning| warning.contains(FORGED));
        until_answered(PATIENCE, "it is a warning", told).await;
        let status = caller.status().await;
        assert!(status.stale && status.feature_level == CURRENT, "{status:?}");
        let found = read(caller, "settings/a", "").await.expect("it is served");
        assert!(found.stale);
        let refused = caller.config().create_resource(request(setting("settings/b", "x"))).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "STORE_DAMAGED".into()));
        let raise = caller.admin().raise_feature_level(RaiseFeatureLevelRequest {}).await.unwrap_err();
        assert_eq!(reason(&raise), "STORE_DAMAGED");
        let ready = member.page("/readyz", "").await;
        assert!(ready.code == 200 && ready.json().to_string().contains("STORE_DAMAGED"), "{ready:?}");
    }
    knows_of(&caller, 2).await;
    let back = format!(
        "ALTER TABLE feature_level DISABLE TRIGGER USER; UPDATE feature_level SET level = {CURRENT}; \
         ALTER TABLE feature_level ENABLE TRIGGER USER"
    );
    postgres::run(cluster.url(), &back).await;
    for caller in [&caller, &there] {
        until_answered(PATIENCE, "it is over", async || !caller.status().await.stale).await;
    }
    create(&there, setting("settings/b", "x")).await;
}
