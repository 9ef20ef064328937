//! A stand-in of an OTLP collector: takes what servers send, over gRPC and over HTTP on one port, and what the test's own process
//! traces.

use std::{
    fmt,
    io::Read as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig},
};
use tracing_subscriber::{Layer as _, filter::filter_fn, layer::SubscriberExt as _};

use super::{PATIENCE, until};

/// How a collector can be spoken to, as the setting has it.
pub const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];

/// A span that has come in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: String,
    /// In hexadecimal, as all ids here.
    pub trace: String,
    pub id: String,
    /// Empty for none.
    pub parent: String,
    /// What is said of the trace beside it, as the header has it.
    pub state: String,
    pub links: Vec<String>,
    /// As OTLP counts them: 2 is a server, 3 a client, 4 a producer, 5 a consumer.
    pub kind: i32,
    /// 2 is an error.
    pub status: i32,
    pub took: Duration,
    /// Of the span, and of the process that sent it.
    pub attributes: Vec<(String, Value)>,
}

impl Seen {
    /// An attribute that is a text; empty if it has none.
    pub fn attribute(&self, key: &str) -> &str {
        match self.value(key) {
            Some(Value::StringValue(text)) => text,
            None => "",
            other => panic!("{key} is no text: {other:?}"),
        }
    }

    /// An attribute that is a number, if it has it.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.value(key).map(|value| match value {
            Value::IntValue(number) => *number,
            other => panic!("{key} is no number: {other:?}"),
        })
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// A collector that listens. It stops with the test.
#[derive(Clone)]
pub struct Collector {
    came: Arc<Came>,
    url: String,
    _serving: Arc<Serving>,
}

/// What has come in.
#[derive(Default)]
struct Came {
    seen: Arc<Mutex<Vec<Seen>>>,
    bytes: Mutex<Vec<u8>>,
    headers: Mutex<Vec<String>>,
    /// By which way, and how it was compressed.
    ways: Mutex<Vec<(&'static str, String)>>,
    refuses: AtomicBool,
}

struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(Server::builder(), "http://127.0.0.1").await
    }

    /// One behind TLS, by a certificate for `localhost` and its key.
    pub async fn secured((certificate, key): &(String, String)) -> Self {
        let identity = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::serve(Server::builder().tls_config(identity).expect("TLS"), "https://localhost").await
    }

    async fn serve(server: Server, host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("{host}:{}", listener.local_addr().expect("an address").port());
        let came: Arc<Came> = Arc::default();
        let grpc = TraceServiceServer::new(Inlet(Arc::clone(&came)));
        let grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
        let http = Router::new().route("/v1/traces", post(over_http)).with_state(Arc::clone(&came));
        let routes = Routes::from(Routes::new(grpc).into_axum_router().merge(http));
        let server = server.accept_http1(true).add_routes(routes);
        let server = server.serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move {
            let _ = server.await;
        });
        Self { came, url, _serving: Arc::new(Serving(serving.abort_handle())) }
    }

    /// Takes one span less than it is sent from now on, as it says in an answer that is no error.
    pub fn refuse_one_of_each_batch(&self) {
        self.came.refuses.store(true, Ordering::Relaxed);
    }

    /// As a server's setting names it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Everything that has come in.
    pub fn spans(&self) -> Vec<Seen> {
        self.came.seen.lock().unwrap().clone()
    }

    /// Every byte that servers have sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.came.bytes.lock().unwrap().clone()
    }

    /// The `authorization` headers that came along.
    pub fn headers(&self) -> Vec<String> {
        self.came.headers.lock().unwrap().clone()
    }

    /// By which way each batch came, and how it was compressed.
    pub fn ways(&self) -> Vec<(&'static str, String)> {
        self.came.ways.lock().unwrap().clone()
    }

    /// The spans of a trace with a name, once there are as many.
    pub async fn named(&self, trace: &str, name: &str, count: usize) -> Vec<Seen> {
        let found = || -> Vec<Seen> {
            let spans = self.spans().into_iter();
            spans.filter(|span| span.trace == trace && span.name == name).collect()
        };
        until(PATIENCE, &format!("{count} spans {name:?} of {trace}"), || found().len() >= count).await;
        found()
    }

    /// The only span of a trace with a name.
    pub async fn only(&self, trace: &str, name: &str) -> Seen {
        let mut found = self.named(trace, name, 1).await;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    }

    /// Traces this thread as a worker traces itself: with `tracing-opentelemetry`, into this collector.
    pub fn trace_this_thread(&self) -> tracing::subscriber::DefaultGuard {
        let exporter = Own(Arc::clone(&self.came.seen));
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let ours = filter_fn(|metadata| {
            metadata.is_span()
                && ["signalbox::client", "test"].iter().any(|ours| metadata.target().starts_with(ours))
        });
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer.with_filter(ours)))
    }
}

struct Inlet(Arc<Came>);

#[tonic::async_trait]
impl TraceService for Inlet {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let said = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        self.0.said("grpc", said("authorization"), said("grpc-encoding"));
        Ok(Response::new(self.0.take(request.into_inner())))
    }
}

/// As the specification has it: binary, and compressed if the request says so.
async fn over_http(
    State(came): State<Arc<Came>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<([(&'static str, &'static str); 1], Vec<u8>), StatusCode> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if said("content-type") != Some("application/x-protobuf") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    came.said("http/protobuf", said("authorization"), said("content-encoding"));
    let mut plain = Vec::new();
    match said("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain),
        _ => (&body[..]).read_to_end(&mut plain),
    }
    .map_err(|_| StatusCode::BAD_REQUEST)?;
    let message = ExportTraceServiceRequest::decode(&plain[..]).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(([("content-type", "application/x-protobuf")], came.take(message).encode_to_vec()))
}

impl Came {
    /// What a batch says of itself.
    fn said(&self, way: &'static str, authorization: Option<&str>, encoding: Option<&str>) {
        self.headers.lock().unwrap().extend(authorization.map(str::to_owned));
        self.ways.lock().unwrap().push((way, encoding.unwrap_or_default().to_owned()));
    }

    fn take(&self, message: ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        self.bytes.lock().unwrap().extend(message.encode_to_vec());
        let mut seen = self.seen.lock().unwrap();
        for resource in message.resource_spans {
            let process = resource.resource.unwrap_or_default().attributes;
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let attributes = span.attributes.iter().chain(&process).filter_map(pair).collect();
                seen.push(Seen {
                    name: span.name,
                    trace: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    state: span.trace_state,
                    links: span.links.into_iter().map(|link| hex::encode(link.span_id)).collect(),
                    kind: span.kind,
                    took: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
                    status: span.status.unwrap_or_default().code,
                    attributes,
                });
            }
        }
        let partial_success = self.refuses.load(Ordering::Relaxed).then(|| ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "beyond the quota".into(),
        });
        ExportTraceServiceResponse { partial_success }
    }
}

fn pair(attribute: &KeyValue) -> Option<(String, Value)> {
    Some((attribute.key.clone(), attribute.value.clone()?.value?))
}

/// An attribute as it would be sent.
fn own(attribute: &opentelemetry::KeyValue) -> (String, Value) {
    let value = match &attribute.value {
        opentelemetry::Value::I64(number) => Value::IntValue(*number),
        opentelemetry::Value::Bool(yes) => Value::BoolValue(*yes),
        other => Value::StringValue(other.to_string()),
    };
    (attribute.key.to_string(), value)
}

/// What the test's own process traces.
struct Own(Arc<Mutex<Vec<Seen>>>);

impl fmt::Debug for Own {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Own")
    }
}

impl SpanExporter for Own {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.into_iter().map(|span| {
            let parent = span.parent_span_id.to_string();
            Seen {
                name: span.name.into_owned(),
                trace: span.span_context.trace_id().to_string(),
                id: span.span_context.span_id().to_string(),
                state: span.span_context.trace_state().header(),
                attributes: span.attributes.iter().map(own).collect(),
                parent: if parent.bytes().all(|byte| byte == b'0') { String::new() } else { parent },
                ..Seen::default()
            }
        });
        self.0.lock().unwrap().extend(spans);
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
