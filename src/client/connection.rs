//! One authenticated connection to one server, with the typed clients on it.
//!
//! Owns how a channel is set up and how a token travels. Must not know the cache.

use std::time::Duration;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use super::{
    error::{Error, with_causes},
    options::ClientOptions,
    secret::SecretText,
    tls,
    token::Subject,
    trace,
};
use crate::proto::v1::{
    admin_service_client::AdminServiceClient, api_key_service_client::ApiKeyServiceClient,
    config_service_client::ConfigServiceClient, database_service_client::DatabaseServiceClient,
    fleet_service_client::FleetServiceClient, provider_service_client::ProviderServiceClient,
    setting_service_client::SettingServiceClient,
};
use crate::trace_context::TraceContext;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
// A cut that no packet announces is found within the sum of both. The server reaps at its own pace, and does not
// count pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The server sends at most 1 MiB by default, and at most 16 MiB however it is set.
const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;

/// A channel whose every call carries the token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// The typed clients of one connection, for unary calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Reads, writes and watches configuration.
    pub config: ConfigServiceClient<Authorized>,
    /// Knows which provider is active.
    pub providers: ProviderServiceClient<Authorized>,
    /// Replaces keys, and takes note of their use.
    pub api_keys: ApiKeyServiceClient<Authorized>,
    /// Tries databases.
    pub databases: DatabaseServiceClient<Authorized>,
    /// Tells which value of a setting counts.
    pub settings: SettingServiceClient<Authorized>,
    /// Knows which workers run what.
    pub fleet: FleetServiceClient<Authorized>,
    /// Runs the service itself.
    pub admin: AdminServiceClient<Authorized>,
    channel: Channel,
    /// Whom its token speaks for.
    pub(super) subject: Subject,
}

impl Connection {
    /// Connects to the first of the endpoints that can be reached, with the token as it is now. A token that expires
    /// needs a new connection.
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Token`], [`Error::CaFile`], [`Error::IdentityFile`], or the last endpoint's [`Error::Connect`].
    pub async fn open(options: &ClientOptions) -> Result<Self, Error> {
        options.check()?;
        let mut result = Err(Error::Options("at least one endpoint is needed".to_owned()));
        for endpoint in &options.endpoints {
            result = Self::open_to(endpoint, options).await;
            if matches!(
                result,
                Ok(_) | Err(Error::Token(_) | Error::CaFile { .. } | Error::IdentityFile { .. })
            ) {
                break;
            }
        }
        result
    }

    pub(super) async fn open_to(endpoint: &str, options: &ClientOptions) -> Result<Self, Error> {
        let token = options.token.read().await?;
        let subject = Subject::of(token.as_ref());
        let bearer = Bearer::new(token, options.trace_context.clone())?;
        let channel = connect(endpoint, options).await?;
        Ok(Self {
            config: ConfigServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            providers: ProviderServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            api_keys: ApiKeyServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            databases: DatabaseServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            settings: SettingServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            fleet: FleetServiceClient::with_interceptor(channel.clone(), bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            admin: AdminServiceClient::with_interceptor(channel.clone(), bearer)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            channel,
            subject,
        })
    }

    /// The channel itself, for services that ask for no token, such as `grpc.health.v1.Health`.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Puts `authorization: Bearer <token>` on every call, and `traceparent` and `tracestate` where the caller is traced.
#[derive(Clone, Debug)]
pub struct Bearer {
    token: Option<MetadataValue<Ascii>>,
    /// What calls belong to that belong to nothing nearer.
    context: Option<TraceContext>,
}

impl Bearer {
    fn new(token: Option<SecretText>, context: Option<TraceContext>) -> Result<Self, Error> {
        let Some(token) = token else {
            return Ok(Self { token: None, context });
        };
        let header = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = MetadataValue::try_from(header.as_str())
            .map_err(|_| Error::Token("it holds characters that a header can't".into()))?;
        // Keeps it out of Debug output and out of HPACK's table.
        value.set_sensitive(true);
        Ok(Self { token: Some(value), context })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.token {
            request.metadata_mut().insert("authorization", value.clone());
        }
        if let Some(TraceContext { parent, state }) = trace::current().or_else(|| self.context.clone()) {
            for (name, text) in
                [("traceparent", parent.to_string()), ("tracestate", state.as_str().to_owned())]
            {
                if let Ok(value) = MetadataValue::try_from(text.as_str())
                    && !text.is_empty()
                {
                    request.metadata_mut().insert(name, value);
                }
            }
        }
        Ok(request)
    }
}

async fn connect(endpoint: &str, options: &ClientOptions) -> Result<Channel, Error> {
    let failed = |cause: String| Error::Connect { endpoint: endpoint.to_owned(), cause };
    let transport = |error: tonic::transport::Error| failed(with_causes(&error));
    let mut channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(transport)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if endpoint.starts_with("https://") {
        channel = channel.tls_config(tls::config(options).await?).map_err(transport)?;
    }
    channel.connect().await.map_err(transport)
}

#[cfg(test)]
mod tests {
    use super::{Bearer, ClientOptions, Connection, Error, Interceptor, Request, SecretText};

    #[test]
    fn the_token_travels_and_does_not_print() {
        let mut bearer = Bearer::new(Some(SecretText::new("sk-canary")), None).unwrap();
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer sk-canary");
        assert!(!format!("{bearer:?} {request:?}").contains("canary"));
        assert!(Bearer::new(Some(SecretText::new("two\nlines")), None).is_err());
        let anonymous = Bearer::new(None, None).unwrap().call(Request::new(())).unwrap();
        assert!(anonymous.metadata().get("authorization").is_none());
        assert!(anonymous.metadata().get("traceparent").is_none());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_the_cause() {
        // Bound and dropped, so that nobody listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Connection::open(&ClientOptions::new(&endpoint)).await.unwrap_err();
        assert!(matches!(&error, Error::Connect { endpoint: named, .. } if *named == endpoint));
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
