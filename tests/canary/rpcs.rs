//! Every method of every service of ours, called in every way that a body and a caller can be right or wrong.

use std::sync::Arc;

use prost::Message as _;
use signalbox::proto::{
    DESCRIPTOR_POOL,
    v1::{
        CreateResourceRequest, CreateTokenResponse, DatabaseSpec, DatabaseType, GetResourceRequest,
        ListResourcesRequest, ProviderSpec, ProviderType, Resource, WatchConfigRequest, resource::Spec,
    },
};
use tonic::transport::Channel;

use crate::{
    api::{Api, api_key, new_token, provider, router, secret, secret_setting, setting},
    calls::{Answer, call},
    cases::{self, Case},
    harness::{Home, Server, calls::channel, http::get},
    in_use::{LOCAL, LOCAL_DATABASE},
    rest,
    trail::Trail,
};

const NOT_UTF8: &str = "not UTF-8";

/// Makes another body of a body.
type Spoil = fn(Vec<u8>) -> Vec<u8>;

/// How a body is spoilt. For one of them the canary ends in a character that stands for a byte that no text holds.
const SPOILT: [(&str, Spoil); 5] = [
    ("cut short", |mut body| {
        body.pop();
        body
    }),
    ("with a field of another type", |body| [&[0x08, 0x01], &body[..]].concat()),
    (NOT_UTF8, |body| body.into_iter().map(|byte| if byte == 0x7f { 0xff } else { byte }).collect()),
    ("too large", |body| [&body[..], &field(&vec![b'x'; 1 << 20])].concat()),
    ("endless", |body| [&body[..], &[0x0b; 5000]].concat()),
];

/// A field that no message has.
fn field(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(2047, &content.to_vec(), &mut bytes);
    bytes
}

/// Everything that a call needs.
struct Run<'a> {
    trail: &'a Trail,
    channel: Channel,
    number: std::cell::Cell<usize>,
}

impl Run<'_> {
    /// Calls with a new canary; what the answer tells must not hold it.
    async fn call(&self, method: &str, case: &Case, how: &str, spoil: Spoil, token: Option<&str>) -> Answer {
        let what = format!("{method}, {}, {how}", case.what);
        let canary = self.trail.canary(&what);
        // Only the one that asks for it gets the stand-in; it is a control character.
        let sent = if how == NOT_UTF8 { format!("{canary}\u{7f}") } else { canary };
        self.number.set(self.number.get() + 1);
        let mut body = (case.body)(&sent, self.number.get());
        body.extend(field(sent.as_bytes()));
        let (service, name) = method.rsplit_once('.').expect("a method of a service");
        let answer = call(&self.channel, &format!("/{service}/{name}"), spoil(body), token).await;
        self.trail.saw(format!("the error of {what}"), &answer.told());
        let reads = case.what == "with secrets" && how == "by a worker that reads";
        match (CreateTokenResponse::decode(answer.body.as_slice()), method.ends_with(".CreateToken")) {
            // The one answer that is there to hold a token.
            (Ok(made), true) => assert!(answer.error.is_some() || made.token.starts_with("eyJ"), "{what}"),
            _ if reads => {}
            _ => self.trail.saw(format!("the answer to {what}"), &answer.body),
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_goes_through_the_api_is_found_anywhere_else() {
    let trail = Trail::new();
    let home = Home::new().with("RUST_LOG", "trace");
    let hidden = trail.canary("a setting in the environment");
    let home = Arc::new(home.with("SIGNALBOX_SETTING_HIDDEN_API_KEY", hidden));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    for key in ["encryption.key", "jwt.key"] {
        trail.known(key, std::fs::read_to_string(home.path("data").join(key)).unwrap().trim());
    }
    prepare(&server, &trail).await;
    let token = async |arguments: &[&str]| {
        new_token(&server, &[&["--selector", "*", "--role"], arguments].concat()).await
    };
    let forged = format!("{}x", server.admin_token());
    let (reads, worker, viewer) =
        (token(&["worker", "--secrets"]).await, token(&["worker"]).await, token(&["viewer"]).await);
    let nobody = trail.canary("a bearer that is no token");
    let others = [
        ("by a worker that reads", Some(reads.as_str())),
        ("by a worker", Some(worker.as_str())),
        ("by a viewer", Some(viewer.as_str())),
        ("with a forged token", Some(forged.as_str())),
        ("with no token of ours", Some(nobody.as_str())),
        ("by nobody", None),
    ];
    let run = Run { trail: &trail, channel: channel(server.address()).await, number: 0.into() };
    let admin = server.admin_token();
    let mut methods = 0;
    for service in DESCRIPTOR_POOL.services().filter(|service| service.package_name() == "signalbox.v1") {
        for method in service.methods() {
            methods += 1;
            for case in cases::of(method.full_name()) {
                let whole = run.call(method.full_name(), &case, "as it is", |body| body, Some(&admin)).await;
                let done = whole.error.is_none();
                assert_eq!(done, case.succeeds, "{}, {}: {:?}", method.full_name(), case.what, whole.error);
                for (how, spoil) in SPOILT {
                    run.call(method.full_name(), &case, how, spoil, Some(&admin)).await;
                }
                for (how, token) in others {
                    run.call(method.full_name(), &case, how, |body| body, token).await;
                }
            }
        }
    }
    assert!(methods >= 12, "the descriptors have {methods} methods");
    only_who_may_read_is_told(&run, &trail, &reads).await;
    rest::every_case(&server, &trail).await;
    for path in ["/metrics", "/diagnostics", "/readyz", "/livez"] {
        trail.saw(format!("the page {path}"), get(server.http_address(), path, &admin).await.body.as_bytes());
    }
    assert!(trail.shows("the page /metrics", "code=\"INVALID_ARGUMENT\""), "what was called is counted");
    // The write-ahead log and its index are there while the server runs only.
    trail.saw_files(&home);
    server.stop().await;
    trail.saw_files(&home);
    assert!(trail.shows("server.log", "TRACE") && trail.shows("server.out", "is ready"));
    assert!(trail.shows("signalbox.db", "shown-to-all"), "the database is searched");
    assert!(trail.shows("signalbox.db-wal", "shown-to-all"), "the write-ahead log is searched");
    assert!(trail.shows("the answer to signalbox.v1.ConfigService.ListResources", "shown-to-all"));
    let leaks = trail.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks[..leaks.len().min(40)].join("\n"));
}

/// What the cases build on.
async fn prepare(server: &Server, trail: &Trail) {
    let mut api = Api::admin(server).await;
    api.create("providers/groq", provider(&[("x-tenant", &trail.canary("a header at first"))])).await;
    api.create("settings/pass", secret_setting(&trail.canary("a setting at first"))).await;
    api.create("settings/open", setting("shown-to-all")).await;
    api.create("providers/groq/apiKeys/used", api_key(&trail.canary("a key at first"))).await;
    let local = ProviderSpec {
        r#type: ProviderType::Openai.into(),
        base_url: "http://127.0.0.1:9".into(),
        ..Default::default()
    };
    api.create(LOCAL, Spec::Provider(local)).await;
    api.create(&format!("{LOCAL}/apiKeys/k"), api_key(&trail.canary("a key that is tested"))).await;
    let database = DatabaseSpec {
        r#type: DatabaseType::Postgresql.into(),
        host: "127.0.0.1".into(),
        password: Some(secret(&trail.canary("a password that is tested"))),
        ..Default::default()
    };
    api.create(LOCAL_DATABASE, Spec::Database(database)).await;
    api.create("routers/default", router("providers/groq")).await;
    let request = CreateResourceRequest {
        resource: Some(Resource {
            name: "settings/used".into(),
            spec: Some(secret_setting(&trail.canary("a request with an id"))),
            ..Default::default()
        }),
        request_id: "used".into(),
        ..Default::default()
    };
    api.config.create_resource(request).await.expect("the first of this id");
}

/// The search works on answers, and secrets come to whom they are for.
async fn only_who_may_read_is_told(run: &Run<'_>, trail: &Trail, token: &str) {
    let name = "settings/used".to_owned();
    let get = GetResourceRequest { name, include_secrets: true, ..Default::default() }.encode_to_vec();
    let list = ListResourcesRequest { include_secrets: true, ..Default::default() }.encode_to_vec();
    let watch = WatchConfigRequest { include_secrets: true, ..Default::default() }.encode_to_vec();
    for (method, body) in [("GetResource", get), ("ListResources", list), ("WatchConfig", watch)] {
        let path = format!("/signalbox.v1.ConfigService/{method}");
        let answer = call(&run.channel, &path, body, Some(token)).await;
        assert!(answer.error.is_none(), "{method}: {:?}", answer.error);
        let found = Trail::new();
        found.saw(method, &answer.body);
        assert_eq!(found.leaks().len(), 1, "{method} tells a worker that reads");
        trail.saw(format!("the error of {method}"), &answer.told());
    }
}

#[test]
#[should_panic(expected = "has no canary case")]
fn a_method_without_a_case_is_noticed() {
    cases::of("signalbox.v1.ConfigService.NotYetThere");
}
