//! How attempts travel: one request, no redirects, a bounded answer, each step within its time.
//!
//! Owns the connections, and where a secret may go. Must not know who is asked next, or what an answer means.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::Utc;
use reqwest::{
    Client, Method, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};

use super::{AttemptError, route::Attempt};
use crate::{
    proto::v1::HttpMethod,
    wire::{Failure, HeaderKind, StreamFailure, retry_after, without_keys},
};

/// Bytes of an answer at most.
const ANSWER_BYTES: usize = 16 << 20;
/// To connect, where the router leaves it open.
const CONNECT: Duration = Duration::from_secs(10);

/// Times to connect that connections are kept for.
const MAX_CLIENTS: usize = 8;

/// The way out. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// By the time that they may take to connect, which belongs to the client and not to the request.
    clients: Arc<Mutex<BTreeMap<Duration, Client>>>,
    plaintext: BTreeSet<String>,
}

impl Http {
    pub(super) fn new() -> reqwest::Result<Self> {
        let clients = BTreeMap::from([(CONNECT, client(CONNECT)?)]);
        Ok(Self { clients: Arc::new(Mutex::new(clients)), plaintext: BTreeSet::new() })
    }

    fn client(&self, connect: Duration) -> Result<Client, AttemptError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&connect) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let client = client(connect).map_err(of_reqwest)?;
        clients.insert(connect, client.clone());
        Ok(client)
    }

    pub(super) fn allow_plaintext(&mut self, host: &str) {
        self.plaintext.insert(host.to_ascii_lowercase());
    }

    /// Sends, and waits for the beginning of the answer.
    pub(super) async fn send(&self, attempt: &Attempt, deadline: Instant) -> Result<Reply, AttemptError> {
        let request = self.request(attempt)?;
        let client = self.client(attempt.connect.unwrap_or(CONNECT))?;
        let response = timeout_at(deadline, client.execute(request)).await;
        let response = response.map_err(|_| AttemptError::TimedOut)?.map_err(of_reqwest)?;
        Ok(Reply { response, taken: 0 })
    }

    fn request(&self, attempt: &Attempt) -> Result<reqwest::Request, AttemptError> {
        let wrong = |what: &str| AttemptError::Request(what.to_owned());
        let url: Url = attempt.request.url.parse().map_err(|_| wrong("its URL is none"))?;
        if !attempt.secrets.is_empty() {
            self.check_plaintext(&url)?;
        }
        let mut request = reqwest::Request::new(method(attempt.request.method), url);
        *request.headers_mut() = headers(attempt)?;
        if let Some(body) = &attempt.request.body {
            *request.body_mut() = Some(body.to_string().into());
        }
        Ok(request)
    }

    fn check_plaintext(&self, url: &Url) -> Result<(), AttemptError> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        if url.scheme() == "https" || is_loopback(&host) || self.plaintext.contains(&host) {
            return Ok(());
        }
        Err(AttemptError::Plaintext { host })
    }
}

/// An answer that has begun.
pub(super) struct Reply {
    response: Response,
    taken: usize,
}

impl Reply {
    pub(super) fn is_good(&self) -> bool {
        self.response.status().is_success()
    }

    /// How long the header asks to be left alone.
    #[allow(
        clippy::disallowed_methods,
        reason = "a date is held against the worker's own clock; nothing injects one here"
    )]
    fn asked_wait(&self) -> Option<Duration> {
        retry_after(self.response.headers().get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
    }

    /// All the bytes that are left.
    pub(super) async fn rest(&mut self, deadline: Instant) -> Result<Vec<u8>, AttemptError> {
        let mut rest = Vec::new();
        while let Some(piece) = self.piece(deadline).await? {
            rest.extend_from_slice(&piece);
        }
        Ok(rest)
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn piece(&mut self, deadline: Instant) -> Result<Option<Bytes>, AttemptError> {
        let piece = timeout_at(deadline, self.response.chunk()).await;
        let piece = piece.map_err(|_| AttemptError::TimedOut)?.map_err(of_reqwest)?;
        self.taken += piece.as_ref().map_or(0, Bytes::len);
        if self.taken > ANSWER_BYTES { Err(AttemptError::TooLarge) } else { Ok(piece) }
    }
}

impl Attempt {
    /// The error of an answer that is none. Its key is cut out of the provider's words.
    pub(super) fn refused(&self, reply: &Reply, body: &[u8]) -> AttemptError {
        let key = self.key.as_ref().map(|key| key.secret.expose());
        let status = reply.response.status().as_u16();
        let mut failure = self.cleared(self.mapping.failure(status, body, key));
        failure.retry_after = reply.asked_wait().or(failure.retry_after);
        AttemptError::Refused { status, failure }
    }

    /// The error of a stream. Its key is cut out of the provider's words here as well.
    pub(super) fn broken(&self, error: AttemptError) -> AttemptError {
        match error {
            AttemptError::Stream(StreamFailure::Failed(mut failure)) => {
                let key = self.key.as_ref().map(|key| key.secret.expose());
                failure.message = without_keys(&failure.message, key);
                failure.code = without_keys(&failure.code, key);
                AttemptError::Stream(StreamFailure::Failed(self.cleared(failure)))
            }
            other => other,
        }
    }

    /// A provider's words without the secret headers, which it may repeat as well.
    fn cleared(&self, mut failure: Failure) -> Failure {
        let is_sealed = |name: &str| {
            let mut headers = self.request.headers.iter();
            headers.any(|header| header.name == name && header.kind == HeaderKind::Secret)
        };
        for (_, value) in self.secrets.iter().filter(|(name, _)| is_sealed(name)) {
            failure.message = without_keys(&failure.message, Some(value.expose()));
            failure.code = without_keys(&failure.code, Some(value.expose()));
        }
        failure
    }
}

fn client(connect: Duration) -> reqwest::Result<Client> {
    // A key goes to the address that it was saved for, and to no other: neither a redirect nor a proxy of the environment may
    // have it.
    Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(connect).build()
}

fn headers(attempt: &Attempt) -> Result<HeaderMap, AttemptError> {
    let mut headers = HeaderMap::new();
    let name = |name: &str| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| AttemptError::Request(format!("`{name}` is no name of a header")))
    };
    // The value is left out of messages: it may be a secret.
    let refused =
        |name: &HeaderName| AttemptError::Request(format!("the value of `{name}` is none of a header"));
    for header in attempt.request.headers.iter().filter(|header| header.kind == HeaderKind::Plain) {
        let name = name(&header.name)?;
        let value = HeaderValue::from_str(&header.value).map_err(|_| refused(&name))?;
        headers.insert(name, value);
    }
    for (secret, value) in &attempt.secrets {
        let name = name(secret)?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refused(&name))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Unspecified | HttpMethod::Post => Method::POST,
    }
}

/// The words of the connection, without the URL: that may say more than is to be logged.
fn of_reqwest(error: reqwest::Error) -> AttemptError {
    if error.is_timeout() {
        return AttemptError::TimedOut;
    }
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    AttemptError::Connection(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// Whether a host can only be the machine itself.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}
