//! Requests of HTTP/1.1, as a probe or Prometheus makes them: by hand, so that nothing between tidies them up.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::soon;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of HTTP, and the reason of the error's `ErrorInfo`.
    pub fn refusal(&self) -> (u16, String) {
        let body = self.json();
        let reason = body["details"][0]["reason"].as_str().unwrap_or_default();
        assert!(body["code"].is_i64() && body["message"].is_string(), "a google.rpc.Status: {body}");
        (self.code, reason.to_owned())
    }
}

/// Reads a page, with a token unless it is empty.
pub async fn get(address: &str, path: &str, token: &str) -> Answer {
    let authorization =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    ask(address, "GET", path, &authorization).await
}

/// Makes a request with these further header lines.
pub async fn ask(address: &str, method: &str, path: &str, headers: &str) -> Answer {
    let stream = TcpStream::connect(address).await.expect("it listens");
    over(stream, method, path, headers).await
}

/// Makes a request with a body of JSON, with a token unless it is empty.
pub async fn send(address: &str, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let authorization =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = body.len();
    let headers =
        format!("{authorization}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    ask(address, method, path, &headers).await
}

/// Makes a request over a connection, and reads it to its end. A body stands behind an empty line of the headers.
pub async fn over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
) -> Answer {
    let end = if headers.contains("\r\n\r\n") { "" } else { "\r\n" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: signalbox\r\nConnection: close\r\n{headers}{end}");
    // Who refuses may do so before the end of the request.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    parse(&String::from_utf8(bytes).expect("text"))
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let code = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { code: code.expect("a code"), headers: lines.filter_map(header).collect(), body: body.to_owned() }
}
