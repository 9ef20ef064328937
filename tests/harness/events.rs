//! Server-sent events, and other answers that go on: read as they come.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::soon;

/// An answer whose body comes in parts.
pub struct Stream {
    response: Response<Incoming>,
    buffer: Vec<u8>,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub retry: String,
    pub data: Value,
}

impl Stream {
    /// Makes a request over HTTP/1.1.
    pub async fn open(address: &str, request: Request<Full<Bytes>>) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let response = soon(sender.send_request(request)).await.expect("an answer");
        Self { response, buffer: Vec::new() }
    }

    /// Opens a stream of events, with these further headers.
    pub async fn get(address: &str, path: &str, token: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path).header("host", address);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::open(address, request.body(Full::default()).expect("a request")).await
    }

    /// The head of the answer.
    pub fn head(&self) -> &Response<Incoming> {
        &self.response
    }

    /// More bytes; `None` at the end.
    pub async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            match soon(self.response.body_mut().frame()).await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(data),
                    Err(_) => continue,
                },
                Err(_) => return None,
            }
        }
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.buffer);
        while let Some(bytes) = self.bytes().await {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// The next event, comments apart; `None` at the end.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some((block, _)) = text.split_once("\n\n") {
                self.buffer.drain(..block.len() + 2);
                if block.starts_with(':') {
                    continue;
                }
                return Some(parse(block));
            }
            let bytes = self.bytes().await?;
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// The next event of a name.
    pub async fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.event().await.unwrap_or_else(|| panic!("the end before {name}"));
            if event.name == name {
                return event;
            }
        }
    }
}

fn parse(block: &str) -> Event {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let data = serde_json::from_str(&field("data")).unwrap_or_else(|error| panic!("{error}: {block}"));
    Event { name: field("event"), id: field("id"), retry: field("retry"), data }
}
