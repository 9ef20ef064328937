//! Calls of models: a local server speaks each family of providers, as the vectors have it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost_reflect::{DynamicMessage, ReflectMessage};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    client::{ClientOptions, Environment, Filled, SecretError, testing::Fake},
    domain::{FeatureLevel, Spec as DomainSpec},
    kinds,
    proto::v1::{
        ApiKeySpec, CallFailure, ChatMessage, ChatRole, ProviderSpec, RetryPolicy, RouterSpec,
        RouterTimeouts, RoutingStrategy, Secret, ToolSpec, resource::Spec, secret::State,
    },
    wire::{Reason, StreamFailure},
};

#[derive(Deserialize)]
struct Vectors {
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    family: String,
    provider: Value,
    answers: Vec<Case>,
    streams: Vec<Case>,
    errors: Vec<ErrorCase>,
}

#[derive(Deserialize)]
struct Case {
    body: Value,
    expect: Option<Value>,
}

#[derive(Deserialize)]
struct ErrorCase {
    status: u16,
    body: Option<Value>,
    text: Option<String>,
    expect: Value,
}

fn families() -> Vec<Family> {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../tests/vectors/wire.json")).expect("the vectors");
    assert!(vectors.families.len() >= 15);
    vectors.families
}

/// A provider as it is stored once somebody has written this of it.
fn stored(written: &Value) -> ProviderSpec {
    let descriptor = ProviderSpec::default().descriptor();
    let read = DynamicMessage::deserialize(descriptor, written.clone()).expect("a provider");
    let mut spec = DomainSpec::Provider(read.transcode_to().expect("a provider"));
    let (name, kind) = kinds::parse_name("providers/some").expect("a name");
    kind.fill_defaults(&mut spec, &name);
    kind.fill_newer_defaults(&mut spec, FeatureLevel::CURRENT);
    let DomainSpec::Provider(spec) = spec else { unreachable!("it is a provider") };
    spec
}

/// What is answered: a status (0 cuts the connection), a body, and a pause in its middle.
type Page = (u16, Vec<u8>, Duration);

/// A request as it was heard: its first segment, its head, its body.
type Heard = (String, String, Value);

/// An HTTP server that answers, by the first segment of the path, what a test has laid ready.
struct Speaker {
    url: String,
    ready: Arc<Mutex<BTreeMap<String, Vec<Page>>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Speaker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let speaker = Self { url, ready: Arc::default(), heard: Arc::default() };
        let (ready, heard) = (speaker.ready.clone(), speaker.heard.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away in the middle is part of what is tested.
                let serving = serve(stream, ready.clone(), heard.clone());
                tokio::spawn(async move { drop(serving.await) });
            }
        });
        speaker
    }

    /// Answers in their order, the last one for ever.
    fn lay(&self, name: &str, pages: &[(u16, &str)]) {
        let pages = pages.iter().map(|(status, body)| (*status, body.as_bytes().to_vec(), Duration::ZERO));
        self.ready.lock().unwrap().insert(name.to_owned(), pages.collect());
    }

    fn lay_slow(&self, name: &str, body: &str, pause: Duration) {
        let page = (200, body.as_bytes().to_vec(), pause);
        self.ready.lock().unwrap().insert(name.to_owned(), vec![page]);
    }

    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn serve(
    stream: TcpStream,
    ready: Arc<Mutex<BTreeMap<String, Vec<Page>>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let name = head.split('/').nth(1).unwrap_or_default().to_owned();
    heard.lock().unwrap().push((name.clone(), head, serde_json::from_slice(&body).unwrap_or_default()));
    let (status, answer, pause) = {
        let mut ready = ready.lock().unwrap();
        let pages = ready.get_mut(&name).expect("laid ready");
        if pages.len() > 1 { pages.remove(0) } else { pages[0].clone() }
    };
    if status == 0 {
        return Ok(());
    }
    let head = format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (one, other) = answer.split_at(answer.len() / 2);
    stream.write_all(one).await?;
    stream.flush().await?;
    sleep(pause).await;
    stream.write_all(other).await?;
    stream.shutdown().await
}

/// A worker to which every family is configured, with the local server as its address, and a key of its own.
struct Worker {
    fake: Fake,
    speaker: Speaker,
    executor: Executor,
}

fn key(value: &str) -> Spec {
    let secret = Some(Secret { value: Some(value.to_owned()), ..Secret::default() });
    Spec::ApiKey(ApiKeySpec { secret, ..ApiKeySpec::default() })
}

impl Worker {
    async fn start() -> Self {
        let (fake, speaker) =
            (Fake::new(&ClientOptions::new("http://unused")).unwrap(), Speaker::start().await);
        for family in families() {
            let name = &family.family;
            let base_url = format!("{}/{name}", speaker.url);
            let spec = ProviderSpec { base_url, ..stored(&family.provider) };
            fake.put(&format!("providers/{name}"), Spec::Provider(spec));
            fake.put(&format!("providers/{name}/apiKeys/main"), key(&format!("sk-{name}-key-canary")));
        }
        let executor = Executor::new(fake.client()).unwrap();
        Self { fake, speaker, executor }
    }

    fn route(&self, primary: &str, fallbacks: &[&str], change: impl FnOnce(&mut RouterSpec)) {
        let pause = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
        let retries = RetryPolicy {
            max_retries: Some(1),
            initial_backoff: pause,
            max_backoff: pause,
            ..RetryPolicy::default()
        };
        let mut spec = RouterSpec {
            primary: format!("providers/{primary}"),
            fallbacks: fallbacks.iter().map(|id| format!("providers/{id}")).collect(),
            retries: Some(retries),
            ..RouterSpec::default()
        };
        change(&mut spec);
        self.fake.put("routers/default", Spec::Router(spec));
    }

    async fn hello(&self) -> Result<Completion, CompletionError> {
        self.executor.complete("Hello", "m", None, None).await
    }
}

fn body_of(family: &str) -> String {
    let family = families().into_iter().find(|one| one.family == family).unwrap();
    family.answers[0].body.to_string()
}

fn kinds_of(failures: &[AttemptFailure]) -> Vec<Option<CallFailure>> {
    failures.iter().map(|failure| failure.error.kind()).collect()
}

const SAID: &str = "data: {\"choices\": [{\"delta\": {\"content\": \"Hi\"}}]}\n\n";
const END: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn each_family_answers() {
    let worker = Worker::start().await;
    for family in families() {
        let (name, case) = (&family.family, &family.answers[0]);
        worker.speaker.lay(name, &[(200, &case.body.to_string())]);
        let asked = worker.executor.complete("Hello", "some-model", None, None).provider(name);
        let completion = asked.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = case.expect.as_ref().unwrap();
        assert_eq!(json!(completion.text()), expected["text"], "{name}");
        assert_eq!(json!(completion.usage()), expected["usage"], "{name}");
        assert_eq!((&completion.provider, completion.model.as_str()), (name, "some-model"));
        assert_eq!(completion.revision, worker.fake.client().snapshot().revision());
        let [(_, head, body)] = &worker.speaker.heard()[..] else { panic!("{name}: one request") };
        assert_eq!(head.contains(&format!("sk-{name}-key-canary")), name != "ollama", "{head}");
        assert!(!head.contains('{') && body.to_string().contains("Hello"), "{head}");
    }
}

#[tokio::test]
async fn each_family_streams() {
    let worker = Worker::start().await;
    for family in families() {
        let name = &family.family;
        let ask =
            || worker.executor.complete("Hello", "some-model", None, None).provider(name).stream().unwrap();
        let Some(case) = family.streams.first() else {
            let refused = ask().next().await.unwrap().unwrap_err();
            assert!(matches!(&refused, CompletionError::Call(problems) if problems[0].path == "chat.stream"));
            continue;
        };
        worker.speaker.lay(name, &[(200, case.body.as_str().unwrap())]);
        let (mut stream, mut text) = (ask(), String::new());
        while let Some(piece) = stream.next().await {
            text += piece.unwrap_or_else(|error| panic!("{name}: {error}")).text();
        }
        let expected = case.expect.as_ref().unwrap();
        let completion = stream.completion().unwrap();
        assert_eq!(
            (json!(text), json!(completion.usage())),
            (expected["text"].clone(), expected["usage"].clone())
        );
        assert_eq!((completion.text(), &completion.provider), (text.as_str(), name));
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn each_family_refuses_and_no_key_is_told() {
    let worker = Worker::start().await;
    for family in families() {
        let (name, case) = (&family.family, &family.errors[0]);
        let body = case.body.as_ref().map(Value::to_string).or(case.text.clone()).unwrap();
        worker.speaker.lay(name, &[(case.status, &body)]);
        let asked = worker.executor.complete("Hello", "some-model", None, None).provider(name);
        let error = asked.timeout(Duration::from_secs(20)).await.unwrap_err();
        let AttemptError::Refused { failure, .. } = &error.failures()[0].error else { panic!("{error}") };
        assert_eq!(json!(failure.code), case.expect["code"], "{name}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_or_left_for_the_next_on_the_routers_terms() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    for (status, body, kind, attempts) in [
        (503, "{}", Some(CallFailure::Unavailable), 2),
        (429, "{}", Some(CallFailure::RateLimited), 2),
        (504, "{}", Some(CallFailure::Timeout), 2),
        (0, "", Some(CallFailure::Connection), 2),
        (500, "{}", Some(CallFailure::ServerError), 1),
        (401, "{}", Some(CallFailure::Authentication), 1),
        (400, "{}", None, 1),
        (302, "{}", None, 1),
        (200, "<html>", Some(CallFailure::BadAnswer), 1),
    ] {
        worker.speaker.lay("openai", &[(status, body)]);
        let completion = worker.hello().await.unwrap();
        assert_eq!(completion.provider, "mistral");
        let kinds = kinds_of(&completion.failures);
        assert!(
            kinds.len() == attempts && (status == 302 || kinds.iter().all(|one| *one == kind)),
            "{status}: {kinds:?}"
        );
    }
    worker.speaker.lay("openai", &[(503, "{}"), (200, &body_of("openai"))]);
    assert_eq!(worker.hello().await.unwrap().provider, "openai", "one that recovers is not left");
    worker.speaker.lay("openai", &[(500, "{}")]);
    worker.speaker.lay("mistral", &[(500, "{}")]);
    let error = worker.hello().await.unwrap_err();
    assert!(
        matches!(error, CompletionError::NobodyAnswered { late: false, .. }) && error.failures().len() == 2
    );
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let worker = Worker::start().await;
    let limits = |spec: &mut RouterSpec| {
        let request = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
        spec.timeouts = Some(RouterTimeouts { request, ..RouterTimeouts::default() });
        spec.retries = Some(RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() });
    };
    worker.route("openai", &["mistral"], limits);
    worker.speaker.lay_slow("openai", &body_of("openai"), Duration::from_secs(30));
    worker.speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Timeout)]);
    worker.speaker.lay_slow("mistral", &body_of("mistral"), Duration::from_secs(30));
    let begun = Instant::now();
    let asked = worker.executor.complete("Hello", "m", None, None).timeout(Duration::from_millis(300));
    let error = asked.await.unwrap_err();
    assert!(matches!(error, CompletionError::NobodyAnswered { late: true, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_key_that_is_refused_makes_room_for_another() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    worker.fake.put("providers/openai/apiKeys/second", key("sk-second"));
    worker.speaker.lay("openai", &[(401, "{}"), (200, &body_of("openai"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Authentication)]);
    let heard = worker.speaker.heard();
    let keys: Vec<_> = heard.iter().map(|(_, head, _)| head.contains("sk-second")).collect();
    assert!(keys == [true, false] || keys == [false, true], "{keys:?}");
}

/// The new value is at the workers before the provider knows it.
#[tokio::test]
async fn a_key_in_rotation_that_is_refused_is_presented_as_it_was_before() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let secret = |value: &str| Some(Secret { value: Some(value.to_owned()), ..Secret::default() });
    let rotated =
        ApiKeySpec { secret: secret("sk-new"), previous_secret: secret("sk-old"), ..ApiKeySpec::default() };
    worker.fake.put("providers/openai/apiKeys/main", Spec::ApiKey(rotated));
    worker.speaker.lay("openai", &[(401, "{}"), (200, &body_of("openai"))]);
    let completion = worker.hello().await.unwrap();
    assert_eq!(kinds_of(&completion.failures), [Some(CallFailure::Authentication)]);
    let heard = worker.speaker.heard();
    assert!(heard[0].1.contains("sk-new") && heard[1].1.contains("sk-old"));
    worker.speaker.lay("openai", &[(401, "{}")]);
    assert_eq!(worker.hello().await.unwrap_err().failures().len(), 2, "and no third time");
    assert_eq!(worker.speaker.heard().len(), 2);
}

#[tokio::test]
async fn keys_are_chosen_by_weight_and_one_that_can_not_be_read_is_told_of() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let secret = Some(Secret { value: Some("sk-heavy".to_owned()), ..Secret::default() });
    let heavy = ApiKeySpec { secret, weight: Some(1_000), ..ApiKeySpec::default() };
    worker.fake.put("providers/openai/apiKeys/heavy", Spec::ApiKey(heavy));
    worker.speaker.lay("openai", &[(200, &body_of("openai"))]);
    for _ in 0..20 {
        worker.hello().await.unwrap();
    }
    let heard = worker.speaker.heard();
    assert!(heard.iter().filter(|(_, head, _)| head.contains("sk-heavy")).count() > 15);
    worker.fake.delete("providers/openai/apiKeys/heavy");
    for (state, reason) in [(State::Present, SecretError::Masked), (State::Absent, SecretError::Absent)] {
        let masked = Secret { value: None, state: state.into() };
        let masked = ApiKeySpec { secret: Some(masked), ..ApiKeySpec::default() };
        worker.fake.put("providers/openai/apiKeys/main", Spec::ApiKey(masked));
        let error = worker.hello().await.unwrap_err();
        let AttemptError::Secret { error, .. } = error.failures()[0].error else { panic!("{error}") };
        assert_eq!(error, reason);
    }
    worker.fake.put("providers/openai/apiKeys/main", key("sk-1"));
    worker.fake.set_age(Duration::from_secs(4_000));
    let error = worker.hello().await.unwrap_err();
    assert!(error.to_string().contains("staleness"), "{error}");
    assert!(worker.speaker.heard().is_empty());
}

#[tokio::test]
async fn once_something_was_said_nobody_else_is_asked() {
    let worker = Worker::start().await;
    worker.route("openai", &["mistral"], |_| ());
    worker.speaker.lay("openai", &[(200, SAID)]);
    let ask = || worker.executor.complete("Hello", "m", None, None).stream().unwrap();
    let mut stream = ask();
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "Hi");
    let error = stream.next().await.unwrap().unwrap_err();
    let cut_off = AttemptError::Stream(StreamFailure::CutOff);
    assert!(
        matches!(&error, CompletionError::BrokeOff { failures } if failures[0].error == cut_off),
        "{error}"
    );
    assert!(stream.next().await.is_none() && stream.completion().is_none());
    worker.speaker.lay("openai", &[(503, "{}")]);
    worker.speaker.lay("mistral", &[(200, &format!("{SAID}{END}"))]);
    let mut stream = ask();
    assert_eq!(stream.next().await.unwrap().unwrap(), Piece::Text("Hi".to_owned()));
    assert!(stream.next().await.is_none());
    let completion = stream.completion().unwrap();
    assert_eq!((completion.provider.as_str(), completion.failures.len()), ("mistral", 2));
}

#[tokio::test]
async fn a_key_in_the_error_of_a_stream_is_cut_out() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    let echo = "data: {\"error\": {\"message\": \"no such key: sk-openai-key-canary\"}}\n\n";
    worker.speaker.lay("openai", &[(200, echo)]);
    let mut stream = worker.executor.complete("Hello", "m", None, None).stream().unwrap();
    let error = stream.next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("[removed]") && !error.contains("canary"), "{error}");
}

#[tokio::test]
async fn the_strategy_is_the_routers() {
    let worker = Worker::start().await;
    let turns = |spec: &mut RouterSpec| spec.strategy = RoutingStrategy::RoundRobin.into();
    worker.route("openai", &["mistral", "groq"], turns);
    for name in ["openai", "mistral", "groq"] {
        worker.speaker.lay(name, &[(200, &body_of(name))]);
    }
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(worker.hello().await.unwrap().provider);
    }
    assert_eq!(asked, ["openai", "mistral", "groq", "openai"]);
}

#[tokio::test]
async fn a_call_that_is_wrong_is_the_callers_error() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |_| ());
    worker.speaker.lay("openai", &[(200, &body_of("openai"))]);
    let system =
        ChatMessage { role: ChatRole::System.into(), text: "Be brief.".into(), ..ChatMessage::default() };
    let user = ChatMessage { role: ChatRole::User.into(), text: "Hello".into(), ..ChatMessage::default() };
    let params = GenerationParameters { max_tokens: Some(5), temperature: Some(0.5), ..Default::default() };
    let tool = ToolSpec { function_name: "f".into(), parameters_schema: "{}".into(), ..ToolSpec::default() };
    worker.fake.put("tools/f", Spec::Tool(tool));
    worker.executor.complete(vec![system, user], "m", params, None).tools(["f"]).await.unwrap();
    let (_, _, body) = worker.speaker.heard().remove(0);
    assert_eq!((&body["max_completion_tokens"], &body["temperature"]), (&json!(5), &json!(0.5)));
    assert_eq!(
        (&body["messages"][1]["content"], &body["tools"][0]["function"]["name"]),
        (&json!("Hello"), &json!("f"))
    );
    let complete = |conversation: Conversation| worker.executor.complete(conversation, "m", None, None);
    for (asked, path) in [
        (complete(Conversation::default()), "messages"),
        (complete("Hello".into()).tools(["none"]), "tools[0]"),
        (complete(vec![ChatMessage::default()].into()), "messages[0].role"),
    ] {
        let error = asked.await.unwrap_err();
        assert!(
            matches!(&error, CompletionError::Call(problems) if problems[0].path == path),
            "{path}: {error}"
        );
    }
    let error = complete("Hello".into()).provider("nobody").await.unwrap_err();
    assert_eq!(error, CompletionError::NotConfigured(vec!["nobody".to_owned()]));
    assert!(worker.speaker.heard().is_empty());
}

#[tokio::test]
async fn no_secret_goes_beyond_the_machine_in_the_clear_or_after_a_redirect() {
    let worker = Worker::start().await;
    // An address of documentation, which leads nowhere.
    let base_url = "http://192.0.2.1:1/v1".to_owned();
    let spec =
        ProviderSpec { base_url, ..stored(&json!({"type": "PROVIDER_TYPE_VLLM", "baseUrl": "http://x"})) };
    worker.fake.put("providers/far", Spec::Provider(spec));
    worker.fake.put("providers/far/apiKeys/a", key("sk-far-canary"));
    let ask = |executor: &Executor| {
        let executor = executor.clone();
        async move {
            let asked = executor.complete("Hello", "m", None, None).provider("far");
            asked.timeout(Duration::from_millis(200)).await.unwrap_err()
        }
    };
    let error = ask(&worker.executor).await;
    assert!(
        matches!(&error.failures()[0].error, AttemptError::Plaintext { host } if host == "192.0.2.1"),
        "{error}"
    );
    let error = ask(&worker.executor.clone().allow_plaintext("192.0.2.1")).await;
    assert!(!matches!(error.failures()[0].error, AttemptError::Plaintext { .. }), "{error}");
    worker.speaker.lay("openai", &[(307, "{}")]);
    let asked = worker.executor.complete("Hello", "m", None, None).provider("openai");
    let error = asked.timeout(Duration::from_secs(5)).await.unwrap_err();
    let AttemptError::Refused { status: 307, failure } = &error.failures()[0].error else {
        panic!("{error}")
    };
    assert_eq!(failure.reason, Reason::Unavailable);
}

#[tokio::test]
async fn an_answer_without_end_is_bounded() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |spec| spec.retries.as_mut().unwrap().max_retries = Some(0));
    worker.speaker.lay("openai", &[(200, &"x".repeat(17 << 20))]);
    let error = worker.hello().await.unwrap_err();
    assert_eq!(error.failures()[0].error, AttemptError::TooLarge);
}

#[tokio::test]
async fn without_a_service_the_providers_own_variables_count() {
    let speaker = Speaker::start().await;
    speaker.lay("mistral", &[(200, &body_of("mistral"))]);
    speaker.lay("anthropic", &[(200, &body_of("anthropic"))]);
    for (enabled, source) in [(true, Filled::Nowhere), (false, Filled::Environment)] {
        let variables = [
            ("SIGNALBOX_URL", "http://127.0.0.1:1".to_owned()),
            ("SIGNALBOX_ENABLED", enabled.to_string()),
            ("MISTRAL_API_KEY", "sk-mistral-env".to_owned()),
            ("MISTRAL_BASE_URL", format!("{}/mistral", speaker.url)),
            ("ANTHROPIC_API_KEY", "sk-anthropic-env".to_owned()),
            ("ANTHROPIC_BASE_URL", format!("{}/anthropic", speaker.url)),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let options = ClientOptions::from_environment(Environment::from_vars(variables));
        let client = Client::connect(options).unwrap();
        let executor = Executor::new(client.clone()).unwrap();
        let completion = executor.complete("Hello", "m", None, None).await.unwrap();
        assert_eq!(
            (completion.provider.as_str(), completion.revision),
            ("anthropic", 0),
            "the first of the order"
        );
        let named = executor.complete("Hello", "m", None, None).provider("mistral").await.unwrap();
        assert_eq!(named.provider, "mistral");
        assert_eq!((client.status().source, client.status().ready), (source, !enabled));
        if !enabled {
            client.wait_ready(Duration::ZERO).await.unwrap();
            client.clear_cache(Duration::ZERO).await.unwrap();
            assert!(client.provider("mistral").is_some() && client.provider("groq").is_none());
        }
    }
}
