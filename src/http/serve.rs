//! Serves a router on connections that somebody else accepts: HTTP/1.1, or HTTP/2 for who begins with it.
//!
//! Every connection is a task of this one, so that none outlives it.

use std::{io, pin::pin, time::Duration};

use axum::{Extension, Router};
use futures_util::{Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::grpc::ConnectionHandle;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a request's head.
    pub header_bytes: u32,
    /// How long the head of a request may take, and the pause before it.
    pub header_time: Duration,
    /// Requests under way on one connection of HTTP/2.
    pub streams: u32,
    /// How often a silent connection of HTTP/2 is asked whether it lives.
    pub keepalive: Duration,
}

/// Serves until `stop`, then until the requests that are under way are answered.
pub async fn serve<S>(
    incoming: impl Stream<Item = io::Result<S>>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Connected<ConnectInfo = ConnectionHandle> + Unpin + Send + 'static,
{
    let builder = builder(bounds);
    let (graceful, mut connections) = (GracefulShutdown::new(), JoinSet::new());
    let mut incoming = pin!(incoming);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            next = incoming.next() => match next {
                Some(Ok(stream)) => stream,
                Some(Err(_)) => continue,
                None => break,
            },
        };
        // What a call may know of the connection that it comes over.
        let handle = Extension(stream.connect_info());
        let service = TowerToHyperService::new(router.clone().layer(handle));
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP connection ended badly");
            }
        });
    }
    graceful.shutdown().await;
}

fn builder(bounds: Bounds) -> Builder<TokioExecutor> {
    let Bounds { header_bytes, header_time, streams, keepalive } = bounds;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(usize::try_from(header_bytes).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(header_bytes)
        .max_concurrent_streams(streams)
        .keep_alive_interval(keepalive);
    builder
}
