//! The keys of providers on one server and SQLite: see `support::keys` for the walks.

use signalbox::proto::v1::{
    ApiKeyUsage, GetActiveApiKeyRequest, RecordApiKeyUsageRequest, Role, get_active_api_key_request::Whose,
    resource::Spec,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    active::{Callers, prepare, refusal},
    caller::Rights,
    keys::{
        a_key_is_rotated, active_key, record, seen, the_key_to_use_follows_the_rule,
        use_is_told_and_makes_no_revision, wait_for_use,
    },
    resources::{by_name, by_prefix},
    rotation,
    server::Server,
};

const KEY: &str = "providers/a/apiKeys/k";

#[tokio::test]
async fn the_active_key_follows_the_rule() {
    let server = Server::start().await;
    the_key_to_use_follows_the_rule(&Callers::new(vec![server.admin()])).await;
}

#[tokio::test]
async fn keys_are_rotated() {
    let server = Server::start().await;
    a_key_is_rotated(&Callers::new(vec![server.admin()])).await;
}

#[tokio::test]
async fn the_value_before_is_kept_while_a_key_is_rotated() {
    let server = Server::start().await;
    let (callers, worker) = (Callers::new(vec![server.admin()]), rotation::reader(&server.admin()).await);
    rotation::the_value_before_is_kept_until_it_is_retired(&callers, &worker).await;
}

#[tokio::test]
async fn what_makes_no_rotation_is_refused() {
    let server = Server::start().await;
    rotation::what_makes_no_rotation_is_refused(&Callers::new(vec![server.admin()])).await;
}

#[tokio::test]
async fn the_value_before_goes_at_its_time() {
    let server = Server::start().await;
    let (callers, worker) = (Callers::new(vec![server.admin()]), rotation::reader(&server.admin()).await);
    rotation::the_value_before_goes_at_its_time(&callers, &worker).await;
}

#[tokio::test]
async fn the_value_before_goes_once_every_worker_has_the_new_one() {
    let server = Server::start().await;
    let (callers, worker) = (Callers::new(vec![server.admin()]), rotation::reader(&server.admin()).await);
    rotation::the_value_before_goes_once_every_worker_has_the_new_one(&callers, &worker).await;
}

#[tokio::test]
async fn who_never_says_is_waited_for_until_the_time_is_over() {
    let server = Server::start().await;
    let (callers, worker) = (Callers::new(vec![server.admin()]), rotation::reader(&server.admin()).await);
    rotation::who_never_says_is_waited_for_until_the_time_is_over(&callers, &worker).await;
}

#[tokio::test]
async fn the_value_before_is_carried_nowhere() {
    let server = Server::start().await;
    let (callers, worker) = (Callers::new(vec![server.admin()]), rotation::reader(&server.admin()).await);
    rotation::the_value_before_is_carried_nowhere(&callers, &worker).await;
}

#[tokio::test]
async fn use_of_keys_is_told() {
    let server = Server::start().await;
    use_is_told_and_makes_no_revision(&Callers::new(vec![server.admin()])).await;
}

#[tokio::test]
async fn keys_are_told_within_the_grants() {
    let server = Server::start().await;
    let callers = Callers::new(vec![server.admin()]);
    prepare(&callers).await;
    let admin = server.admin();
    let whole = admin.colleague("reads", &Rights::worker(vec![by_prefix("providers/")], true)).await;
    let request = GetActiveApiKeyRequest {
        whose: Some(Whose::Provider("providers/a".into())),
        include_secrets: true,
        ..Default::default()
    };
    let opened = whole.api_key().get_active_api_key(request.clone()).await.unwrap().into_inner();
    let Some(Spec::ApiKey(spec)) = opened.api_key.unwrap().spec else { panic!("no key") };
    assert_eq!(spec.secret.unwrap().value(), "sk-0123456789");
    let status = admin.api_key().get_active_api_key(request).await.unwrap_err();
    assert_eq!(refusal(&status).1, "SECRETS_DENIED");

    let narrow = admin.colleague("narrow", &Rights::worker(vec![by_name(KEY)], false)).await;
    let key = active_key(&narrow, Whose::Provider("providers/a".into()), "").await.unwrap();
    assert_eq!(key.api_key.unwrap().name, KEY);
    for other in ["providers/b", "providers/none"] {
        let status = active_key(&narrow, Whose::Provider(other.into()), "").await.unwrap_err();
        assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::PermissionDenied, "NOT_GRANTED"));
    }
    let used = |name: &str| vec![ApiKeyUsage { name: name.to_owned(), last_used_at: None }];
    assert_eq!(record(&narrow, used(KEY)).await.unwrap(), Vec::<String>::new());
    // One beyond the grants, and nothing is recorded of the others.
    let status = record(&narrow, [used(KEY), used("providers/b/apiKeys/k")].concat()).await.unwrap_err();
    let (code, _, field, _) = refusal(&status);
    assert_eq!((code, field.as_str()), (Code::PermissionDenied, "usages[1].name"));
    let viewer = admin.colleague("viewer", &Rights { role: Role::Viewer, ..Rights::viewer() }).await;
    assert_eq!(record(&viewer, used(KEY)).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn usages_are_held_to_their_bounds() {
    let server = Server::start().await;
    let admin = server.admin();
    prepare(&Callers::new(vec![server.admin()])).await;
    let call = async |usages: Vec<ApiKeyUsage>| {
        let status =
            admin.api_key().record_api_key_usage(RecordApiKeyUsageRequest { usages }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        violations.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let usage = |name: &str, seconds: i64, nanos: i32| ApiKeyUsage {
        name: name.to_owned(),
        last_used_at: Some(prost_types::Timestamp { seconds, nanos }),
    };
    assert_eq!(call(vec![]).await, ["usages"]);
    assert_eq!(call(vec![usage(KEY, 1, 0); 1001]).await, ["usages"]);
    let wrong = vec![
        usage("", 1, 0),
        usage("providers/a", 1, 0),
        usage(KEY, -1, 0),
        usage(KEY, 1, -1),
        usage(KEY, 1, 1_000_000_000),
        usage(KEY, i64::MAX, 0),
    ];
    let fields = ["usages[0].name", "usages[1].name"].into_iter().map(str::to_owned);
    let times = (2..6).map(|index| format!("usages[{index}].last_used_at"));
    assert_eq!(call(wrong).await, fields.chain(times).collect::<Vec<_>>());
}

/// What was taken just before the stop is written by it.
#[tokio::test]
async fn a_stop_writes_what_was_seen() {
    let mut server = Server::start().await;
    prepare(&Callers::new(vec![server.admin()])).await;
    let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000 };
    let usage = ApiKeyUsage { name: KEY.to_owned(), last_used_at: Some(time) };
    record(&server.admin(), vec![usage]).await.unwrap();
    server.restart().await;
    assert_eq!(seen(&server.admin(), KEY).await[0].time, Some(time));
    wait_for_use(&server.admin(), KEY, 1_700_000_000).await;
}
