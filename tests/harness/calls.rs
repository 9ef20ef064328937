//! Calls that a test makes: over a channel, with a token, and what came of them.

use std::time::Duration;

use signalbox::proto::v1::{
    CreateTokenRequest, Role, Selector, WatchConfigRequest, WatchConfigResponse,
    admin_service_client::AdminServiceClient, config_service_client::ConfigServiceClient,
    watch_config_response::Event,
};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

use super::{Server, soon};

/// A channel that sends a token along.
pub type Authorised = InterceptedService<Channel, Bearer>;

/// Sends a token along, if there is one.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// An empty text is no token.
    pub fn new(token: &str) -> Self {
        let value = || format!("Bearer {token}").parse().expect("a token is ASCII");
        Self((!token.is_empty()).then(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A channel to a server in plaintext.
pub async fn channel(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("it listens")
}

/// A request that carries a token.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The code of a refusal, and the reason that goes with it.
pub fn refusal<T>(result: Result<T, Status>) -> (Code, String) {
    match result {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => {
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
            (status.code(), reason)
        }
    }
}

/// A token for an hour that reaches everything, without secrets, for a subject.
pub async fn token(server: &Server, role: Role, subject: &str) -> String {
    token_with(server, role, subject, false, Duration::from_secs(3_600)).await
}

/// A token that reaches everything, for a subject.
pub async fn token_with(server: &Server, role: Role, subject: &str, secrets: bool, ttl: Duration) -> String {
    let request = CreateTokenRequest {
        role: role.into(),
        subject: subject.to_owned(),
        include_secrets: secrets,
        ttl: Some(ttl.try_into().unwrap()),
        grants: vec![Selector::default()],
        ..CreateTokenRequest::default()
    };
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    admin.create_token(with(&server.admin_token(), request)).await.unwrap().into_inner().token
}

/// Opens a watch stream, and reads up to where it is in sync.
pub async fn watch(channel: &Channel, token: &str) -> Result<Streaming<WatchConfigResponse>, Status> {
    let request = with(token, WatchConfigRequest::default());
    let mut stream = ConfigServiceClient::new(channel.clone()).watch_config(request).await?.into_inner();
    while !matches!(event(&mut stream).await?, Some(Event::Synced(_))) {}
    Ok(stream)
}

/// The next event of a stream; `None` at its end.
pub async fn event(stream: &mut Streaming<WatchConfigResponse>) -> Result<Option<Event>, Status> {
    Ok(soon(stream.message()).await?.and_then(|message| message.event))
}
