//! Calls of models: a local server speaks each family of providers, as the vectors have it.

mod keys;
mod routing;
mod waits;

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
        ApiKeySpec, CallFailure, ChatMessage, ChatRole, ModelSpec, ProviderSpec, RetryPolicy, RouterSpec,
        RouterTimeouts, RoutingStrategy, Secret, ToolSpec, resource::Spec, secret::State,
    },
    wire::{Reason, StreamFailure, frame_tests::StreamBody},
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
    streams: Vec<StreamCase>,
    errors: Vec<ErrorCase>,
}

#[derive(Deserialize)]
struct Case {
    body: Value,
    expect: Option<Value>,
}

#[derive(Deserialize)]
struct StreamCase {
    name: String,
    #[serde(flatten)]
    body: StreamBody,
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

/// What is answered: a status (0 cuts the connection), further lines of the head, a body, and a pause in its middle.
type Page = (u16, String, Vec<u8>, Duration);

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
        let pages: Vec<_> = pages.iter().map(|(status, body)| (*status, "", *body)).collect();
        self.lay_with_heads(name, &pages);
    }

    fn lay_with_heads(&self, name: &str, pages: &[(u16, &str, &str)]) {
        let page = |(status, head, body): &(u16, &str, &str)| {
            (*status, (*head).to_owned(), body.as_bytes().to_vec(), Duration::ZERO)
        };
        self.ready.lock().unwrap().insert(name.to_owned(), pages.iter().map(page).collect());
    }

    /// Good answers, as [`Self::lay`] has them.
    fn lay_bytes(&self, name: &str, bodies: &[Vec<u8>]) {
        let page = |body: &Vec<u8>| (200, String::new(), body.clone(), Duration::ZERO);
        self.ready.lock().unwrap().insert(name.to_owned(), bodies.iter().map(page).collect());
    }

    fn lay_slow(&self, name: &str, body: &str, pause: Duration) {
        let page = (200, String::new(), body.as_bytes().to_vec(), pause);
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
    let (status, more, answer, pause) = {
        let mut ready = ready.lock().unwrap();
        let pages = ready.get_mut(&name).expect("laid ready");
        if pages.len() > 1 { pages.remove(0) } else { pages[0].clone() }
    };
    if status == 0 {
        return Ok(());
    }
    let head =
        format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n{more}\r\n");
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
        let executor = Executor::new(fake.client()).unwrap();
        let worker = Self { fake, speaker, executor };
        for family in families() {
            let name = &family.family;
            worker.configure(name, |_| ());
            let key = key(&format!("sk-{name}-key-canary"));
            worker.fake.put(&format!("providers/{name}/apiKeys/main"), key);
        }
        worker
    }

    /// Configures a family's provider, but for a change.
    fn configure(&self, name: &str, change: impl FnOnce(&mut ProviderSpec)) {
        let family = families().into_iter().find(|one| one.family == name).unwrap();
        let base_url = format!("{}/{name}", self.speaker.url);
        let mut spec = ProviderSpec { base_url, ..stored(&family.provider) };
        change(&mut spec);
        self.fake.put(&format!("providers/{name}"), Spec::Provider(spec));
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

/// What a family streams, by the name that the vectors give it.
fn stream_of(family: &str, name: &str) -> Vec<u8> {
    let family = families().into_iter().find(|one| one.family == family).unwrap();
    family.streams.iter().find(|case| case.name == name).unwrap().body.bytes()
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
        let case = &family.streams[0];
        worker.speaker.lay_bytes(name, &[case.body.bytes()]);
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
async fn an_answer_without_end_is_bounded() {
    let worker = Worker::start().await;
    worker.route("openai", &[], |spec| spec.retries.as_mut().unwrap().max_retries = Some(0));
    worker.speaker.lay("openai", &[(200, &"x".repeat(17 << 20))]);
    let error = worker.hello().await.unwrap_err();
    assert_eq!(error.failures()[0].error, AttemptError::TooLarge);
}

/// A proxy that the environment names was given keys that were saved for a provider, in the clear for plain HTTP.
#[test]
fn regression_no_proxy_of_the_environment_is_given_a_key() {
    // Variables belong to a process, so that it takes another one. Nobody listens there.
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "executor::tests::each_family_answers"]);
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(variable, "http://127.0.0.1:1");
    }
    let output = command.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
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
