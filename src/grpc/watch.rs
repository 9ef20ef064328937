//! `WatchConfig` on the wire: a response body that yields shared, already framed bytes.
//!
//! tonic's codec copies each message into each stream's own buffer. A frame here is encoded once and shared by every
//! stream that sees the same, so this path is answered beside the generated server, which serves all the others.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream};
use http_body::Frame;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming, body::Body, codec::Codec, server::NamedService};
use tonic_prost::ProstCodec;
use tower::Service as TowerService;

use super::{ConnectionHandle, to_status};
use crate::{
    auth::Caller,
    domain::{Principal, Result, Text, Violations, limits::SESSION_ID_CHARS},
    duration,
    fleet::Hello,
    kinds,
    proto::v1::{WatchConfigRequest, WatchConfigResponse, Worker},
    service::Service,
    watch::{Cursor, Resume, WatchRequest},
};

const PATH: &str = "/signalbox.v1.ConfigService/WatchConfig";

/// Answers `WatchConfig`, and hands everything else to the generated server.
#[derive(Clone)]
pub struct WatchTransport<S> {
    inner: S,
    service: Arc<Service>,
    max_request: usize,
}

impl<S> WatchTransport<S> {
    pub fn new(inner: S, service: Arc<Service>, max_request: usize) -> Self {
        Self { inner, service, max_request }
    }
}

impl<S: NamedService> NamedService for WatchTransport<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> TowerService<http::Request<Body>> for WatchTransport<S>
where
    S: TowerService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return Box::pin(self.inner.call(request));
        }
        let (service, max_request) = (Arc::clone(&self.service), self.max_request);
        Box::pin(async move {
            Ok(match open(&service, max_request, request).await {
                Ok(cursor) => respond(cursor),
                Err(status) => status.into_http(),
            })
        })
    }
}

async fn open(
    service: &Arc<Service>,
    max_request: usize,
    request: http::Request<Body>,
) -> Result<Cursor, Status> {
    let decoder = ProstCodec::<WatchConfigResponse, WatchConfigRequest>::default().decoder();
    let (head, body) = request.into_parts();
    let mut messages = Streaming::new_request(decoder, body, None, Some(max_request));
    let message =
        messages.message().await?.ok_or_else(|| Status::invalid_argument("the request is missing"))?;
    let scissors =
        head.extensions.get::<ConnectionHandle>().map(ConnectionHandle::scissors).unwrap_or_default();
    let mut request = Request::new(());
    *request.extensions_mut() = head.extensions;
    let caller = Caller::of(&request).map_err(to_status)?;
    watch(service, caller, message, scissors).await.map_err(to_status)
}

async fn watch(
    service: &Arc<Service>,
    caller: &Principal,
    request: WatchConfigRequest,
    scissors: CancellationToken,
) -> Result<Cursor> {
    let WatchConfigRequest {
        selectors,
        resume_token,
        view_id,
        include_secrets,
        progress_interval,
        worker,
        previous_session_id: previous,
    } = request;
    let worker = worker.unwrap_or_default();
    let mut violations = Violations::default();
    let selectors = violations.take(kinds::parse_selectors(&selectors, "selectors"))?;
    check_worker(&worker, &mut violations);
    violations.text("previous_session_id", &previous, Text::Line, SESSION_ID_CHARS);
    let progress_interval = parse_interval(progress_interval, &mut violations);
    let selectors = violations.allow(selectors)?;
    let resume = Resume { token: resume_token, view_id };
    let request = WatchRequest { selectors, resume, include_secrets, progress_interval, scissors };
    let Worker { id, labels, client_version, silent } = worker;
    let hello = Hello { worker: id, labels, client_version, silent, previous };
    service.watch(caller, request, hello).await
}

fn check_worker(worker: &Worker, violations: &mut Violations) {
    violations.text("worker.id", &worker.id, Text::Line, 128);
    violations.text("worker.client_version", &worker.client_version, Text::Line, 64);
    violations.extend(kinds::check_labels(&worker.labels, "worker.labels"));
}

/// Nothing and nought are the default.
fn parse_interval(
    interval: Option<prost_types::Duration>,
    violations: &mut Violations,
) -> Option<std::time::Duration> {
    let parsed = duration::read(interval?);
    if parsed.is_none() {
        let description = "must not be negative; it is clamped to 1 s to 60 s";
        violations.add("progress_interval", "OUT_OF_RANGE", description);
    }
    parsed.filter(|interval| !interval.is_zero())
}

fn respond(cursor: Cursor) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(WatchBody::new(cursor)));
    let content_type = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

type Frames = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The body: framed messages while the stream lives, then trailers that say how it ended.
struct WatchBody {
    frames: Option<Frames>,
}

impl WatchBody {
    fn new(cursor: Cursor) -> Self {
        let frames =
            stream::unfold(cursor, async |mut cursor| cursor.next().await.map(|item| (item, cursor)));
        Self { frames: Some(Box::pin(frames)) }
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
        let status = match std::task::ready!(frames.as_mut().poll_next(context)) {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(error)) => to_status(error),
            None => Status::ok(""),
        };
        // Dropped at once, so that the place among the open streams is free before the client hears of the end.
        self.frames = None;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}
