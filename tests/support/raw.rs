//! Calls by path and bytes: to keep what a stream really carried, and to send what no message is.

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::{Request, Response, Status, Streaming, client::Grpc};

use super::caller::Caller;
use crate::harness::{calls::Authorised, raw::RawCodec};

/// Opens a stream and leaves its messages undecoded.
pub async fn stream(caller: &Caller, path: &'static str, body: Bytes) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = ready(caller).await?;
    let answer = grpc.server_streaming(Request::new(body), PathAndQuery::from_static(path), RawCodec).await;
    answer.map(Response::into_inner)
}

/// Calls with bytes that need not be a message.
pub async fn unary(caller: &Caller, path: &'static str, body: Bytes) -> Result<Bytes, Status> {
    let mut grpc = ready(caller).await?;
    grpc.unary(Request::new(body), PathAndQuery::from_static(path), RawCodec).await.map(Response::into_inner)
}

async fn ready(caller: &Caller) -> Result<Grpc<Authorised>, Status> {
    let mut grpc = Grpc::new(caller.authorised());
    grpc.ready().await.map_err(|error| Status::unavailable(format!("not connected: {error}")))?;
    Ok(grpc)
}

/// As [`unary`], but the body follows the headers only when `wait` is over.
pub async fn late_unary(
    caller: &Caller,
    path: &'static str,
    body: Bytes,
    wait: impl Future<Output = ()> + Send + 'static,
) -> Result<Bytes, Status> {
    let mut grpc = ready(caller).await?;
    let late = futures_util::stream::once(async move {
        wait.await;
        body
    });
    let path = PathAndQuery::from_static(path);
    grpc.client_streaming(Request::new(late), path, RawCodec).await.map(Response::into_inner)
}
