//! How much of something each peer has, so that one alone can't take all of it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// Counts by peer; nothing is kept of peers that have nothing. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of a peer's places; given back when dropped.
#[derive(Debug)]
pub struct PeerPlace {
    peer: IpAddr,
    peers: Peers,
}

impl Peers {
    /// Takes a place for a peer, unless it has `limit` of them.
    #[must_use]
    pub fn take(&self, peer: IpAddr, limit: usize) -> Option<PeerPlace> {
        let peer = network(peer);
        let mut counts = self.0.lock();
        let count = counts.entry(peer).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(PeerPlace { peer, peers: self.clone() })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Whom an address counts for. In IPv6 whoever has one address has the whole /64 (RFC 6177).
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_places_and_gets_them_back() {
        let peers = Peers::default();
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let places: Vec<_> = (0..3).map(|_| peers.take(one, 3).unwrap()).collect();
        assert!(peers.take(one, 3).is_none());
        assert!(peers.take(other, 3).is_some());
        drop(places);
        assert!(peers.take(one, 3).is_some());
        assert!(peers.0.lock().is_empty(), "nothing is kept of peers that are gone");
    }

    #[test]
    fn a_peer_of_ipv6_is_its_network() {
        let counted = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), counted("2001:db8:1:2::9"));
        assert_ne!(counted("2001:db8:1:2::9"), counted("2001:db8:1:3::9"));
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1", "it came by IPv4");
        assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"));
    }
}
