//! One connection to a server under measure, and the calls that the generator makes on it.
//!
//! What comes often is decoded only as far as it is looked at, so that the cores that the generator shares with the
//! servers are spent on the servers.

use std::time::Duration;

use signalbox::proto::v1::{GetResourceRequest, UpdateResourceRequest, WatchConfigRequest};
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::failure::{Context, Outcome};

/// Path of the watch, on which the reference answers by itself.
pub const WATCH_PATH: &str = "/signalbox.v1.ConfigService/WatchConfig";
const GET_PATH: &str = "/signalbox.v1.ConfigService/GetResource";
const UPDATE_PATH: &str = "/signalbox.v1.ConfigService/UpdateResource";
/// Longer than the worst storm takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, and the token that is shown on it.
#[derive(Clone)]
pub struct Link {
    channel: Channel,
    token: MetadataValue<Ascii>,
}

impl Link {
    /// Connects to `host:port`.
    pub async fn open(address: &str, token: &str) -> Outcome<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(PATIENCE);
        let channel = endpoint.connect().await.context("connecting")?;
        Ok(Self { channel, token: format!("Bearer {token}").parse()? })
    }

    /// The connection, for the generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with the token.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// Opens a stream.
    pub async fn watch(&self, message: WatchConfigRequest) -> Outcome<Streaming<Glance>> {
        let mut grpc = Grpc::new(self.channel());
        grpc.ready().await?;
        let codec = ProstCodec::<WatchConfigRequest, Glance>::default();
        let path = PathAndQuery::from_static(WATCH_PATH);
        Ok(grpc.server_streaming(self.request(message), path, codec).await?.into_inner())
    }

    /// Reads a resource, and throws it away.
    pub async fn read(&self, name: &str) -> Outcome<()> {
        let mut grpc = Grpc::new(self.channel());
        grpc.ready().await?;
        let message = GetResourceRequest { name: name.to_owned(), ..GetResourceRequest::default() };
        let codec = ProstCodec::<GetResourceRequest, ()>::default();
        grpc.unary(self.request(message), PathAndQuery::from_static(GET_PATH), codec).await?;
        Ok(())
    }

    /// Writes a resource.
    pub async fn write(&self, message: UpdateResourceRequest) -> Outcome<Written> {
        let mut grpc = Grpc::new(self.channel());
        grpc.ready().await?;
        let codec = ProstCodec::<UpdateResourceRequest, Written>::default();
        let path = PathAndQuery::from_static(UPDATE_PATH);
        Ok(grpc.unary(self.request(message), path, codec).await?.into_inner())
    }
}

/// What is looked at of `UpdateResourceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Written {
    /// The revision of the write.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// Where a stream resumes that has seen this revision.
    #[prost(string, tag = "3")]
    pub revision_token: String,
}

/// What is looked at of `WatchConfigResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Glance {
    /// The stream is complete.
    #[prost(message, optional, tag = "2")]
    pub synced: Option<SyncedGlance>,
    /// A revision, or a part of it.
    #[prost(message, optional, tag = "3")]
    pub changes: Option<ChangesGlance>,
    /// The stream has to begin anew, which must not happen here.
    #[prost(message, optional, tag = "5")]
    pub reset: Option<()>,
}

/// What is looked at of `Synced`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncedGlance {
    /// What has to be given back on a resume.
    #[prost(string, tag = "3")]
    pub view_id: String,
}

/// What is looked at of `Changes`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ChangesGlance {
    /// The revision.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// Whether the revision is complete.
    #[prost(bool, tag = "3")]
    pub last: bool,
}
