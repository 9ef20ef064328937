//! Calls by path and bytes, so that what no client would send can be sent too.

use bytes::Bytes;
use prost::Message as _;
use signalbox::proto::v1::{WatchConfigResponse, watch_config_response::Event};
use tokio_stream::Once;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::harness::{PATIENCE, calls::with, raw::RawCodec, within};

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
    let body = once(body);
    let request = match token {
        Some(token) => with(token, body),
        None => Request::new(body),
    };
    send(channel, path, request).await
}

/// A request's body of one message.
pub fn once(body: Vec<u8>) -> Once<Bytes> {
    tokio_stream::once(body.into())
}

/// Sends a body with headers, and reads until the answer ends, or a watch has told its state.
pub async fn send(channel: &Channel, path: &str, request: Request<Once<Bytes>>) -> Answer {
    within(PATIENCE, path, read(channel, path, request)).await
}

async fn read(channel: &Channel, path: &str, request: Request<Once<Bytes>>) -> Answer {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    let mut answer = Answer { body: Vec::new(), error: None };
    client.ready().await.expect("the server takes calls");
    let path = PathAndQuery::try_from(path).expect("a path");
    let watches = path.path().ends_with("/WatchConfig");
    let watches_health = path.path().ends_with("Health/Watch");
    match client.streaming(request, path, RawCodec).await {
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
                        let event = WatchConfigResponse::decode(message).ok().and_then(|one| one.event);
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
