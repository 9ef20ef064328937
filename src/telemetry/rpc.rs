//! Counts, times, traces and logs RPCs, and gives each its id: one layer in front of all services, the gate included, so that
//! refused calls count too.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{
    metrics::{Labels, seconds},
    requests::{REQUEST_ID, RpcCall, end_rpc, log_end},
};

/// What is called and has no row in the policy table: it is refused, and whatever it is called is one series.
const OTHER: &str = "other";

/// Calls of the API.
#[derive(Clone)]
pub struct Rpcs {
    ended: Family<Labels<2>, Counter>,
    seconds: Family<Labels<2>, Histogram, fn() -> Histogram>,
    open: Family<Labels<1>, Gauge>,
}

impl Default for Rpcs {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            open: Family::default(),
        }
    }
}

impl Rpcs {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { ended, seconds, open } = self;
        registry.register(
            "signalbox_rpcs",
            "RPCs that have ended, by method and gRPC code; a caller that went away counts as CANCELLED",
            ended.clone(),
        );
        registry.register(
            "signalbox_rpc_seconds",
            "Time from an RPC's arrival to the beginning of its answer, by method and gRPC code; for streams to their opening",
            seconds.clone(),
        );
        registry.register("signalbox_rpcs_open", "RPCs under way, open streams included", open.clone());
    }

    /// The layer that counts the methods at these paths, each by its name.
    pub fn layer(&self, paths: impl Iterator<Item = &'static str>) -> MeasureRpcs {
        let named = paths.map(|path| (path, Arc::new(self.series(path.trim_start_matches('/')))));
        MeasureRpcs { named: Arc::new(named.collect()), other: Arc::new(self.series(OTHER)) }
    }

    fn series(&self, method: &'static str) -> Series {
        // There from the beginning, so that the first failure is seen as a rise.
        let fine = [("method", method), ("code", name(Code::Ok))];
        drop((self.ended.get_or_create_owned(&fine), self.seconds.get_or_create_owned(&fine)));
        Series {
            method,
            ended: self.ended.clone(),
            seconds: self.seconds.clone(),
            open: self.open.get_or_create_owned(&[("method", method)]),
        }
    }
}

/// What is counted of one method.
struct Series {
    method: &'static str,
    ended: Family<Labels<2>, Counter>,
    seconds: Family<Labels<2>, Histogram, fn() -> Histogram>,
    open: Gauge,
}

/// Adds [`Measured`] to a service.
#[derive(Clone)]
pub struct MeasureRpcs {
    named: Arc<HashMap<&'static str, Arc<Series>>>,
    other: Arc<Series>,
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Measured<S> {
    inner: S,
    layer: MeasureRpcs,
}

impl<S> Layer<S> for MeasureRpcs {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, layer: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for Measured<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let series = self.layer.named.get(request.uri().path()).unwrap_or(&self.layer.other);
        let RpcCall { id, log, rpc, unproven } = RpcCall::begin(series.method, request.headers());
        if let Some(unproven) = unproven {
            request.extensions_mut().insert(unproven);
        }
        let call = Call::begin(Arc::clone(series), log.clone(), rpc.clone());
        let answer = log.in_scope(|| rpc.in_scope(|| self.inner.call(request)));
        let answered = async move {
            let mut response = answer.await?;
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(call.follow(response))
        };
        answered.instrument(rpc).instrument(log).boxed()
    }
}

/// One call under way; counted by the code that it has when it is let go of.
struct Call {
    series: Arc<Series>,
    log: Span,
    rpc: Span,
    begun: Instant,
    /// How long it took until its answer began, while that is not counted yet: the code comes with the end.
    answered: Option<Duration>,
    outcome: Outcome,
}

/// How a call ended: by its code, and by the reason that stands in its error.
struct Outcome {
    code: Code,
    reason: String,
}

impl From<Code> for Outcome {
    fn from(code: Code) -> Self {
        Self { code, reason: String::new() }
    }
}

impl Call {
    fn begin(series: Arc<Series>, log: Span, rpc: Span) -> Self {
        series.open.inc();
        // Who is let go of before the end is the caller's doing.
        let outcome = Code::Cancelled.into();
        Self { series, log, rpc, begun: Instant::now(), answered: None, outcome }
    }

    /// The answer begins: it fails at once, or its end is still to come.
    fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.answered = Some(self.begun.elapsed());
        match outcome(response.headers()) {
            Some(outcome) => {
                self.outcome = outcome;
                response
            }
            None => response.map(|body| Body::new(Followed { body, call: Some(self) })),
        }
    }

    /// Counts how long the answer took to begin, once.
    fn time(&mut self, code: Code) {
        let Series { method, seconds, .. } = &*self.series;
        if let Some(took) = self.answered.take() {
            seconds.get_or_create(&[("method", *method), ("code", name(code))]).observe(took.as_secs_f64());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.outcome.code;
        self.time(code);
        let Series { method, ended, open, .. } = &*self.series;
        open.dec();
        end_rpc(&self.rpc, code);
        self.log.in_scope(|| log_end(code, name(code), &self.outcome.reason));
        ended.get_or_create(&[("method", *method), ("code", name(code))]).inc();
    }
}

/// A body whose trailers are read on their way.
struct Followed {
    body: Body,
    call: Option<Call>,
}

impl Followed {
    fn end(&mut self, outcome: Outcome) {
        if let Some(mut call) = self.call.take() {
            call.outcome = outcome;
        }
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(context) else {
            // An answer that has begun and waits is a stream that is open.
            self.call.iter_mut().for_each(|call| call.time(Code::Ok));
            return Poll::Pending;
        };
        match &polled {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(outcome(trailers).unwrap_or(Code::Unknown.into()));
                }
            }
            Some(Err(status)) => self.end(Outcome { code: status.code(), reason: reason(status) }),
            None => self.end(Code::Unknown.into()),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    match Code::from_bytes(headers.get("grpc-status")?.as_bytes()) {
        Code::Ok => Some(Code::Ok.into()),
        code => {
            let reason = Status::from_header_map(headers).as_ref().map(reason).unwrap_or_default();
            Some(Outcome { code, reason })
        }
    }
}

/// The reason of an error, one of the list in `docs/operating.md`; empty for what has none.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// A code's name in the specification of gRPC.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;
    use tower::service_fn;

    use super::*;

    const PATH: &str = "/signalbox.v1.ConfigService/GetResource";

    /// How often calls of a method ended with a code, and how many are open.
    fn counted(rpcs: &Rpcs, method: &'static str, code: Code) -> (u64, i64) {
        let ended = rpcs.ended.get_or_create_owned(&[("method", method), ("code", name(code))]);
        (ended.get(), rpcs.open.get_or_create_owned(&[("method", method)]).get())
    }

    async fn call(rpcs: &Rpcs, path: &str, answer: fn() -> Response<Body>) -> Response<Body> {
        let service = service_fn(move |_: Request<()>| async move { Ok::<_, Infallible>(answer()) });
        let mut service = rpcs.layer([PATH].into_iter()).layer(service);
        service.call(Request::builder().uri(path).body(()).unwrap()).await.unwrap()
    }

    /// An answer with trailers, as a service's own.
    fn answered() -> Response<Body> {
        let mut trailers = HeaderMap::new();
        Status::not_found("").add_header(&mut trailers).unwrap();
        let frames = [Ok::<_, Status>(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers))];
        let stream = tokio_stream::iter(frames);
        Response::new(Body::new(http_body_util::StreamBody::new(stream)))
    }

    #[tokio::test]
    async fn a_call_counts_when_its_answer_has_ended_with_the_code_of_its_trailers() {
        let (rpcs, method) = (Rpcs::default(), &PATH[1..]);
        let answer = call(&rpcs, PATH, answered).await;
        assert_eq!(counted(&rpcs, method, Code::NotFound), (0, 1));
        answer.into_body().collect().await.unwrap();
        assert_eq!(counted(&rpcs, method, Code::NotFound), (1, 0));
        drop(call(&rpcs, PATH, answered).await);
        assert_eq!(counted(&rpcs, method, Code::Cancelled), (1, 0));
    }

    /// How often something was timed, by its code.
    fn timed(rpcs: &Rpcs, code: Code) -> u64 {
        let mut registry = Registry::default();
        rpcs.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let is_count = |line: &&str| {
            line.starts_with("signalbox_rpc_seconds_count")
                && line.contains(&PATH[1..])
                && line.contains(&format!("\"{}\"", name(code)))
        };
        text.lines().find(is_count).map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    #[tokio::test]
    async fn an_answer_is_timed_by_its_code_and_a_stream_when_it_is_open() {
        let rpcs = Rpcs::default();
        call(&rpcs, PATH, answered).await.into_body().collect().await.unwrap();
        assert_eq!((timed(&rpcs, Code::NotFound), timed(&rpcs, Code::Ok)), (1, 0));
        let open = || {
            Response::new(Body::new(http_body_util::StreamBody::new(tokio_stream::pending::<
                Result<Frame<Bytes>, Status>,
            >())))
        };
        let mut body = call(&rpcs, PATH, open).await.into_body();
        assert!(futures_util::poll!(body.frame()).is_pending());
        assert_eq!(timed(&rpcs, Code::Ok), 1);
        drop(body);
        assert_eq!((timed(&rpcs, Code::Ok), timed(&rpcs, Code::Cancelled)), (1, 0), "once");
    }

    #[tokio::test]
    async fn what_nobody_knows_is_one_series_whatever_it_is_called() {
        let rpcs = Rpcs::default();
        for path in ["/a", "/b", "/signalbox.v1.ConfigService/getresource"] {
            drop(call(&rpcs, path, || Status::unimplemented("").into_http()).await);
        }
        assert_eq!(counted(&rpcs, OTHER, Code::Unimplemented), (3, 0));
        let mut registry = Registry::default();
        rpcs.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("getresource"), "{text}");
    }
}
