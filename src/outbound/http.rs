//! The HTTP client: one connection a call, through the guard, with bounds on all that comes back. It follows no redirect
//! and knows no proxy.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Credentials, Fault, Resolve,
    guard::{Guard, Target},
    message::Message,
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
    guard: Guard,
    /// Whom to trust; `None` for whom the system trusts.
    roots: Option<Arc<RootCertStore>>,
    tls: OnceLock<Option<TlsConnector>>,
    calls: Semaphore,
}

impl Outbound {
    /// A client that may call public addresses, and what is allowed besides.
    #[must_use]
    pub fn new(allowed: Vec<AllowedHost>, resolver: Arc<dyn Resolve>) -> Self {
        let guard = Guard::new(allowed, resolver);
        Self { guard, roots: None, tls: OnceLock::new(), calls: Semaphore::new(MAX_CALLS) }
    }

    /// The same, trusting these authorities instead of the system's.
    #[cfg(test)]
    pub(super) fn trusting(mut self, roots: RootCertStore) -> Self {
        self.roots = Some(Arc::new(roots));
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
        let message = Message::of(request, credentials)?;
        timeout_at(deadline, self.exchange(message)).await.unwrap_or(Err(Fault::Timeout))
    }

    async fn exchange(&self, message: Message) -> Result<Answer, Fault> {
        let Message { target, request } = message;
        // Waits within the deadline.
        let _turn = self.calls.acquire().await.map_err(|_| Fault::Unreachable)?;
        let stream = self.guard.connect(&target).await?;
        if !target.secure {
            return talk(stream, request).await;
        }
        let stream = self.connector()?.connect(server_name(&target)?, stream).await;
        talk(stream.map_err(|error| tls_fault(&error))?, request).await
    }

    /// Reads whom the system trusts when it is first needed: most servers never call anybody.
    fn connector(&self) -> Result<&TlsConnector, Fault> {
        let made = self.tls.get_or_init(|| connector(self.roots.clone().unwrap_or_else(system_roots)));
        made.as_ref().ok_or(Fault::Tls("this server trusts no authority: install the system's certificates"))
    }
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

fn connector(roots: Arc<RootCertStore>) -> Option<TlsConnector> {
    if roots.is_empty() {
        return None;
    }
    let versions = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions();
    let mut config = versions.ok()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(TlsConnector::from(Arc::new(config)))
}

fn server_name(target: &Target) -> Result<ServerName<'static>, Fault> {
    match &target.host {
        url::Host::Domain(name) => {
            ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| Fault::Unsendable)
        }
        url::Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
        url::Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
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

/// Only what can be said in words of our own: the error's text holds what the other side has sent.
fn tls_fault(error: &io::Error) -> Fault {
    use rustls::{CertificateError as Wrong, Error};
    let Some(found) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Fault::Tls("the connection ended while TLS was agreed on");
    };
    Fault::Tls(match found {
        Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "its certificate is not valid yet"
        }
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "its certificate is for another host"
        }
        Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            "its certificate is from an authority that is not trusted"
        }
        Error::InvalidCertificate(Wrong::Revoked) => "its certificate is revoked",
        Error::InvalidCertificate(_) => "its certificate can't be used",
        _ => "TLS could not be agreed on: it may speak plain http, or only an old version",
    })
}
