//! A codec that leaves messages as they are: to keep what a stream really carried, and to send what no message is.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::caller::{Authorised, Caller};

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> Self::Encoder {
        RawCodec
    }

    fn decoder(&mut self) -> Self::Decoder {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

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
