//! Which addresses the server may call beyond the public ones.

use std::net::IpAddr;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values::Wrong,
};

const ALLOW: Opt = Opt::new(
    "allow-outbound",
    "SIGNALBOX_ALLOW_OUTBOUND",
    "outbound.allow",
    "HOST[:PORT],...",
    "Hosts, addresses and networks (10.0.0.0/8) that may be called to test providers and databases, though they are not public or \
     unencrypted; may be repeated",
)
.list();

/// The options of this section.
pub static OPTIONS: [&Opt; 1] = [&ALLOW];

const MAX_HOSTS: usize = 256;

/// Which addresses the server may call beyond the public ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// What the operator vouches for.
    pub allowed: Vec<AllowedHost>,
}

/// Something that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// Which host.
    pub host: HostPattern,
    /// Which port; `None` for any.
    pub port: Option<u16>,
}

/// Which host may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// A name, in lower case and without a dot at its end, wherever it leads.
    Name(String),
    /// The addresses of a network, whatever name leads there.
    Network {
        /// One of them.
        address: IpAddr,
        /// How many bits all of them have in common.
        prefix: u8,
    },
}

impl Outbound {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let allowed = from.optional(&ALLOW, hosts)?.unwrap_or_default();
        Some(Self { allowed })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let count = self.allowed.len();
        let problem = format!("lists {count} hosts; at most {MAX_HOSTS} are allowed, give networks");
        (count > MAX_HOSTS).then(|| Problem::with(&ALLOW, problem)).into_iter().collect()
    }
}

impl HostPattern {
    /// Whether an address is one of the network's.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Network { address: IpAddr::V4(one), prefix } => match address {
                IpAddr::V4(other) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                    one.to_bits() & mask == other.to_bits() & mask
                }
                IpAddr::V6(_) => false,
            },
            Self::Network { address: IpAddr::V6(one), prefix } => match address {
                IpAddr::V6(other) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                    one.to_bits() & mask == other.to_bits() & mask
                }
                IpAddr::V4(_) => false,
            },
            Self::Name(_) => false,
        }
    }
}

fn hosts(text: &str) -> Result<Vec<AllowedHost>, Wrong> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(host).collect()
}

fn host(text: &str) -> Result<AllowedHost, Wrong> {
    let wrong = || {
        format!(
            "`{text}` is no host; give one such as ollama.internal, localhost:11434, [::1]:11434 or 10.0.0.0/8"
        )
    };
    if let Some((address, prefix)) = text.split_once('/') {
        return network(address, prefix).ok_or_else(wrong);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(AllowedHost { host: whole(address), port: None });
    }
    let (name, port) = match text.rsplit_once(':') {
        // The colon of an address in brackets.
        Some(_) if text.ends_with(']') => (text, None),
        Some((name, port)) => (name, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host = match url::Host::parse(name).map_err(|_| wrong())? {
        url::Host::Ipv4(address) => whole(address.into()),
        url::Host::Ipv6(address) => whole(address.into()),
        url::Host::Domain(name) if name.bytes().all(plain) => {
            HostPattern::Name(name.trim_end_matches('.').to_owned())
        }
        url::Host::Domain(_) => return Err(wrong()),
    };
    Ok(AllowedHost { host, port })
}

fn network(address: &str, prefix: &str) -> Option<AllowedHost> {
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= bits).then_some(AllowedHost { host: HostPattern::Network { address, prefix }, port: None })
}

fn whole(address: IpAddr) -> HostPattern {
    HostPattern::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_all_their_forms() {
        let name = |name: &str, port| AllowedHost { host: HostPattern::Name(name.to_owned()), port };
        let address = |text: &str, port| AllowedHost { host: whole(text.parse().unwrap()), port };
        let found =
            hosts("Ollama.Internal., localhost:11434,,127.0.0.1:1,[::1]:2,::1,[fe80::1],10.1.2.3").unwrap();
        assert_eq!(
            found,
            [
                name("ollama.internal", None),
                name("localhost", Some(11434)),
                address("127.0.0.1", Some(1)),
                address("::1", Some(2)),
                address("::1", None),
                address("fe80::1", None),
                address("10.1.2.3", None),
            ]
        );
        for wrong in [
            "http://x",
            "x:0",
            "x:70000",
            "x:",
            "a b",
            "*",
            "*.x",
            "10.0.0.0/33",
            "::/129",
            "x/8",
            "10.0.0.0/8:80",
        ] {
            let told = hosts(wrong).unwrap_err();
            assert!(told.contains("give one such as"), "{wrong}: {told}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_only() {
        let network = |text: &str| host(text).unwrap().host;
        let holds = |text: &str, address: &str| network(text).holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe00::1"));
        assert!(holds("::/0", "::1") && !holds("::/0", "10.0.0.1"));
        // Another way to write an address of the network is not an address of the network.
        assert!(!holds("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(!network("localhost").holds("127.0.0.1".parse().unwrap()));
    }
}
