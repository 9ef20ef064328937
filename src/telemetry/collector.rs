//! The way to a collector: a channel of gRPC, or a client of HTTP/1.1 that keeps its connections. Both are opened when there is
//! something to send. It must not know what is sent.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::{runtime::Handle, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::settings::Traces;

/// How long a collector may take for a batch.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer: it says how many spans it refuses, and why.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why the last attempt came to nothing, where the exporter keeps that to itself.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// Tells it once.
    pub fn take(&self) -> Option<String> {
        self.0.lock().take()
    }
}

/// The way by gRPC.
pub(super) fn channel(settings: &Traces) -> Result<Channel, String> {
    let Traces { endpoint, ca_file, .. } = settings;
    let wrong = |error: &dyn fmt::Display| format!("traces: {endpoint}: {error}");
    let target = Endpoint::from_shared(endpoint.clone()).map_err(|error| wrong(&error))?;
    let target = target.timeout(TIMEOUT).connect_timeout(TIMEOUT).tcp_nodelay(true);
    if !endpoint.starts_with("https://") {
        return Ok(target.connect_lazy());
    }
    let tls = match ca_file {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    };
    Ok(target.tls_config(tls).map_err(|error| wrong(&error))?.connect_lazy())
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> String {
    format!("traces: {} can't be read: {error}", path.display())
}

/// The way by HTTP. Whoever asks is on a thread of its own, which is none of the runtime's: what is asked runs there.
pub(super) struct HttpCollector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    trouble: Trouble,
}

impl HttpCollector {
    /// Has to be called on the runtime.
    pub fn new(settings: &Traces, trouble: Trouble) -> Result<Self, String> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(settings)?);
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, runtime: Handle::current(), trouble })
    }
}

/// Whom to trust, where it is spoken to by TLS.
fn tls(settings: &Traces) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        _ if !settings.endpoint.starts_with("https://") => {}
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let authorities =
                CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?;
            for authority in authorities {
                let authority = authority.map_err(|error| unreadable(path, &error))?;
                roots.add(authority).map_err(|error| unreadable(path, &error))?;
            }
            if roots.is_empty() {
                return Err(unreadable(path, &"it holds no certificate"));
            }
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| format!("traces: {error}"))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

#[async_trait]
impl HttpClient for HttpCollector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = exchange(self.client.clone(), request.map(Full::new));
        let sent = self.runtime.spawn(async { timeout(TIMEOUT, exchange).await });
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Err(stopped) => Err(stopped.into()),
        };
        *self.trouble.0.lock() = answer.as_ref().err().map(|error| chain(&**error));
        answer
    }
}

async fn exchange(
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = client.request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// An error with what caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Debug for HttpCollector {
    /// Without whom it trusts.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HttpCollector(..)")
    }
}
