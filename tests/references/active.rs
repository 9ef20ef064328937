//! The active provider on one server and SQLite: see `support::active` for the walks.

use std::time::Duration;

use signalbox::proto::v1::{
    BatchWriteResponse, GetActiveProviderRequest, ProviderSpec, ProviderType, Role,
    SetDefaultProviderRequest, SwitchActiveProviderRequest, resource::Spec,
};
use sqlx::SqliteConnection;
use tonic::Code;

use crate::{
    held_database, router,
    support::{
        active::{self, Callers, enable, refusal, to},
        caller::Rights,
        resources::{api_key, by_name, by_prefix, named, provider},
        server::Server,
        writer::Op,
    },
};

async fn alone() -> (Server, Callers) {
    let server = Server::start().await;
    let callers = Callers::new(vec![server.admin()]);
    (server, callers)
}

#[tokio::test]
async fn the_active_provider_is_switched_and_switched_back() {
    let (_server, callers) = alone().await;
    active::switches_and_switches_back(&callers).await;
}

#[tokio::test]
async fn the_active_provider_stays() {
    let (_server, callers) = alone().await;
    active::what_is_active_stays(&callers).await;
}

#[tokio::test]
async fn regression_a_full_order_drops_its_last() {
    let (_server, callers) = alone().await;
    active::regression_a_full_order_drops_its_last(&callers).await;
}

/// Whatever of the router stands against it: the caller sent no more than a provider.
#[tokio::test]
async fn regression_what_stands_against_a_default_names_a_field_that_was_sent() {
    let (server, callers) = alone().await;
    active::prepare(&callers).await;
    callers.switch(to("a")).await.unwrap();
    let admin = server.admin();
    let grants = vec![by_name("routers/default"), by_name("providers/b")];
    let narrow = admin.colleague("narrow", &Rights { grants, ..Rights::admin() }).await;
    let request = SetDefaultProviderRequest {
        r#type: ProviderType::Groq.into(),
        provider: "providers/b".into(),
        ..Default::default()
    };
    let status = narrow.provider().set_default_provider(request).await.unwrap_err();
    let (code, _, field, _) = refusal(&status);
    assert_eq!((code, field.as_str()), (Code::PermissionDenied, "provider"), "{status:?}");
    let request = SwitchActiveProviderRequest { provider: "providers/b".into(), ..Default::default() };
    let status = narrow.provider().switch_active_provider(request).await.unwrap_err();
    let (code, _, field, _) = refusal(&status);
    assert_eq!((code, field.as_str()), (Code::PermissionDenied, "provider"), "{status:?}");
}

#[tokio::test]
async fn each_type_has_its_default() {
    let (_server, callers) = alone().await;
    active::each_type_has_its_default(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_switches_never_leave_a_disabled_or_missing_provider_active() {
    let server = Server::start().await;
    let admin = server.admin();
    let callers = Callers::new((0..6).map(|_| admin.reconnected()).collect());
    let release = async |held: SqliteConnection| {
        // Long enough for the calls to be planned; were it not, the race would only be a weaker one.
        tokio::time::sleep(Duration::from_millis(40)).await;
        sqlx::Connection::close(held).await.unwrap();
    };
    active::race(&callers, 15, async || held_database(&server).await, release).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_at_once_build_on_each_other() {
    let server = Server::start().await;
    let admin = server.admin();
    let callers = Callers::new((0..5).map(|_| admin.reconnected()).collect());
    active::switches_at_once_build_on_each_other(&callers).await;
}

#[tokio::test]
async fn who_does_not_reach_the_router_learns_only_that_there_is_a_use() {
    let (server, callers) = alone().await;
    callers.write(vec![Op::Create(provider("providers/a"))]).await.unwrap();
    callers.switch(to("a")).await.unwrap();
    let rights = Rights { role: Role::Admin, ..Rights::worker(vec![by_prefix("providers/")], false) };
    let narrow = Callers::new(vec![server.admin().colleague("narrow", &rights).await]);
    for op in [Op::delete("providers/a"), enable("providers/a", false)] {
        let status = narrow.write(vec![op]).await.unwrap_err();
        assert_eq!(refusal(&status).1, "IN_USE");
        assert!(!format!("{status:?}").contains("routers"), "{status:?}");
    }
    let status = narrow.switch(to("a")).await.unwrap_err();
    assert_eq!(refusal(&status).1, "NOT_GRANTED");
    assert_eq!(narrow.active().await.unwrap_err().code(), Code::PermissionDenied);
    // Who reaches the router alone is not shown the provider.
    let rights = Rights::worker(vec![by_name("routers/default")], false);
    let worker = server.admin().colleague("router-only", &rights).await;
    let status =
        worker.provider().get_active_provider(GetActiveProviderRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

/// Each of two who delete a key of the last two saw the other one: then nobody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_last_active_key_is_told_of_also_when_two_go_at_once() {
    let server = Server::start().await;
    let callers = Callers::new(vec![server.admin(), server.admin().reconnected()]);
    active::prepare(&callers).await;
    callers.switch(to("a")).await.unwrap();
    for _ in 0..10 {
        let another = Op::Create(api_key("providers/a/apiKeys/l", "sk-9876543210"));
        callers.write(vec![another]).await.unwrap();
        let held = held_database(&server).await;
        let delete = |name: &'static str| {
            let caller = callers.next();
            tokio::spawn(
                async move { Callers::new(vec![caller]).write(vec![Op::delete(name)]).await.unwrap() },
            )
        };
        let (one, other) = (delete("providers/a/apiKeys/k"), delete("providers/a/apiKeys/l"));
        // Long enough for both to be planned; were it not, the race would only be a weaker one.
        tokio::time::sleep(Duration::from_millis(40)).await;
        sqlx::Connection::close(held).await.unwrap();
        let told = [one.await.unwrap().warnings, other.await.unwrap().warnings].concat();
        assert_eq!(told.len(), 1, "who comes last is told: {told:?}");
        let again = Op::Create(api_key("providers/a/apiKeys/k", "sk-0123456789"));
        callers.write(vec![again]).await.unwrap();
    }
}

#[tokio::test]
async fn regression_a_disabled_primary_of_another_router_is_told_to_who_reaches_that() {
    let (server, callers) = alone().await;
    active::prepare(&callers).await;
    let routers = [("alone", &["b"][..]), ("backed", &["b", "a"]), ("second", &["a", "b"])];
    callers.write(routers.map(|(id, providers)| Op::Create(router(id, providers))).to_vec()).await.unwrap();
    let answer = callers.write(vec![enable("providers/b", false)]).await.unwrap();
    assert_eq!(
        answer.warnings,
        [
            "providers/b is the primary of routers/alone: its calls fail, because it has no fallbacks, while it is disabled",
            "providers/b is the primary of routers/backed: its calls go to its fallbacks while it is disabled",
        ]
    );
    callers.write(vec![enable("providers/b", true)]).await.unwrap();
    // What the same write takes away is told of no more, and of what the caller does not reach nothing is.
    let turned = Op::update(router("alone", &["a"]), &["router.primary"]);
    let answer = callers.write(vec![enable("providers/b", false), turned]).await.unwrap();
    assert_eq!(answer.warnings.len(), 1, "{:?}", answer.warnings);
    callers.write(vec![enable("providers/b", true)]).await.unwrap();
    let admin = server.admin();
    let rights = Rights { grants: vec![by_name("providers/b")], ..Rights::admin() };
    let narrow = admin.colleague("narrow", &rights).await;
    let answer = Callers::new(vec![narrow]).write(vec![enable("providers/b", false)]).await.unwrap();
    assert_eq!(answer.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn regression_a_provider_begins_with_the_model_of_its_type() {
    let (_server, callers) = alone().await;
    let of = |id: &str, change: fn(&mut ProviderSpec)| {
        let mut spec = ProviderSpec { r#type: ProviderType::Openai.into(), ..Default::default() };
        change(&mut spec);
        named(&format!("providers/{id}"), Spec::Provider(spec))
    };
    for (id, change, model) in [
        ("bare", (|_| ()) as fn(&mut ProviderSpec), "gpt-5.4-mini"),
        ("named", |spec| spec.default_model = "m1".into(), "m1"),
        ("narrowed", |spec| spec.models = vec!["m1".into()], ""),
        ("allowed", |spec| spec.models = vec!["m1".into(), "gpt-5.4-mini".into()], "gpt-5.4-mini"),
        ("elsewhere", |spec| spec.base_url = "https://proxy.example/v1".into(), ""),
        (
            "own",
            |spec| {
                (spec.r#type, spec.base_url) = (ProviderType::Vllm.into(), "http://gpu.internal/v1".into())
            },
            "",
        ),
    ] {
        let answer = callers.write(vec![Op::Create(of(id, change))]).await.unwrap();
        assert_eq!(model_of(&answer), model, "{id}");
    }
    // Later it is left as it is, also where it was taken away.
    let described = |id: &str| of(id, |spec| spec.description = "ours".into());
    let cleared = vec![Op::update(of("bare", |_| ()), &["provider.default_model"])];
    assert_eq!(model_of(&callers.write(cleared).await.unwrap()), "");
    for id in ["bare", "narrowed"] {
        let answer = callers.write(vec![Op::update(described(id), &["provider.description"])]).await.unwrap();
        assert_eq!(model_of(&answer), "", "{id}");
    }
}

fn model_of(answer: &BatchWriteResponse) -> &str {
    match answer.results[0].resource.as_ref().and_then(|resource| resource.spec.as_ref()) {
        Some(Spec::Provider(spec)) => &spec.default_model,
        _ => panic!("it is no provider"),
    }
}

/// The text is stored as it is given, and nothing of it is repeated.
#[tokio::test]
async fn regression_a_credential_in_a_description_is_told() {
    let (_server, callers) = alone().await;
    let mut leaky = provider("providers/a");
    if let Some(Spec::Provider(spec)) = &mut leaky.spec {
        spec.description = "the key is sk-proj-0123456789abcdef".into();
    }
    let answer = callers.write(vec![Op::Create(leaky)]).await.unwrap();
    let [told] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(told.starts_with("provider.description holds what looks like a key"), "{told}");
    assert!(!told.contains("0123"), "{told}");
}
