//! Calls that a test makes: over a channel, with a token, and what came of them.

use std::{future::Future, time::Duration};

use signalbox::proto::v1::{
    CreateTokenRequest, Role, Selector, WatchConfigRequest, WatchConfigResponse,
    admin_service_client::AdminServiceClient, config_service_client::ConfigServiceClient,
    watch_config_response::Event,
};
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use super::Server;

/// Far more than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits for something that has to come soon.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("it comes in time")
}

/// A channel to a server in plaintext.
pub async fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
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
