//! Somebody who calls a server: an address that may move, a token, a connection, and the generated clients on it.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use signalbox::proto::v1::{
    CreateTokenRequest, GetStatusRequest, GetStatusResponse, Role, Selector,
    admin_service_client::AdminServiceClient, api_key_service_client::ApiKeyServiceClient,
    config_service_client::ConfigServiceClient, database_service_client::DatabaseServiceClient,
    fleet_service_client::FleetServiceClient, provider_service_client::ProviderServiceClient,
};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::harness::{
    Server,
    calls::{Authorised, Bearer},
};

/// The smallest window that HTTP/2 has: a stream that is not read fills up soon.
const STREAM_WINDOW: u32 = 65_535;
/// Far above it, so that one stream that is not read does not stop the others on its connection.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// An address, another one after each start of its server.
type Place = Arc<RwLock<String>>;

/// Where a server is, or several that share a store: whoever calls them takes another one with each connection.
#[derive(Clone)]
pub struct Site {
    places: Arc<[Place]>,
    callers: Arc<AtomicUsize>,
}

/// Somebody who calls. Clones share the connection.
#[derive(Clone)]
pub struct Caller {
    site: Site,
    /// Which of the site's servers it calls.
    turn: usize,
    token: Arc<str>,
    channel: Channel,
}

/// What a token is to allow.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    pub role: Role,
    pub grants: Vec<Selector>,
    pub secrets: bool,
    pub ttl_seconds: i64,
}

impl Default for Site {
    fn default() -> Self {
        Self { places: Arc::new([Place::default()]), callers: Arc::default() }
    }
}

impl Site {
    /// Where several servers are, wherever they move.
    pub fn among(sites: &[Self]) -> Self {
        let places = sites.iter().flat_map(|site| site.places.iter().cloned()).collect();
        Self { places, callers: Arc::default() }
    }

    /// Whether there are several servers.
    pub fn is_several(&self) -> bool {
        self.places.len() > 1
    }

    /// Where a server is in a process of its own.
    pub fn of(server: &Server) -> Self {
        let site = Self::default();
        site.moved_to(server.address());
        site
    }

    pub fn moved_to(&self, address: impl Into<String>) {
        *self.places[0].write().expect("nobody panics under this lock") = address.into();
    }

    pub fn address(&self) -> String {
        self.address_at(0)
    }

    fn address_at(&self, turn: usize) -> String {
        self.places[turn % self.places.len()].read().expect("nobody panics under this lock").clone()
    }

    fn channel(&self, turn: usize) -> Channel {
        let address = self.address_at(turn);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
        let endpoint = endpoint.initial_stream_window_size(STREAM_WINDOW);
        endpoint.initial_connection_window_size(CONNECTION_WINDOW).connect_lazy()
    }
}

impl Caller {
    /// A caller with a connection of its own. It connects with its first call.
    pub fn new(site: &Site, token: &str) -> Self {
        let turn = site.callers.fetch_add(1, Ordering::Relaxed);
        Self { site: site.clone(), turn, token: token.into(), channel: site.channel(turn) }
    }

    /// The same caller on a new connection, to where the server is now, or to the next one of several.
    pub fn reconnected(&self) -> Self {
        let turn = self.turn + 1;
        Self { turn, channel: self.site.channel(turn), ..self.clone() }
    }

    /// On to the next one of several servers. Where there is only one, the connection stays.
    pub fn elsewhere(&self) -> Self {
        if self.roams() { self.reconnected() } else { self.clone() }
    }

    /// Whether it calls one of several servers.
    pub fn roams(&self) -> bool {
        self.site.is_several()
    }

    /// The same connection for another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn authorised(&self) -> Authorised {
        InterceptedService::new(self.channel.clone(), Bearer::new(&self.token))
    }

    pub fn config(&self) -> ConfigServiceClient<Authorised> {
        ConfigServiceClient::new(self.authorised())
    }

    pub fn provider(&self) -> ProviderServiceClient<Authorised> {
        ProviderServiceClient::new(self.authorised())
    }

    pub fn database(&self) -> DatabaseServiceClient<Authorised> {
        DatabaseServiceClient::new(self.authorised())
    }

    pub fn api_key(&self) -> ApiKeyServiceClient<Authorised> {
        ApiKeyServiceClient::new(self.authorised())
    }

    pub fn fleet(&self) -> FleetServiceClient<Authorised> {
        FleetServiceClient::new(self.authorised())
    }

    pub fn admin(&self) -> AdminServiceClient<Authorised> {
        AdminServiceClient::new(self.authorised())
    }

    /// How the server is.
    pub async fn status(&self) -> GetStatusResponse {
        let status = self.admin().get_status(GetStatusRequest {}).await;
        status.expect("the server says how it is").into_inner()
    }

    /// Makes a token, as an admin can.
    pub async fn token_for(&self, subject: &str, rights: &Rights) -> String {
        let request = CreateTokenRequest {
            role: rights.role.into(),
            subject: subject.to_owned(),
            grants: rights.grants.clone(),
            include_secrets: rights.secrets,
            grant_secrets: false,
            ttl: Some(prost_types::Duration { seconds: rights.ttl_seconds.max(1), nanos: 0 }),
            longest: false,
        };
        let made = self.admin().create_token(request).await;
        made.unwrap_or_else(|status| panic!("a token for {subject}: {status}")).into_inner().token
    }

    /// A caller with other rights, on a connection of its own.
    pub async fn colleague(&self, subject: &str, rights: &Rights) -> Self {
        Caller::new(&self.site, &self.token_for(subject, rights).await)
    }
}

impl Rights {
    /// May do everything but hand out secrets.
    pub fn admin() -> Self {
        Self { role: Role::Admin, ttl_seconds: 3600, ..Self::default() }
    }

    /// Reads everything, masked.
    pub fn viewer() -> Self {
        Self { role: Role::Viewer, ttl_seconds: 3600, ..Self::default() }
    }

    /// Reads what it is granted.
    pub fn worker(grants: Vec<Selector>, secrets: bool) -> Self {
        Self { role: Role::Worker, grants, secrets, ttl_seconds: 3600 }
    }
}
