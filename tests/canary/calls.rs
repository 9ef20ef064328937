//! Calls by path and bytes, so that what no client would send can be sent too.

use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::Message as _;
use signalbox::proto::v1::{WatchConfigResponse, watch_config_response::Event};
use tokio_stream::Once;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Takes messages as they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// What came of a call.
pub struct Answer {
    /// The messages, one after the other.
    pub body: Vec<u8>,
    /// How it ended, if not well.
    pub error: Option<Status>,
}

impl Answer {
    /// Everything that the error tells, for the search.
    pub fn told(&self) -> Vec<u8> {
        let Some(status) = &self.error else { return Vec::new() };
        let metadata = format!("{:?}", status.metadata());
        [status.message().as_bytes(), status.details(), metadata.as_bytes()].concat()
    }
}

/// Calls a method with a body, as whoever the token names.
pub async fn call(channel: &Channel, path: &str, body: Vec<u8>, token: Option<&str>) -> Answer {
    let mut request = Request::new(tokio_stream::once(body));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a token"));
    }
    send(channel, path, request).await
}

/// Sends a body with headers, and reads until the answer ends, or a watch has told its state.
pub async fn send(channel: &Channel, path: &str, request: Request<Once<Vec<u8>>>) -> Answer {
    let called = tokio::time::timeout(PATIENCE, read(channel, path, request)).await;
    called.unwrap_or_else(|_| panic!("{path} did not answer"))
}

async fn read(channel: &Channel, path: &str, request: Request<Once<Vec<u8>>>) -> Answer {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    let mut answer = Answer { body: Vec::new(), error: None };
    client.ready().await.expect("the server takes calls");
    let path = PathAndQuery::try_from(path).expect("a path");
    let watches = path.path().ends_with("/WatchConfig");
    let watches_health = path.path().ends_with("Health/Watch");
    match client.streaming(request, path, Bytes).await {
        Err(status) => answer.error = Some(status),
        Ok(response) => {
            let mut stream = response.into_inner();
            loop {
                match stream.message().await {
                    Ok(None) => break,
                    Err(status) => {
                        answer.error = Some(status);
                        break;
                    }
                    Ok(Some(message)) => {
                        answer.body.extend_from_slice(&message);
                        let event =
                            WatchConfigResponse::decode(message.as_slice()).ok().and_then(|one| one.event);
                        if watches_health || watches && matches!(event, Some(Event::Synced(_))) {
                            break;
                        }
                    }
                }
            }
        }
    }
    answer
}
