//! Traces: what a collector is sent of a change, and what it is never sent.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _, TraceFlags},
};
use serde_json::json;
use signalbox::{
    client::{Client, ClientOptions, Connection, Selector, TokenSource},
    proto::v1::{
        CreateResourceRequest, Resource, Role, SettingSpec, WatchConfigRequest,
        config_service_client::ConfigServiceClient, resource::Spec, setting_spec,
        watch_config_response::Event,
    },
};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{
    calls::{channel, event, token, token_with, with},
    harness::{
        Home, PATIENCE, Server,
        api::{Api, api_key, provider, setting},
        collector::{Collector, PROTOCOLS, Seen},
        events::Stream,
        http::{ask, send},
        run, soon, until,
    },
};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;

/// A caller's context, sampled.
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319d";
const SPAN: &str = "b7ad6b7169203331";
/// What tracing systems say beside it.
const STATE: &str = "a=b,c@d=e f";

pub fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A folder whose servers send to a collector, without waiting for more.
pub fn home(collector: &Collector) -> Home {
    Home::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).with("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// The same, with the protocol that they speak.
pub fn home_by(collector: &Collector, protocol: &str) -> Home {
    home(collector).with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
}

/// A request that belongs to a trace.
pub fn create(server: &Server, name: &str, traceparent: &str) -> tonic::Request<CreateResourceRequest> {
    let value = Some(setting_spec::Value::IntValue(1));
    let spec = Some(Spec::Setting(SettingSpec { value, ..SettingSpec::default() }));
    let resource = Some(Resource { name: name.to_owned(), spec, ..Resource::default() });
    let request = CreateResourceRequest { resource, ..CreateResourceRequest::default() };
    let mut request = with(&server.admin_token(), request);
    if !traceparent.is_empty() {
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    }
    request
}

pub async fn created(server: &Server, name: &str, traceparent: &str) {
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    config.create_resource(create(server, name, traceparent)).await.unwrap();
}

#[tokio::test]
async fn one_change_is_one_trace_from_the_caller_to_the_callback() {
    for protocol in PROTOCOLS {
        follow_one_change(protocol).await;
    }
}

async fn follow_one_change(protocol: &str) {
    let collector = Collector::start().await;
    let server = Server::start_in(&Arc::new(home_by(&collector, protocol))).await;
    let worker = token_with(&server, Role::Worker, "w", true, Duration::from_secs(3_600)).await;
    let _traced = collector.trace_this_thread();
    let options = ClientOptions::new(server.url()).token(TokenSource::fixed(worker));
    let client = Client::connect(options).unwrap();
    soon(client.wait_ready(PATIENCE)).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let callback = {
        let told = Arc::clone(&told);
        client.on_change(Selector::name("settings/traced"), move |event| {
            told.lock().unwrap().push((event.traceparent, event.tracestate.clone()));
        })
    };

    let options = ClientOptions::new(server.url()).token(TokenSource::fixed(server.admin_token()));
    let mut connection = Connection::open(&options).await.unwrap();
    let caller = tracing::info_span!(target: "test", "caller");
    let [trace, span] = [TRACE, SPAN].map(|id| u128::from_str_radix(id, 16).unwrap());
    let (span, flags) = (u64::try_from(span).unwrap().into(), TraceFlags::SAMPLED);
    let above = SpanContext::new(trace.into(), span, flags, true, STATE.parse().unwrap());
    caller.set_parent(Context::new().with_remote_span_context(above)).unwrap();
    let value = Some(setting_spec::Value::IntValue(1));
    let resource = Resource {
        name: "settings/traced".to_owned(),
        spec: Some(Spec::Setting(SettingSpec { value, ..SettingSpec::default() })),
        ..Resource::default()
    };
    let request = CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() };
    let revision = connection.config.create_resource(request).instrument(caller.clone()).await.unwrap();
    let revision = revision.into_inner().revision.to_string();
    drop(caller);
    until(PATIENCE, "the callback", || !told.lock().unwrap().is_empty()).await;

    until(PATIENCE, "the caller's span", || collector.spans().iter().any(|span| span.name == "caller")).await;
    let caller = collector.spans().into_iter().find(|span| span.name == "caller").unwrap();
    let trace = caller.trace.clone();
    let rpc = collector.only(&trace, "signalbox.v1.ConfigService/CreateResource").await;
    let write = collector.only(&trace, "write").await;
    let transaction = collector.only(&trace, "transaction").await;
    let fan_out = collector.only(&trace, "fan out").await;
    let called = collector.only(&trace, "callback").await;
    for (child, parent) in [
        (&rpc, &caller),
        (&write, &rpc),
        (&transaction, &write),
        (&fan_out, &transaction),
        (&called, &fan_out),
    ] {
        assert_eq!(child.parent, parent.id, "{child:?} is a child of {parent:?}");
        assert_eq!(child.state, STATE, "{child:?}");
    }
    let (told, beside) = told.lock().unwrap()[0].clone();
    let told = told.unwrap();
    assert_eq!((told.trace_id(), format!("{:016x}", told.span())), (trace, fan_out.id.clone()));
    assert_eq!(beside.as_str(), STATE);

    assert_eq!([rpc.kind, transaction.kind, fan_out.kind], [SERVER, CLIENT, PRODUCER]);
    let attributes = |span: &Seen, keys: &[&str]| -> Vec<String> {
        keys.iter().map(|key| span.attribute(key).to_owned()).collect()
    };
    assert_eq!(
        attributes(&rpc, &["rpc.system", "rpc.service", "rpc.method"]),
        ["grpc", "signalbox.v1.ConfigService", "CreateResource"]
    );
    assert_eq!(transaction.attribute("db.system.name"), "sqlite");
    // What is compared and summed up is a number.
    let (revision, changes) = (Some(revision.parse().unwrap()), Some(1));
    let keys = ["signalbox.revision", "signalbox.changes"];
    assert_eq!(rpc.number("rpc.grpc.status_code"), Some(0));
    assert_eq!(write.number("signalbox.operations"), Some(1));
    assert_eq!(keys.map(|key| transaction.number(key)), [revision, changes]);
    assert_eq!(transaction.number("db.operation.batch.size"), None, "one alone is no batch");
    assert_eq!(keys.map(|key| fan_out.number(key)), [revision, changes]);
    assert_eq!(called.number("signalbox.revision"), revision);
    assert_eq!(
        attributes(&rpc, &["service.name", "service.version"]),
        ["signalbox", env!("CARGO_PKG_VERSION")]
    );
    assert_eq!(rpc.attribute("service.instance.id").len(), 36, "the replica's id");
    drop(callback);
    server.stop().await;
}

#[tokio::test]
async fn over_http_the_request_and_its_rpc_are_spans_of_the_callers_trace() {
    let collector = Collector::start().await;
    let home = Arc::new(home(&collector));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let beside = format!("traceparent: {}\r\ntracestate: {STATE}\r\n", traceparent("01"));
    let headers = format!("Authorization: Bearer {}\r\n{beside}", server.admin_token());
    let answer = ask(server.http_address(), "GET", "/v1/settings/hidden%2Dname", &headers).await;
    assert_eq!(answer.code, 404);
    let http = collector.only(TRACE, "GET /v1/settings/{key}").await;
    let rpc = collector.only(TRACE, "signalbox.v1.ConfigService/GetResource").await;
    assert_eq!((http.parent.as_str(), &rpc.parent), (SPAN, &http.id));
    assert_eq!([&http.state, &rpc.state], [STATE; 2]);
    assert_eq!((http.kind, rpc.kind), (SERVER, 1), "the call itself came by HTTP: {rpc:?}");
    assert_eq!(http.number("http.response.status_code"), Some(404));
    let conventional = ["http.request.method", "http.route", "url.path", "url.scheme", "error.type"];
    assert_eq!(
        conventional.map(|key| http.attribute(key)),
        ["GET", "/v1/settings/{key}", "/v1/settings/{key}", "http", ""]
    );
    assert_eq!(rpc.number("rpc.grpc.status_code"), Some(5));
    // Pages that are asked every few seconds are no spans.
    ask(server.http_address(), "GET", "/livez", &headers).await;
    server.stop().await;
    assert!(collector.spans().iter().all(|span| span.trace == TRACE && !span.name.contains("livez")));
    assert!(!String::from_utf8_lossy(&collector.bytes()).contains("hidden"), "names stay inside");
}

#[tokio::test]
async fn a_callers_context_decides_if_it_is_valid() {
    let collector = Collector::start().await;
    let server = Server::start_in(&Arc::new(home(&collector))).await;
    created(&server, "settings/unsampled", &traceparent("00")).await;
    created(&server, "settings/invalid", &traceparent("01").replace("00-", "ff-")).await;
    created(&server, "settings/sampled", &traceparent("01")).await;
    let rpc = collector.only(TRACE, "signalbox.v1.ConfigService/CreateResource").await;
    assert_eq!(rpc.parent, SPAN);
    server.stop().await;
    let spans = collector.spans();
    let name = "signalbox.v1.ConfigService/CreateResource";
    let calls: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(calls.len(), 2, "one was not to be recorded, and one has a trace of its own: {calls:?}");
    let other = calls.iter().find(|span| span.trace != TRACE).unwrap();
    assert_eq!(other.parent, "");
}

#[tokio::test]
async fn a_command_line_belongs_to_the_trace_of_its_environment() {
    let collector = Collector::start().await;
    let server = Server::start_in(&Arc::new(home(&collector))).await;
    for traceparent in [traceparent("01"), "nonsense".to_owned()] {
        let mut command = server.signalbox(&["set", "settings/a", "--value", "1"]);
        let output = run(command.env("TRACEPARENT", traceparent).env("TRACESTATE", STATE)).await;
        assert!(output.status.success(), "{output:?}");
    }
    let transaction = collector.only(TRACE, "transaction").await;
    assert_eq!((transaction.kind, transaction.state.as_str()), (CLIENT, STATE));
    server.stop().await;
}

#[tokio::test]
async fn a_sampler_that_takes_none_sends_none_but_what_a_caller_records() {
    let collector = Collector::start().await;
    let home = home(&collector).with("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    let server = Server::start_in(&Arc::new(home.with("OTEL_TRACES_SAMPLER_ARG", "0"))).await;
    created(&server, "settings/own", "").await;
    created(&server, "settings/callers", &traceparent("01")).await;
    server.stop().await;
    let spans = collector.spans();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
}

/// Neither over gRPC nor over HTTP, and whatever is answered: who has a good token, decides in the same run.
#[tokio::test]
async fn regression_who_has_no_token_does_not_decide_what_is_traced() {
    let collector = Collector::start().await;
    let home = Arc::new(home(&collector));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let foreign = traceparent("01").replace(TRACE, OTHER_TRACE);
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let mut request = create(&server, "settings/a", &foreign);
    request.metadata_mut().insert("authorization", "Bearer nonsense".parse().unwrap());
    assert_eq!(config.create_resource(request).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let headers = format!("traceparent: {foreign}\r\n");
    for (path, code) in [("/v1/settings/a", 401), ("/v1/nothing/of/ours", 404)] {
        assert_eq!(ask(server.http_address(), "GET", path, &headers).await.code, code, "{path}");
    }
    created(&server, "settings/b", &traceparent("01")).await;
    let rpc = collector.only(TRACE, "signalbox.v1.ConfigService/CreateResource").await;
    assert_eq!(rpc.parent, SPAN);
    server.stop().await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace != OTHER_TRACE), "{spans:?}");
    assert!(!String::from_utf8_lossy(&collector.bytes()).contains("unproven"), "that stays inside");
}

/// Over gRPC and over HTTP, where the request is a span as well.
#[tokio::test]
async fn regression_the_span_of_a_stream_lasts_to_its_end() {
    let collector = Collector::start().await;
    let server = Server::start_in_with(&Arc::new(home(&collector)), &["--http-listen", "127.0.0.1:0"]).await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let progress_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let mut request =
        with(&worker, WatchConfigRequest { progress_interval, ..WatchConfigRequest::default() });
    request.metadata_mut().insert("traceparent", traceparent("01").parse().unwrap());
    let mut stream = config.watch_config(request).await.unwrap().into_inner();
    let parent = traceparent("01").replace(TRACE, OTHER_TRACE);
    let headers = [("traceparent", parent.as_str())];
    let path = "/v1:watch?progress_interval=1s";
    let mut events = Stream::get(server.http_address(), path, &worker, &headers).await;
    let begun = Instant::now();
    while !matches!(event(&mut stream).await.unwrap(), Some(Event::Progress(_))) {}
    events.until("progress").await;
    let least = begun.elapsed();
    assert!(least > Duration::from_millis(500), "it lasts long enough to tell");
    drop((stream, events));
    let rpc = "signalbox.v1.ConfigService/WatchConfig";
    for (trace, name) in [(TRACE, rpc), (OTHER_TRACE, rpc), (OTHER_TRACE, "GET /v1:watch")] {
        let span = collector.only(trace, name).await;
        assert!(span.took >= least, "{least:?}: {span:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn no_secret_and_no_name_reaches_the_collector() {
    for protocol in PROTOCOLS {
        nothing_reaches_it_by(protocol).await;
    }
}

async fn nothing_reaches_it_by(protocol: &str) {
    let collector = Collector::start().await;
    let home = home_by(&collector, protocol)
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-collector");
    let home = Arc::new(home.with("RUST_LOG", "trace"));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let token = token(&server, Role::Admin, "a-subject-of-a-token").await;
    let mut admin = Api::with(&server, &token).await;
    let mut worker = Api::worker(&server).await;
    admin.create("providers/canary-provider", provider(&[("X-Canary", "canary-header")])).await;
    admin.create("providers/canary-provider/apiKeys/canary-key", api_key("sk-canary-value")).await;
    admin.create("settings/canary_name", setting("canary-setting")).await;
    assert!(!worker.secrets("providers/canary-provider/apiKeys/canary-key", true).await.is_empty());
    let body = json!({ "name": "settings/canary_rest", "setting": { "stringValue": "canary-rest" } });
    let wrong = send(server.http_address(), "POST", "/v1/settings?canary=canary", &token, &body).await;
    assert_eq!(wrong.code, 400, "{wrong:?}");
    server.stop().await;
    assert!(collector.spans().iter().filter(|span| span.name == "transaction").count() >= 3);
    let sent = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for word in ["canary", "a-subject-of-a-token", &token] {
        assert!(!sent.contains(word), "{word}");
    }
    assert!(collector.headers().iter().all(|header| header == "Bearer of-the-collector"));
    assert!(!collector.headers().is_empty() && !home.log().contains("of-the-collector"));
}
