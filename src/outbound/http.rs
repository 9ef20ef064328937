//! The HTTP client: one connection a call, through the guard, with bounds on all that comes back. It follows no redirect
//! and knows no proxy.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Credentials, Fault, Resolve,
    guard::Guard,
    message::Message,
    tally::{CallCounts, Called, Tally, of_answer},
    tls::{self, Trust},
};
use crate::{settings::AllowedHost, wire::HttpRequest};

/// Calls at the same time.
const MAX_CALLS: usize = 64;
/// Bytes of an answer's body.
const BODY_BYTES: usize = 1 << 20;
/// Bytes of an answer's head.
const HEAD_BYTES: usize = 64 * 1024;

/// What came back: no redirect, and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, at most 1 MiB. Somebody else's text.
    pub body: Bytes,
}

/// Makes calls.
pub struct Outbound {
    pub(super) guard: Guard,
    /// Whom to trust; not set for whom the system trusts, until that is asked for.
    roots: OnceLock<Arc<RootCertStore>>,
    tls: OnceLock<Option<TlsConnector>>,
    pub(super) calls: Arc<Semaphore>,
    pub(super) tally: Tally,
}

impl Outbound {
    /// A client that may call public addresses, and what is allowed besides.
    #[must_use]
    pub fn new(allowed: Vec<AllowedHost>, resolver: Arc<dyn Resolve>) -> Self {
        let guard = Guard::new(allowed, resolver);
        Self {
            guard,
            roots: OnceLock::new(),
            tls: OnceLock::new(),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            tally: Tally::default(),
        }
    }

    /// The same, trusting these authorities instead of the system's.
    #[cfg(test)]
    pub(super) fn trusting(mut self, roots: RootCertStore) -> Self {
        self.roots = Arc::new(roots).into();
        self
    }

    /// Makes a call. Whatever is sent goes to an address that the guard has let pass.
    ///
    /// # Errors
    /// Why there is no answer to judge. A status that tells of a failure is an answer.
    pub async fn send(
        &self,
        request: &HttpRequest,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let begun = std::time::Instant::now();
        let answer = match Message::of(request, credentials) {
            Ok(message) => timeout_at(deadline, self.exchange(message)).await.unwrap_or(Err(Fault::Timeout)),
            Err(fault) => Err(fault),
        };
        self.tally.count(Called::Provider, of_answer(&answer), begun);
        answer
    }

    /// What calls there were, in numbers.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.tally.counts(MAX_CALLS - self.calls.available_permits())
    }

    async fn exchange(&self, message: Message) -> Result<Answer, Fault> {
        let Message { target, request } = message;
        // Waits within the deadline.
        let _turn = self.calls.acquire().await.map_err(|_| Fault::Unreachable)?;
        let stream = self.guard.connect(&target).await?;
        if !target.secure {
            return talk(stream, request).await;
        }
        let name = tls::server_name(&target.host)?;
        let stream = self.connector()?.connect(name, stream).await;
        talk(stream.map_err(|error| tls::fault(&error))?, request).await
    }

    fn connector(&self) -> Result<&TlsConnector, Fault> {
        let made = self.tls.get_or_init(|| tls::connector(self.roots(), Trust::Full, &[b"http/1.1"]));
        made.as_ref().ok_or(Fault::Tls(tls::NO_AUTHORITY))
    }

    /// Reads whom the system trusts when it is first needed: most servers never call anybody.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(self.roots.get_or_init(tls::system_roots))
    }
}

/// Sends a request over a connection that is used for nothing else.
async fn talk<S>(stream: S, request: http::Request<http_body_util::Full<Bytes>>) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| http_fault(&error))?;
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| http_fault(&error))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(Fault::Redirected);
    }
    let body =
        Limited::new(response.into_body(), BODY_BYTES).collect().await.map_err(|error| match error
            .downcast::<LengthLimitError>(
        ) {
            Ok(_) => Fault::TooLarge,
            Err(other) => other.downcast_ref().map_or(Fault::Unreachable, http_fault),
        })?;
    Ok(Answer { status: status.as_u16(), body: body.to_bytes() })
}

fn http_fault(error: &hyper::Error) -> Fault {
    if error.is_parse_too_large() {
        Fault::TooLarge
    } else if error.is_parse() || error.is_parse_status() {
        Fault::BadAnswer
    } else if error.is_timeout() {
        Fault::Timeout
    } else {
        Fault::Unreachable
    }
}
