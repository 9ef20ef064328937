//! Old and new binary side by side on one store, as a rolling upgrade has them. The older one is `examples/one_level_older.rs`.

use signalbox::{
    domain::FeatureLevel,
    proto::v1::{
        ChatMessage, ChatRole, CreateResourceRequest, GetResourceRequest, ProviderSpec, ProviderType,
        RaiseFeatureLevelRequest, RenderRequestRequest, Resource, resource::Spec,
    },
    wire,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    cluster::{Cluster, Member, create, knows_of},
    harness::{Home, PATIENCE, example, until_answered},
    postgres,
    support::{
        caller::Caller,
        resources::{named, setting},
    },
};

const CURRENT: u32 = FeatureLevel::CURRENT.0;

/// A folder that runs the binary of one level ago.
async fn older(cluster: &Cluster) -> Home {
    cluster.home().running(&example("one_level_older").await)
}

async fn start_older(cluster: &Cluster) -> Member {
    Member::start_in(older(cluster).await).await
}

/// Something that both know, though the newer one would hold more of it.
fn provider(id: &str) -> Resource {
    let spec = ProviderSpec { r#type: ProviderType::Groq.into(), ..ProviderSpec::default() };
    named(&format!("providers/{id}"), Spec::Provider(spec))
}

/// Something that the older binary does not know: how a provider is spoken to.
fn spoken(id: &str) -> Resource {
    let mut resource = provider(id);
    if let Some(Spec::Provider(spec)) = &mut resource.spec {
        wire::families::fill(spec);
    }
    resource
}

/// Whether a provider holds how it is spoken to.
async fn holds_it(caller: &Caller, id: &str) -> bool {
    let request = GetResourceRequest { name: format!("providers/{id}"), ..GetResourceRequest::default() };
    let found = caller.config().get_resource(request).await.expect("it is there").into_inner();
    matches!(found.resource.and_then(|found| found.spec), Some(Spec::Provider(spec)) if spec.request_builder.is_some())
}

/// It is spoken to all the same, as its type is.
async fn renders(caller: &Caller, id: &str) {
    let message = ChatMessage { role: ChatRole::User.into(), text: "Hello".into(), ..ChatMessage::default() };
    let request = RenderRequestRequest {
        name: format!("providers/{id}"),
        model: "m".into(),
        messages: vec![message],
        ..RenderRequestRequest::default()
    };
    let rendered = caller.provider().render_request(request).await.expect("it is rendered").into_inner();
    assert_eq!(rendered.url, "https://api.groq.com/openai/v1/chat/completions");
}

async fn write(caller: &Caller, resource: Resource) -> Result<u64, Status> {
    let request = CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() };
    caller.config().create_resource(request).await.map(|answer| answer.into_inner().revision)
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn level(caller: &Caller) -> u32 {
    caller.status().await.feature_level
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_replica_does_not_know_waits_until_none_is_left() {
    let cluster = Cluster::new().await;
    let mut old = start_older(&cluster).await;
    let token = cluster.first_token().await;
    let (there, new) = (old.caller(&token), cluster.start().await);
    let here = new.caller(&token);
    let levels: Vec<u32> = knows_of(&here, 2).await.iter().map(|replica| replica.feature_level).collect();
    assert!(levels.contains(&CURRENT) && levels.contains(&(CURRENT - 1)), "{levels:?}");

    // Both serve, and what both know is written on either.
    let revision = create(&here, setting("settings/from_the_new", "x")).await;
    until_answered(PATIENCE, "the old one has it", async || there.status().await.revision >= revision).await;
    create(&there, setting("settings/from_the_old", "x")).await;
    for caller in [&here, &there] {
        assert_eq!(level(caller).await, CURRENT - 1);
        let refused = write(caller, spoken("early")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "FEATURE_LEVEL".into()));
        assert!(refused.message().contains("raised once every replica supports it"), "{refused}");
    }
    // Until then a provider holds no more than the older one knows, on either.
    write(&here, provider("plain")).await.expect("both know it");
    assert!(!holds_it(&here, "plain").await);
    until_answered(PATIENCE, "the old one has it", async || {
        there.status().await.revision >= here.status().await.revision
    })
    .await;
    renders(&there, "plain").await;
    let asked = here.admin().raise_feature_level(RaiseFeatureLevelRequest {}).await.unwrap_err();
    assert_eq!((asked.code(), reason(&asked)), (Code::FailedPrecondition, "REPLICAS_TOO_OLD".into()));
    assert!(asked.message().contains(&old.site.address()), "it is named: {asked}");

    // The last old one goes: nobody has to do anything.
    old.stop().await;
    until_answered(PATIENCE, "the level is raised", async || level(&here).await == CURRENT).await;
    assert!(!holds_it(&here, "plain").await, "nothing changes without a revision");
    renders(&here, "plain").await;
    write(&here, spoken("late")).await.expect("every replica knows it now");
    write(&here, provider("filled")).await.expect("it is known");
    assert!(holds_it(&here, "filled").await);

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
    let revision = create(&here, setting("settings/a", "x")).await;
    // With a heartbeat after this it would have been raised.
    let beaten = async || here.status().await.replicas.iter().any(|replica| replica.revision >= revision);
    until_answered(PATIENCE, "a heartbeat", beaten).await;
    assert_eq!(level(&here).await, CURRENT - 1);
    write(&here, spoken("early")).await.unwrap_err();
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
    write(&here, spoken("late")).await.expect("it was allowed");
}

/// Found by an attack: one that slept while the others went on served on, and wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_binary_that_the_store_outgrew_while_it_slept_stops() {
    let cluster = Cluster::new().await;
    let mut left = cluster.start().await;
    let caller = left.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    // As it is for one that was stopped for longer than it is waited for.
    let outgrow = format!("UPDATE feature_level SET level = {}", CURRENT + 1);
    postgres::run(cluster.url(), &outgrow).await;
    assert_eq!(left.ended().await, Some(1));
    let log = left.log();
    assert!(log.contains(&format!("feature level {}", CURRENT + 1)) && log.contains("too old"), "{log}");
}
