//! The guard in front of every call that the server makes: a name is resolved once, each address that it leads to is judged,
//! and a connection is opened to one of those, and to no other.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{net::TcpStream, time::timeout};
use url::Host;

use super::{Fault, address::not_public};
use crate::settings::{AllowedHost, HostPattern};

/// Addresses of one host that are tried, one after the other.
const TRIES: usize = 4;
/// How long one of several addresses may take to answer.
const CONNECT: Duration = Duration::from_secs(3);

/// Finds the addresses of names.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a name.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the system, as every program on the machine does.
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub host: Host<String>,
    pub port: u16,
    /// Whether it is spoken to by TLS.
    pub secure: bool,
}

/// Decides where calls may go, and opens their connections.
pub(super) struct Guard {
    allowed: Vec<AllowedHost>,
    resolver: Arc<dyn Resolve>,
}

impl Guard {
    pub fn new(allowed: Vec<AllowedHost>, resolver: Arc<dyn Resolve>) -> Self {
        Self { allowed, resolver }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// `EgressRefused` when none of the host's addresses may be called, else why none could be reached.
    pub async fn connect(&self, target: &Target) -> Result<TcpStream, Fault> {
        let found = self.addresses(&target.host).await?;
        let (mut open, mut refused) = (Vec::new(), None);
        for address in found {
            match self.judge(target, address) {
                Ok(()) => open.push(SocketAddr::new(address, target.port)),
                Err(fault) => refused = refused.or(Some(fault)),
            }
        }
        if open.is_empty() {
            return Err(refused.unwrap_or(Fault::NoSuchHost));
        }
        let mut last = Fault::Unreachable;
        for address in open.into_iter().take(TRIES) {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = fault_of(&error),
                Err(_) => last = Fault::Timeout,
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &Host<String>) -> Result<Vec<IpAddr>, Fault> {
        match host {
            Host::Ipv4(address) => Ok(vec![(*address).into()]),
            Host::Ipv6(address) => Ok(vec![(*address).into()]),
            Host::Domain(name) => self.resolver.resolve(name).await.map_err(|_| Fault::NoSuchHost),
        }
    }

    /// Whether an address may be called for a target.
    fn judge(&self, target: &Target, address: IpAddr) -> Result<(), Fault> {
        if self.allowed.iter().any(|allowed| is_allowed(allowed, target, address)) {
            return Ok(());
        }
        match not_public(address) {
            Some(word) => Err(Fault::EgressRefused(word)),
            None if !target.secure => Err(Fault::EgressRefused("unencrypted")),
            None => Ok(()),
        }
    }
}

fn is_allowed(allowed: &AllowedHost, target: &Target, address: IpAddr) -> bool {
    let host = match (&allowed.host, &target.host) {
        (HostPattern::Name(name), Host::Domain(host)) => host.trim_end_matches('.') == name,
        (HostPattern::Name(_), _) => false,
        (network @ HostPattern::Network { .. }, _) => network.holds(address),
    };
    host && allowed.port.is_none_or(|port| port == target.port)
}

fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::ConnectionRefused,
        io::ErrorKind::TimedOut => Fault::Timeout,
        _ => Fault::Unreachable,
    }
}
