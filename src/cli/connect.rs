//! The connection to a server: which one, whether to trust it, and with which token.
//!
//! A small stand-in until the client room's `Connection` takes its place: `config` and `admin` are named as there.

use std::{path::Path, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use zeroize::Zeroizing;

use super::{
    args::Target,
    failure::{Exit, Failure},
    session::Session,
};
use crate::proto::v1::{
    admin_service_client::AdminServiceClient, config_service_client::ConfigServiceClient,
};

/// Where a server is looked for when nothing is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:50051";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The server sends at most 1 MiB by default, and at most 16 MiB however it is set.
const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;

type Authorized = InterceptedService<Channel, Bearer>;

/// The typed clients, with the token on every call.
pub struct Connection {
    /// Reads, writes and watches configuration.
    pub config: ConfigServiceClient<Authorized>,
    /// Runs the service.
    pub admin: AdminServiceClient<Authorized>,
}

/// Puts the token on a call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Address of the server, and whether somebody named it.
#[must_use]
pub fn address(session: &Session<'_>, target: &Target) -> (String, bool) {
    let from_env = || session.variable("SIGNALBOX_URL").and_then(|url| url.into_string().ok());
    match target.server.clone().or_else(from_env) {
        Some(url) => (url, true),
        None => (DEFAULT_URL.to_owned(), false),
    }
}

/// Connects, or says why not.
pub async fn connect(session: &mut Session<'_>, target: &Target) -> Result<Connection, Failure> {
    let (url, _) = address(session, target);
    let bearer = Bearer(token(session, target)?);
    let endpoint = endpoint(&url, target.ca_file.as_deref())?;
    if bearer.0.is_some() && sends_in_the_clear(&endpoint) {
        session.remark(&format!("warning: the token crosses the network to {url} in the clear; use https"));
    }
    let channel = endpoint.connect().await.map_err(|error| unreachable_server(&url, &error))?;
    let limit = MAX_MESSAGE_BYTES;
    Ok(Connection {
        config: ConfigServiceClient::with_interceptor(channel.clone(), bearer.clone())
            .max_decoding_message_size(limit),
        admin: AdminServiceClient::with_interceptor(channel, bearer).max_decoding_message_size(limit),
    })
}

fn endpoint(url: &str, ca_file: Option<&Path>) -> Result<Endpoint, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--server (SIGNALBOX_URL): `{url}` is not an address; give one such as {DEFAULT_URL}"
        ))
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
    let secure = match endpoint.uri().scheme_str() {
        Some("http") if ca_file.is_none() => false,
        Some("http") => {
            return Err(Failure::usage(format!(
                "--ca-file: {url} does not use TLS; give an address with https://"
            )));
        }
        Some("https") => true,
        _ => return Err(wrong()),
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    if !secure {
        return Ok(endpoint);
    }
    endpoint
        .tls_config(trust(ca_file)?)
        .map_err(|error| Failure::told(Exit::Failed, format!("can't set TLS up: {}", chain(&error))))
}

fn trust(ca_file: Option<&Path>) -> Result<ClientTlsConfig, Failure> {
    let Some(path) = ca_file else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let pem = std::fs::read(path)
        .map_err(|error| Failure::usage(format!("--ca-file: can't read {}: {error}", path.display())))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

fn sends_in_the_clear(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    endpoint.uri().scheme_str() == Some("http") && !local
}

fn token(session: &Session<'_>, target: &Target) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let Some((source, token)) = find_token(session, target)? else { return Ok(None) };
    let header = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value = MetadataValue::try_from(header.as_str()).map_err(|_| {
        Failure::usage(format!("{source}: does not hold a token: it has characters that no token has"))
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The token and where it was found. A file that was named must be readable; the default one need not be there.
fn find_token(
    session: &Session<'_>,
    target: &Target,
) -> Result<Option<(String, Zeroizing<String>)>, Failure> {
    let read = |source: &str, path: &Path| {
        std::fs::read_to_string(path)
            .map(|token| Some((source.to_owned(), Zeroizing::new(token))))
            .map_err(|error| Failure::usage(format!("{source}: can't read {}: {error}", path.display())))
    };
    if let Some(path) = &target.token_file {
        return read("--token-file", path);
    }
    if let Some(token) = session.variable("SIGNALBOX_TOKEN") {
        let token = token.into_string().map_err(|_| Failure::usage("SIGNALBOX_TOKEN: is not valid UTF-8"))?;
        return Ok(Some(("SIGNALBOX_TOKEN".to_owned(), Zeroizing::new(token))));
    }
    if let Some(path) = session.variable("SIGNALBOX_TOKEN_FILE") {
        return read("SIGNALBOX_TOKEN_FILE", Path::new(&path));
    }
    let data_dir = session.variable("SIGNALBOX_DATA_DIR").unwrap_or_else(|| "data".into());
    Ok(read("admin.token", &Path::new(&data_dir).join("admin.token")).unwrap_or(None))
}

fn unreachable_server(url: &str, error: &tonic::transport::Error) -> Failure {
    let text = format!(
        "can't reach {url}: {}\nhint: is the server running (`signalbox serve`), and is this its address? \
         --server or SIGNALBOX_URL name another",
        chain(error)
    );
    Failure::told(Exit::Unavailable, text)
}

/// The innermost cause: the outer ones only say that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
