//! Providers that are asked by the server itself, on this machine: what is sent, what is told of it, and what is not.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{
    ApiKeySpec, DiscoverModelsRequest, DiscoveredProvider, GetResourceRequest, ProbeReason, ProbeStep,
    ProviderSpec, ProviderType, RenderRequestRequest, Resource, Role, TestProviderRequest,
    TestProviderResponse, resource::Spec,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    attempt,
    harness::{Home, PATIENCE, Server as Process, within},
    support::{
        active::refusal,
        caller::{Caller, Rights},
        keys::seen,
        resources::{api_key, by_name, by_prefix, given, named, with_header},
        server::Server,
        upstream::Upstream,
        writer::Op,
    },
};

const KEY: &str = "xai-Abc123def456ghi789";
const TEAM: &str = "blue-team-77";
const LIST: &str = r#"{"object": "list", "data": [{"id": "m1"}, {"id": "m2"}]}"#;
const CHAT: &str = r#"{"choices": [{"message": {"content": "OK"}, "finish_reason": "stop"}]}"#;
const ALLOWED: &[(&str, &str)] = &[("allow-outbound", "127.0.0.1")];

fn at(name: &str, kind: ProviderType, base_url: String) -> Resource {
    let spec =
        ProviderSpec { r#type: kind.into(), base_url, default_model: "m1".into(), ..Default::default() };
    named(name, Spec::Provider(spec))
}

/// A server that may call this machine, and `providers/a` with a key and a sealed header at an upstream.
async fn furnished(upstream: &Upstream, flags: &[(&'static str, &str)]) -> Server {
    let server = Server::with(flags).await;
    let provider = with_header(at("providers/a", ProviderType::Openai, upstream.url()), "X-Team", TEAM);
    let ops = [provider, api_key("providers/a/apiKeys/k", KEY)].map(Op::Create).to_vec();
    attempt(&server.admin(), ops).await.unwrap();
    server
}

async fn test(
    caller: &Caller,
    change: impl FnOnce(&mut TestProviderRequest),
) -> Result<TestProviderResponse, Status> {
    let mut request = TestProviderRequest { name: "providers/a".into(), ..Default::default() };
    change(&mut request);
    let answer = caller.provider().test_provider(request).await?.into_inner();
    assert!(!holds_a_secret(&format!("{answer:?}")), "{answer:?}");
    Ok(answer)
}

async fn discover(caller: &Caller, names: &[&str]) -> Result<Vec<DiscoveredProvider>, Status> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let answer = caller.provider().discover_models(DiscoverModelsRequest { names }).await?.into_inner();
    assert!(!holds_a_secret(&format!("{answer:?}")), "{answer:?}");
    Ok(answer.providers)
}

/// Any six characters in a row of what was sent.
fn holds_a_secret(text: &str) -> bool {
    let shows = |secret: &str| (0..=secret.len() - 6).any(|place| text.contains(&secret[place..place + 6]));
    shows(KEY) || shows(TEAM)
}

fn steps(answer: &TestProviderResponse) -> Vec<(ProbeStep, ProbeReason, u32)> {
    let one = |attempt: &signalbox::proto::v1::ProbeAttempt| {
        assert!(attempt.latency.is_some());
        (attempt.step(), attempt.reason(), attempt.http_status)
    };
    answer.attempts.iter().map(one).collect()
}

fn ids(provider: &DiscoveredProvider) -> Vec<&str> {
    provider.models.iter().map(|model| model.id.as_str()).collect()
}

/// Waits until something was seen of a resource, and gives its value.
pub async fn remembered(caller: &Caller, name: &str, what: &str) -> String {
    within(PATIENCE, "the observation", async {
        loop {
            if let Some(found) = seen(caller, name).await.into_iter().find(|one| one.what == what) {
                return found.value_json;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_provider_is_tried_by_the_requests_of_workers() {
    let upstream =
        Upstream::start(&[("/models", "200 OK", LIST), ("/chat/completions", "200 OK", CHAT)]).await;
    let server = furnished(&upstream, ALLOWED).await;
    let admin = server.admin();
    let before = admin.status().await;
    let answer = test(&admin, |_| ()).await.unwrap();
    assert_eq!((answer.reason(), answer.description.as_str()), (ProbeReason::Ok, ""));
    let well = |step| (step, ProbeReason::Ok, 200);
    assert_eq!(steps(&answer), [well(ProbeStep::ListModels), well(ProbeStep::Chat)]);
    assert_eq!((answer.api_key.as_str(), answer.model.as_str()), ("providers/a/apiKeys/k", "m1"));
    assert!(answer.latency.is_some() && answer.time.is_some());

    // What was sent is what a worker is told to send, with the secrets in their places.
    let heard = upstream.heard();
    assert_eq!(heard.len(), 2);
    let render = RenderRequestRequest {
        name: "providers/a".into(),
        messages: vec![signalbox::proto::v1::ChatMessage {
            role: signalbox::proto::v1::ChatRole::User.into(),
            text: "Reply with the word OK.".into(),
            ..Default::default()
        }],
        generation: Some(signalbox::proto::v1::GenerationParameters {
            max_tokens: Some(16),
            ..Default::default()
        }),
        ..Default::default()
    };
    let rendered = admin.provider().render_request(render).await.unwrap().into_inner();
    assert!(heard[1].ends_with(&format!("\r\n\r\n{}", rendered.body_json)), "{}", heard[1]);
    for request in &heard {
        let lines = request.to_ascii_lowercase();
        assert!(lines.contains(&format!("authorization: bearer {}", KEY.to_ascii_lowercase())), "{request}");
        assert!(lines.contains(&format!("x-team: {TEAM}")), "{request}");
    }

    let kept = remembered(&admin, "providers/a", "test").await;
    assert!(kept.contains(r#""reason":"OK""#) && !kept.contains("apiKeys"), "{kept}");
    let after = admin.status().await;
    assert_eq!((before.revision, before.digest), (after.revision, after.digest), "a test is no change");
    assert_eq!(audited(&server, "provider_tested").await, ["providers/a with providers/a/apiKeys/k"]);
}

/// The particulars of an event, as they lie in the audit.
pub async fn audited(server: &Server, event: &str) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(server.data().join("signalbox.db"));
    let mut database = options.connect().await.unwrap();
    let rows = sqlx::query("SELECT detail FROM audit WHERE event = $1 ORDER BY id").bind(event);
    let found = rows.fetch_all(&mut database).await.unwrap().iter().map(|row| row.get(0)).collect();
    database.close().await.unwrap();
    found
}

#[tokio::test]
async fn failures_have_their_reasons_and_no_part_of_a_key() {
    let upstream = Upstream::start(&[("/models", "200 OK", LIST)]).await;
    let server = furnished(&upstream, ALLOWED).await;
    let admin = server.admin();
    let told =
        |message: &str, code: &str| format!(r#"{{"error": {{"code": "{code}", "message": "{message}"}}}}"#);
    let large = "x".repeat(2 << 20);
    let echo = told(&format!("you sent {KEY} and {TEAM}, {}", &KEY[4..14]), "x");
    use ProbeReason as Is;
    for (status, body, reason, message) in [
        (
            "401 Unauthorized",
            told("Incorrect API key provided: xa***89", "invalid_api_key"),
            Is::BadKey,
            "Incorrect API key provided: [removed]",
        ),
        ("403 Forbidden", told("no", "x"), Is::PermissionDenied, "no"),
        ("404 Not Found", told("no such model", "x"), Is::NotFound, "no such model"),
        ("429 Too Many Requests", told("slow down", "x"), Is::RateLimited, "slow down"),
        ("400 Bad Request", echo, Is::InvalidRequest, "you sent [removed] and [removed]"),
        ("500 Internal Server Error", large.clone(), Is::TooLarge, ""),
        ("503 Service Unavailable", "<html>".to_owned(), Is::Unavailable, ""),
        ("200 OK", "<html>".to_owned(), Is::BadAnswer, ""),
        ("200 OK", large, Is::TooLarge, ""),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", String::new(), Is::Redirected, ""),
    ] {
        upstream.set("/chat/completions", status, body);
        let answer = test(&admin, |_| ()).await.unwrap();
        assert_eq!((answer.reason(), answer.provider_message.as_str()), (reason, message), "{status}");
        assert!(!answer.description.is_empty() && answer.attempts.len() == 2, "{answer:?}");
    }
    // A list that fails decides, unless there is none at all.
    upstream.set("/chat/completions", "200 OK", CHAT);
    for (status, body, steps, reason) in [
        ("404 Not Found", "{}", 2, Is::Ok),
        ("405 Method Not Allowed", "{}", 2, Is::Ok),
        ("200 OK", "<html>", 2, Is::Ok),
        ("401 Unauthorized", r#"{"error": {"code": "invalid_api_key"}}"#, 1, Is::BadKey),
        ("429 Too Many Requests", "{}", 1, Is::RateLimited),
    ] {
        upstream.set("/models", status, body);
        let answer = test(&admin, |_| ()).await.unwrap();
        assert_eq!((answer.reason(), answer.attempts.len()), (reason, steps), "{status}");
    }
    drop(upstream);
    within(PATIENCE, "the refusal", async {
        while test(&admin, |_| ()).await.unwrap().reason() != Is::Refused {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_to_where_the_operator_does_not_allow_it() {
    let upstream =
        Upstream::start(&[("/models", "200 OK", LIST), ("/chat/completions", "200 OK", CHAT)]).await;
    for allowed in ["", "localhost", "127.0.0.2,10.0.0.0/8", "127.0.0.1:1"] {
        let flags = [("allow-outbound", allowed)];
        let server = furnished(&upstream, if allowed.is_empty() { &[] } else { &flags }).await;
        let answer = test(&server.admin(), |_| ()).await.unwrap();
        assert_eq!(answer.reason(), ProbeReason::EgressRefused, "{allowed}: {answer:?}");
        assert!(answer.description.contains("--allow-outbound"), "{}", answer.description);
        let found = discover(&server.admin(), &["providers/a"]).await.unwrap();
        assert_eq!((found[0].reason(), found[0].models.len()), (ProbeReason::EgressRefused, 0));
    }
    assert_eq!(upstream.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_has_to_be_there_and_to_be_readable() {
    let upstream =
        Upstream::start(&[("/models", "200 OK", LIST), ("/chat/completions", "200 OK", CHAT)]).await;
    let mut server = furnished(&upstream, ALLOWED).await;
    let admin = server.admin();
    let off =
        ApiKeySpec { secret: Some(given("sk-of-the-other")), active: Some(false), ..Default::default() };
    let others = [
        at("providers/b", ProviderType::Openai, upstream.url()),
        named("providers/b/apiKeys/off", Spec::ApiKey(off)),
        at("providers/free", ProviderType::Ollama, upstream.url()),
    ];
    attempt(&admin, others.map(Op::Create).to_vec()).await.unwrap();
    let none = test(&admin, |request| request.name = "providers/b".into()).await.unwrap();
    assert_eq!((none.reason(), none.attempts.len()), (ProbeReason::NoKey, 0));
    assert_eq!(discover(&admin, &["providers/b"]).await.unwrap()[0].reason(), ProbeReason::NoKey);
    assert_eq!(upstream.heard(), Vec::<String>::new());
    // Before it is activated it can be tried.
    let named = test(&admin, |request| {
        (request.name, request.api_key) = ("providers/b".into(), "providers/b/apiKeys/off".into());
    });
    assert_eq!(named.await.unwrap().reason(), ProbeReason::Ok);
    assert!(upstream.heard()[0].contains("Bearer sk-of-the-other"));
    // Who wants none gets none.
    upstream.set("/api/tags", "200 OK", r#"{"models": [{"name": "llama3"}]}"#);
    let free = discover(&admin, &["providers/free"]).await.unwrap();
    assert_eq!((free[0].reason(), ids(&free[0])), (ProbeReason::Ok, vec!["llama3"]));
    assert!(!upstream.heard()[0].to_ascii_lowercase().contains("authorization"));

    // A value that was taken out of the store is not replaced by anything.
    server.stop().await;
    let options = SqliteConnectOptions::new().filename(server.data().join("signalbox.db"));
    let mut database = options.connect().await.unwrap();
    sqlx::query("DELETE FROM secrets").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    server.resume().await;
    let admin = server.admin();
    for name in ["providers/a", "providers/b"] {
        let answer = test(&admin, |request| {
            request.name = name.into();
            if name == "providers/b" {
                request.api_key = "providers/b/apiKeys/off".into();
            }
        });
        let answer = answer.await.unwrap();
        assert_eq!((answer.reason(), answer.attempts.len()), (ProbeReason::KeyUnreadable, 0), "{name}");
    }
    assert_eq!(discover(&admin, &["providers/a"]).await.unwrap()[0].reason(), ProbeReason::KeyUnreadable);
    assert_eq!(upstream.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_and_nothing_is_sent() {
    let upstream = Upstream::start(&[("/models", "200 OK", LIST)]).await;
    let server = furnished(&upstream, ALLOWED).await;
    let admin = server.admin();
    for rights in [Rights::viewer(), Rights::worker(vec![by_prefix("providers/")], true)] {
        let other = admin.colleague("other", &rights).await;
        assert_eq!(test(&other, |_| ()).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(discover(&other, &[]).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let narrow = |grants| Rights { role: Role::Admin, ..Rights::worker(grants, false) };
    let beside = admin.colleague("beside", &narrow(vec![by_prefix("providers/b/")])).await;
    for name in ["providers/a", "providers/none"] {
        let status = test(&beside, |request| request.name = name.into()).await.unwrap_err();
        assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::PermissionDenied, "NOT_GRANTED"));
        let status = discover(&beside, &[name]).await.unwrap_err();
        let (code, _, field, _) = refusal(&status);
        assert_eq!((code, field.as_str()), (Code::PermissionDenied, "names[0]"));
    }
    assert_eq!(discover(&beside, &[]).await.unwrap(), []);
    // Who reaches the provider alone does not spend its keys.
    let alone = admin.colleague("alone", &narrow(vec![by_name("providers/a")])).await;
    assert_eq!(test(&alone, |_| ()).await.unwrap().reason(), ProbeReason::NoKey);
    assert_eq!(discover(&alone, &[]).await.unwrap()[0].reason(), ProbeReason::NoKey);
    let status = test(&alone, |request| request.api_key = "providers/a/apiKeys/k".into()).await.unwrap_err();
    let (code, _, field, _) = refusal(&status);
    assert_eq!((code, field.as_str()), (Code::PermissionDenied, "api_key"));

    let fields = |status: Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let bad = status.get_error_details().bad_request().unwrap().field_violations.clone();
        bad.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let bad = test(&admin, |request| {
        (request.name, request.api_key, request.model) = ("settings/x".into(), "x".into(), "a\nb".into());
    });
    assert_eq!(fields(bad.await.unwrap_err()), ["name", "api_key", "model"]);
    let foreign = test(&admin, |request| request.api_key = "providers/b/apiKeys/k".into());
    assert_eq!(fields(foreign.await.unwrap_err()), ["api_key"]);
    let twice = discover(&admin, &["providers/a", "providers/a", "tools/t"]).await.unwrap_err();
    assert_eq!(fields(twice), ["names[1]", "names[2]"]);
    assert_eq!(fields(discover(&admin, &["providers/a"; 33]).await.unwrap_err())[0], "names");
    let status = test(&admin, |request| request.name = "providers/none".into()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut fixed = at("providers/fixed", ProviderType::Openai, upstream.url());
    if let Some(Spec::Provider(spec)) = &mut fixed.spec {
        spec.models = vec!["m1".into()];
    }
    attempt(&admin, vec![Op::Create(fixed)]).await.unwrap();
    let unknown =
        test(&admin, |request| (request.name, request.model) = ("providers/fixed".into(), "m2".into()));
    assert_eq!(fields(unknown.await.unwrap_err()), ["model"]);
    assert_eq!(upstream.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn models_are_listed_to_the_last_page_and_remembered() {
    let page = |ids: &str, more: bool, last: &str| {
        format!(r#"{{"data": [{ids}], "has_more": {more}, "last_id": "{last}"}}"#)
    };
    let upstream = Upstream::start(&[]).await;
    let first = format!(
        r#"{{"id": "c1", "display_name": "One"}}, {{"id": "{KEY}"}}, {{"id": "c{}"}}"#,
        "x".repeat(300)
    );
    upstream.set("/models?limit=1000", "200 OK", page(&first, true, "c1"));
    upstream.set(
        "/models?limit=1000&after_id=c1",
        "200 OK",
        page(r#"{"id": "c2"}, {"id": "c1"}"#, false, "c2"),
    );
    let server = Server::with(ALLOWED).await;
    let admin = server.admin();
    let ops =
        [at("providers/a", ProviderType::Anthropic, upstream.url()), api_key("providers/a/apiKeys/k", KEY)];
    attempt(&admin, ops.map(Op::Create).to_vec()).await.unwrap();
    let before = admin.status().await.revision;
    let found = discover(&admin, &[]).await.unwrap();
    assert_eq!((found[0].reason(), ids(&found[0])), (ProbeReason::Ok, vec!["c1", "c2"]));
    assert_eq!(found[0].models[0].display_name, "One");
    let time = found[0].list_time.expect("a time");
    let kept = remembered(&admin, "providers/a", "models").await;
    assert!(kept.contains(r#"{"id":"c1","display_name":"One"}"#) && !holds_a_secret(&kept), "{kept}");
    assert_eq!(audited(&server, "models_discovered").await, ["providers/a with providers/a/apiKeys/k"]);

    // A list that breaks off is no list.
    upstream.set("/models?limit=1000&after_id=c1", "500 Internal Server Error", "{}");
    upstream.set("/models?limit=1000", "200 OK", page(r#"{"id": "other"}"#, true, "c1"));
    let found = discover(&admin, &["providers/a"]).await.unwrap();
    assert_eq!((found[0].reason(), ids(&found[0])), (ProbeReason::Unavailable, vec!["c1", "c2"]));
    assert_eq!(found[0].list_time.map(|at| at.seconds), Some(time.seconds));
    // One that never ends, does.
    upstream.set("/models?limit=1000&after_id=c1", "200 OK", page(r#"{"id": "again"}"#, true, "c1"));
    let found = discover(&admin, &["providers/a"]).await.unwrap();
    assert!(found[0].reason() == ProbeReason::Ok && found[0].truncated, "{found:?}");
    let get = GetResourceRequest { name: "providers/a".into(), ..Default::default() };
    let resource = admin.config().get_resource(get).await.unwrap().into_inner().resource.unwrap();
    let Some(Spec::Provider(spec)) = resource.spec else { panic!("no provider") };
    assert_eq!((spec.models, admin.status().await.revision), (vec![], before), "what is configured stays");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_holds_up_no_other() {
    let upstream = Upstream::start(&[("/models", "200 OK", LIST)]).await;
    // Connections are taken by the system, and nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = furnished(&upstream, ALLOWED).await;
    let admin = server.admin();
    let dead = format!("http://{}", silent.local_addr().unwrap());
    let mut ops = Vec::new();
    for id in ["d1", "d2", "d3"] {
        ops.push(Op::Create(at(&format!("providers/{id}"), ProviderType::Openai, dead.clone())));
        ops.push(Op::Create(api_key(&format!("providers/{id}/apiKeys/k"), KEY)));
    }
    attempt(&admin, ops).await.unwrap();
    let begun = Instant::now();
    let found = discover(&admin, &[]).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "each has the same ten seconds: {:?}",
        begun.elapsed()
    );
    let told: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.reason())).collect();
    let late = |name| (name, ProbeReason::Timeout);
    let well = ("providers/a", ProbeReason::Ok);
    assert_eq!(told, [well, late("providers/d1"), late("providers/d2"), late("providers/d3")]);
    assert!(found[0].latency.unwrap().seconds < 5, "{:?}", found[0].latency);
}

/// Also: the variables that send other programs through a proxy send nothing of this one there.
#[tokio::test]
async fn the_command_line_tests_and_discovers() {
    let upstream =
        Upstream::start(&[("/models", "200 OK", LIST), ("/chat/completions", "200 OK", CHAT)]).await;
    let proxy = Upstream::start(&[]).await;
    let mut home = Home::new().with("RUST_LOG", "trace").with("UPSTREAM_KEY", KEY);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        home = home.with(name, proxy.url());
    }
    let home = std::sync::Arc::new(home);
    let flags = ["--allow-outbound", "localhost", "--allow-outbound", "127.0.0.1:1,127.0.0.1"];
    let server = Process::start_in_with(&home, &flags).await;
    let run = async |arguments: &[&str]| {
        let output = server.run(arguments).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let url = format!("base_url={}", upstream.url());
    let made = run(&[
        "set",
        "providers/a",
        "--field",
        "type=OLLAMA",
        "--field",
        &url,
        "--field",
        "default_model=m1",
    ])
    .await;
    assert_eq!(made.0, Some(0), "{made:?}");
    upstream.set("/api/tags", "200 OK", r#"{"models": [{"name": "llama3"}]}"#);
    let (code, told, _) = run(&["discover", "a"]).await;
    assert!(code == Some(0) && told.contains("providers/a") && told.contains("llama3"), "{told}");
    let (code, told, _) = run(&["test", "a", "--model", "m9"]).await;
    assert!(code == Some(1) && told.contains("NOT_FOUND") && told.contains("what to do"), "{told}");
    let (code, told, _) = run(&["test", "providers/a", "-o", "json"]).await;
    assert!(code == Some(1) && told.contains("\"reason\": \"PROBE_REASON_NOT_FOUND\""), "{told}");
    upstream.set("/api/tags", "503 Service Unavailable", "{}");
    // What was listed is remembered within a second.
    within(PATIENCE, "the last list", async {
        loop {
            let (code, told, warned) = run(&["discover"]).await;
            assert!(code == Some(1) && warned.contains("UNAVAILABLE"), "{told} {warned}");
            if told.contains("llama3") {
                return;
            }
        }
    })
    .await;
    assert_eq!(proxy.heard(), Vec::<String>::new());

    // What is sent stands in no log, however much is logged.
    upstream.set("/models", "200 OK", LIST);
    let made = run(&["set", "providers/b", "--field", "type=OPENAI", "--field", &url]).await;
    let stored = run(&["set", "providers/b/apiKeys/k", "--secret", "env:UPSTREAM_KEY"]).await;
    assert_eq!((made.0, stored.0), (Some(0), Some(0)), "{made:?} {stored:?}");
    upstream.heard();
    let (code, told, _) = run(&["test", "b"]).await;
    assert!(code == Some(0) && upstream.heard()[0].contains(KEY), "{told}");
    server.stop().await;
    assert!(home.log().contains("TRACE") && !holds_a_secret(&home.log()) && !holds_a_secret(&told));
}
