//! Walks around the keys of providers, over one server or several that share a store.

use std::time::Duration;

use signalbox::proto::v1::{
    ApiKeySpec, ApiKeyUsage, GetActiveApiKeyRequest, GetActiveApiKeyResponse, GetResourceRequest,
    ListResourcesRequest, Observation, ProviderType, RecordApiKeyUsageRequest, Resource, RotateApiKeyRequest,
    get_active_api_key_request::Whose, resource::Spec,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    active::{Callers, activate, prepare, refusal},
    caller::Caller,
    resources::{api_key, given, named},
    writer::Op,
};
use crate::harness::{PATIENCE, within};

/// The key that is to be used of a provider.
pub async fn active_key(
    caller: &Caller,
    whose: Whose,
    token: &str,
) -> Result<GetActiveApiKeyResponse, Status> {
    let request = GetActiveApiKeyRequest {
        whose: Some(whose),
        min_revision_token: token.to_owned(),
        ..Default::default()
    };
    Ok(caller.api_key().get_active_api_key(request).await?.into_inner())
}

fn of(provider: &str) -> Whose {
    Whose::Provider(format!("providers/{provider}"))
}

fn id(answer: GetActiveApiKeyResponse) -> String {
    answer.api_key.unwrap().name.rsplit('/').next().unwrap().to_owned()
}

fn weighted(id: &str, weight: u32) -> Resource {
    let mut key = api_key(&format!("providers/a/apiKeys/{id}"), "sk-0123456789");
    if let Some(Spec::ApiKey(spec)) = &mut key.spec {
        spec.weight = Some(weight);
    }
    key
}

/// Which key is to be used: by weight, by age, by name; and what is told where there is none.
pub async fn the_key_to_use_follows_the_rule(callers: &Callers) {
    prepare(callers).await;
    let more = vec![Op::Create(weighted("0", 1)), Op::Create(weighted("heavy", 2))];
    let made = callers.write(more).await.unwrap();
    let found = async |token: &str| active_key(&callers.next(), of("a"), token).await.map(id);
    assert_eq!(found(&made.revision_token).await.unwrap(), "heavy");
    let off = callers.write(vec![activate("providers/a/apiKeys/heavy", false)]).await.unwrap();
    assert_eq!(found(&off.revision_token).await.unwrap(), "k", "the oldest");
    let gone = callers.write(vec![Op::delete("providers/a/apiKeys/k")]).await.unwrap();
    assert_eq!(found(&gone.revision_token).await.unwrap(), "0");
    let none = callers.write(vec![Op::delete("providers/a/apiKeys/0")]).await.unwrap();
    let told = refusal(&found(&none.revision_token).await.unwrap_err());
    assert_eq!((told.0, told.1.as_str()), (Code::FailedPrecondition, "NO_ACTIVE_KEY"));

    let by_type = active_key(&callers.next(), Whose::Type(ProviderType::Groq.into()), "").await.unwrap();
    let key = by_type.api_key.unwrap();
    assert_eq!(key.name, "providers/b/apiKeys/k");
    let Some(Spec::ApiKey(spec)) = key.spec else { panic!("no key") };
    assert_eq!(spec.secret.unwrap().value, None, "an administrator sees no value");
    assert_eq!(active_key(&callers.next(), of("none"), "").await.unwrap_err().code(), Code::NotFound);
    for whose in [None, Some(Whose::Type(0)), Some(Whose::Provider("providers/a/apiKeys/k".into()))] {
        let request = GetActiveApiKeyRequest { whose, ..Default::default() };
        let status = callers.next().api_key().get_active_api_key(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

type Change = fn(&mut RotateApiKeyRequest);

/// A new value under the same name.
pub async fn a_key_is_rotated(callers: &Callers) {
    prepare(callers).await;
    let name = "providers/a/apiKeys/k";
    let rotate = |change: Change| {
        let mut request = RotateApiKeyRequest {
            name: name.to_owned(),
            secret: Some(given("sk-new-value-123")),
            ..Default::default()
        };
        change(&mut request);
        let caller = callers.next();
        async move { caller.api_key().rotate_api_key(request).await.map(tonic::Response::into_inner) }
    };
    let dry = rotate(|request| request.validate_only = true).await.unwrap();
    assert_eq!(dry.revision_token, "");
    let done = rotate(|request| request.request_id = "r1".into()).await.unwrap();
    assert_eq!(done.api_key.as_ref().unwrap().version, 2);
    let fields: Vec<String> = done.diff.unwrap().fields.into_iter().map(|field| field.path).collect();
    assert!(fields.contains(&"api_key.secret".to_owned()), "{fields:?}");
    let again = rotate(|request| request.request_id = "r1".into()).await.unwrap();
    assert_eq!(again.revision, done.revision);
    let stale = rotate(|request| request.etag = "stale".into()).await.unwrap_err();
    let (code, _, field, _) = refusal(&stale);
    assert_eq!((code, field.as_str()), (Code::Aborted, "etag"));
    let missing = rotate(|request| request.name = "providers/a/apiKeys/none".into()).await.unwrap_err();
    assert_eq!((missing.code(), refusal(&missing).2.as_str()), (Code::NotFound, "name"));
    let bad: [(Change, &str); 4] = [
        (|request| request.secret = None, "secret.value"),
        (|request| request.secret = Some(given("two\nlines")), "secret"),
        (|request| request.name = "providers/a".into(), "name"),
        (|request| request.reason = "\u{7}".into(), "reason"),
    ];
    for (change, field) in bad {
        let status = rotate(change).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(violations[0].field, field, "{violations:?}");
    }
}

fn usage(name: &str, seconds: i64) -> ApiKeyUsage {
    let last_used_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    ApiKeyUsage { name: name.to_owned(), last_used_at }
}

pub async fn record(caller: &Caller, usages: Vec<ApiKeyUsage>) -> Result<Vec<String>, Status> {
    let request = RecordApiKeyUsageRequest { usages };
    Ok(caller.api_key().record_api_key_usage(request).await?.into_inner().unknown)
}

/// What was seen of a resource, as one server tells it.
pub async fn seen(caller: &Caller, name: &str) -> Vec<Observation> {
    let request =
        GetResourceRequest { name: name.to_owned(), include_observations: true, ..Default::default() };
    caller.config().get_resource(request).await.unwrap().into_inner().resource.unwrap().observations
}

/// Waits until a key was last used at a time.
pub async fn wait_for_use(caller: &Caller, name: &str, seconds: i64) {
    within(PATIENCE, "the use of the key", async {
        loop {
            let seen = seen(caller, name).await;
            let used = seen.iter().find(|one| one.what == "last_used").and_then(|one| one.time);
            if used.is_some_and(|time| time.seconds == seconds) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Use shows on every server, makes no revision, and the newest time wins.
pub async fn use_is_told_and_makes_no_revision(callers: &Callers) {
    prepare(callers).await;
    let (a, b) = ("providers/a/apiKeys/k", "providers/b/apiKeys/k");
    let before = callers.next().status().await;
    let used = vec![usage(a, 1_700_000_100), usage(a, 1_700_000_050), usage(b, 1_600_000_000)];
    let none = "providers/a/apiKeys/none";
    let unknown = record(&callers.next(), [used, vec![usage(none, 1)]].concat()).await.unwrap();
    assert_eq!(unknown, [none]);
    for _ in 0..2 {
        wait_for_use(&callers.next(), a, 1_700_000_100).await;
    }
    // An older one that comes later, perhaps from another server, is overtaken; the other key shows that it was written.
    record(&callers.next(), vec![usage(a, 1_700_000_099), usage(b, 1_600_000_001)]).await.unwrap();
    wait_for_use(&callers.next(), b, 1_600_000_001).await;
    wait_for_use(&callers.next(), a, 1_700_000_100).await;

    let list = ListResourcesRequest { include_observations: true, ..Default::default() };
    let listed = callers.next().config().list_resources(list).await.unwrap().into_inner().resources;
    let told: Vec<&str> = listed
        .iter()
        .filter(|resource| !resource.observations.is_empty())
        .map(|resource| resource.name.as_str())
        .collect();
    assert_eq!(told, [a, b]);
    let plain = GetResourceRequest { name: a.to_owned(), ..Default::default() };
    let plain = callers.next().config().get_resource(plain).await.unwrap().into_inner().resource.unwrap();
    assert!(plain.observations.is_empty(), "only where it is asked for");
    let with = listed.iter().find(|resource| resource.name == a).unwrap();
    assert_eq!((&with.etag, with.version), (&plain.etag, plain.version));
    let after = callers.next().status().await;
    assert_eq!((after.revision, after.digest), (before.revision, before.digest));

    // What a read told can be given back.
    let spec = ApiKeySpec { description: "given back".to_owned(), ..Default::default() };
    let mut back = named(a, Spec::ApiKey(spec));
    back.observations.clone_from(&with.observations);
    callers.write(vec![Op::update(back, &["api_key.description"])]).await.unwrap();

    // A time ahead of the server's is the server's.
    record(&callers.next(), vec![usage(b, 1 << 37)]).await.unwrap();
    within(PATIENCE, "the clamped time", async {
        while seen(&callers.next(), b).await[0].time.unwrap().seconds == 1_600_000_001 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(seen(&callers.next(), b).await[0].time.unwrap().seconds < 1 << 37);
}
