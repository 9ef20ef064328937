//! What a request is known by: its id in the log and in the answer, its span in traces.
//!
//! The id is the caller's if it is one, else it is made here. The log's lines of a request carry it, and the trace if there
//! is one, ours or the caller's. A context that a caller sends is taken if it is valid, and else ignored.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tonic::Code;
use tracing::{Metadata, Span, field::Empty};
use uuid::Uuid;

use super::spans::{UNPROVEN, context, join, rename};
use crate::domain::TraceContext;

/// Names one request, in its answer: the caller's own name for it, or one that is made.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters that a caller's name for a request may have.
const REQUEST_ID_CHARS: usize = 128;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where the span of a request stands that the log's lines get their ids from.
const LOG: &str = "signalbox::request";
/// What has a span of its own: our services, and neither probes nor reflection, which come every few seconds.
const TRACED: &str = "signalbox.";
/// The reason of calls that are refused because the server was told to stop: nothing has failed.
const STOPPING: &str = "SHUTTING_DOWN";

/// The request's own name if it is one, else a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let is_name = |value: &&HeaderValue| {
        (1..=REQUEST_ID_CHARS).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    let made = || HeaderValue::try_from(Uuid::now_v7().simple().to_string()).ok();
    headers.get(REQUEST_ID).filter(is_name).cloned().or_else(made).unwrap_or(HeaderValue::from_static("none"))
}

/// Whether this is the span of a request, which is for the log and not for traces.
pub(super) fn is_of_log(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == LOG
}

/// The context that a caller sent; one of several could be anybody's. What is said beside it may stand in several headers.
fn sent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let beside: Result<Vec<&str>, _> = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str).collect();
    TraceContext::parse(only.to_str().ok()?, &beside.unwrap_or_default().join(","))
}

/// The spans of a call that continue a caller's trace, until its token is found good: they are not sent otherwise, so that
/// nobody without a token decides what is recorded.
#[derive(Clone)]
pub struct Unproven([Span; 2]);

impl Unproven {
    /// The caller has said who it is.
    pub fn prove(&self) {
        for span in &self.0 {
            span.record(UNPROVEN, false);
        }
    }
}

/// One RPC under way, as logs and traces know it.
pub(super) struct RpcCall {
    pub id: HeaderValue,
    pub log: Span,
    pub rpc: Span,
    /// For who finds its token good; `None` where it continues nobody's trace.
    pub unproven: Option<Unproven>,
}

impl RpcCall {
    /// A call of `service/method` begins.
    pub fn begin(name: &'static str, headers: &HeaderMap) -> Self {
        let (id, sent) = (request_id(headers), sent(headers));
        let http = Span::current();
        let rpc = rpc_span(name, sent.as_ref());
        let unproven = sent.as_ref().map(|_| Unproven([http, rpc.clone()]));
        let trace = context(&rpc).or(sent);
        // Of the highest level, so that whoever logs anything has the ids with it.
        let log = tracing::error_span!(
            target: LOG,
            parent: None,
            "request",
            request_id = id.to_str().unwrap_or_default(),
            method = name,
            trace_id = Empty,
        );
        if let Some(trace) = trace {
            log.record("trace_id", trace.parent.trace_id());
        }
        Self { id, log, rpc, unproven }
    }
}

fn rpc_span(name: &'static str, sent: Option<&TraceContext>) -> Span {
    if !name.starts_with(TRACED) {
        return Span::none();
    }
    let (service, method) = name.rsplit_once('/').unwrap_or((name, ""));
    let inside = context(&Span::current()).is_some();
    let span = tracing::info_span!(
        "rpc",
        otel.name = name,
        otel.kind = if inside { "internal" } else { "server" },
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        otel.status_code = Empty,
        unproven = sent.map(|_| true),
    );
    // What came over HTTP is a child of that request.
    if let Some(sent) = sent.filter(|_| !inside) {
        join(&span, sent);
    }
    span
}

/// Logs how a call ended, on behalf of the request whose span is entered. What the server could not do its operator has to
/// see; what a caller did wrong is the caller's, and would let anybody fill the log.
pub(super) fn log_end(code: Code, name: &str, reason: &str) {
    let failed = matches!(code, Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss);
    match failed && reason != STOPPING {
        // Nothing that differs from call to call, so that repeats are held back.
        true => tracing::warn!(code = name, reason, "a call failed"),
        false => tracing::debug!(code = name, reason, "a call ended"),
    }
}

/// Notes how a call ended, in its span, which lasts until now.
pub(super) fn end_rpc(span: &Span, code: Code) {
    span.record("rpc.grpc.status_code", i64::from(i32::from(code)));
    let ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if ours {
        span.record("otel.status_code", "error");
    }
    lasts_until_now(span);
}

/// A span ends, for traces, when it is left for the last time: one that nobody is in while its answer is under way is entered
/// once more.
fn lasts_until_now(span: &Span) {
    span.in_scope(|| ());
}

/// One request over HTTP, as traces know it. The RPC that answers it is its child. The conventions have its path beside the
/// path's template: here both are the template, which holds no name of a resource and nothing else that a caller put in.
pub struct HttpCall(Span);

impl HttpCall {
    /// A request begins; `scheme` is how its listener is reached.
    #[must_use]
    pub fn begin(method: &Method, headers: &HeaderMap, scheme: &'static str) -> Self {
        let sent = sent(headers);
        let span = tracing::info_span!(
            parent: None,
            "http",
            otel.name = in_name(method),
            otel.kind = "server",
            http.request.method = word(method),
            url.scheme = scheme,
            url.path = Empty,
            http.route = Empty,
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
            unproven = sent.as_ref().map(|_| true),
        );
        if let Some(sent) = &sent {
            join(&span, sent);
        }
        Self(span)
    }

    /// Its span.
    #[must_use]
    pub fn span(&self) -> Span {
        self.0.clone()
    }

    /// Its answer begins. `route` is the path's template, without what a caller put in. What comes back has to live as long
    /// as the answer's body does; `None` where no traces are made.
    #[must_use]
    pub fn answered(self, method: &Method, route: Option<&str>, status: StatusCode) -> Option<HttpAnswer> {
        let Self(span) = self;
        if span.is_disabled() {
            return None;
        }
        if let Some(route) = route {
            rename(&span, format!("{} {route}", in_name(method)));
            span.record("http.route", route);
            span.record("url.path", route);
        }
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.record("error.type", status.as_str());
            span.record("otel.status_code", "error");
        }
        Some(HttpAnswer(span))
    }
}

/// An answer over HTTP that is under way. Its span lasts until this is let go of.
pub struct HttpAnswer(Span);

impl Drop for HttpAnswer {
    fn drop(&mut self) {
        lasts_until_now(&self.0);
    }
}

/// A method in the name of a span.
fn in_name(method: &Method) -> &'static str {
    match word(method) {
        "_OTHER" => "HTTP",
        word => word,
    }
}

/// A method's name; whatever else somebody sends is one name.
fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
        values.collect()
    }

    #[test]
    fn a_request_keeps_its_own_name_if_that_is_one() {
        for own in ["a", "A-1_b.c", &"x".repeat(128)] {
            assert_eq!(request_id(&headers(&REQUEST_ID, &[own])), own);
        }
        for wrong in ["", "a b", "a\"b", "ü", &"x".repeat(129)] {
            let given = headers(&REQUEST_ID, &[wrong]);
            let (one, other) = (request_id(&given), request_id(&given));
            assert!(one != wrong && one != other && one.len() == 32, "{wrong}: {one:?}");
        }
    }

    #[test]
    fn a_context_counts_if_it_is_valid_and_the_only_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(sent(&headers(&TRACEPARENT, &[good])), TraceContext::parse(good, ""));
        for wrong in [&[][..], &["nonsense"], &[good, good]] {
            assert_eq!(sent(&headers(&TRACEPARENT, wrong)), None, "{wrong:?}");
        }
        // What is said beside it is one list, in however many headers; what is no such list takes nothing else away.
        for (beside, read) in [(&["a=b", "c=d"][..], "a=b,c=d"), (&["a=b", "nonsense"], "")] {
            let mut given = headers(&TRACEPARENT, &[good]);
            given.extend(headers(&TRACESTATE, beside));
            assert_eq!(sent(&given), TraceContext::parse(good, read), "{beside:?}");
        }
    }
}
