//! A provider on this machine: answers by the path that is asked for, and keeps what it was sent.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is answered at a path: the status line and the body.
pub type Page = (&'static str, String);

/// A provider. It is gone when the test lets go of it.
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    pages: Mutex<BTreeMap<String, Page>>,
    heard: Mutex<Vec<String>>,
}

impl Upstream {
    /// Answers these paths, and any other with 404.
    pub async fn start(pages: &[(&str, &'static str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&serving)));
            }
        });
        let upstream = Self { address, state, task };
        pages.iter().for_each(|(path, status, body)| upstream.set(path, status, *body));
        upstream
    }

    /// Answers a path with this from now on.
    pub fn set(&self, path: &str, status: &'static str, body: impl Into<String>) {
        self.state.pages.lock().insert(path.to_owned(), (status, body.into()));
    }

    /// Its address as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, whole; from then on it is as if there had been none.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.heard.lock())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let Some(request) = read(&mut stream).await else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    state.heard.lock().push(request);
    let page = state.pages.lock().get(&path).cloned();
    let (status, body) = page.unwrap_or(("404 Not Found", "{}".to_owned()));
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
}

/// Reads one request with its body.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}
