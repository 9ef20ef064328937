//! Where the server listens, and what it shows to whoever knocks.

use std::net::SocketAddr;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

const ADDRESS: Opt = Opt::new(
    "listen",
    "SIGNALBOX_LISTEN",
    "listen.address",
    "ADDRESS",
    "Address and port for gRPC; port 0 takes a free one",
)
.or("127.0.0.1:50051");
const HEALTH: Opt = Opt::new(
    "health-listen",
    "SIGNALBOX_HEALTH_LISTEN",
    "listen.health",
    "ADDRESS",
    "Address and port of a plaintext listener with nothing but the health service, for kubelets",
)
.or("off");
const ALLOW_PLAINTEXT: Opt = Opt::new(
    "allow-plaintext",
    "SIGNALBOX_ALLOW_PLAINTEXT",
    "listen.allow_plaintext",
    "BOOL",
    "Listen beyond loopback without TLS: tokens and secrets then cross the network in the clear",
)
.switch();
const REFLECTION: Opt = Opt::new(
    "reflection",
    "SIGNALBOX_REFLECTION",
    "listen.reflection",
    "WHEN",
    "gRPC reflection: on, off, or auto (off for plaintext beyond loopback)",
)
.or("auto");

/// The options of this section.
pub static OPTIONS: [&Opt; 4] = [&ADDRESS, &HEALTH, &ALLOW_PLAINTEXT, &REFLECTION];

/// When gRPC reflection is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    /// Always.
    On,
    /// Never.
    Off,
    /// Unless the listener is plaintext beyond loopback.
    Auto,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address of the gRPC listener; port 0 takes a free one.
    pub address: SocketAddr,
    /// Address of the health-only listener, if there is one.
    pub health: Option<SocketAddr>,
    /// Whether plaintext is allowed beyond loopback.
    pub allow_plaintext: bool,
    /// When gRPC reflection is served.
    pub reflection: Reflection,
}

impl Listen {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let address = from.get(&ADDRESS, values::address);
        let health = from.get(&HEALTH, values::address_or_off);
        let allow_plaintext = from.get(&ALLOW_PLAINTEXT, values::switch);
        let words = [("on", Reflection::On), ("off", Reflection::Off), ("auto", Reflection::Auto)];
        let reflection = from.get(&REFLECTION, |text| values::word(text, &words));
        Some(Self {
            address: address?,
            health: health?,
            allow_plaintext: allow_plaintext?,
            reflection: reflection?,
        })
    }

    /// What is wrong with it, given whether the listener has TLS.
    #[must_use]
    pub fn validate(&self, tls: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.beyond_loopback() && !tls && !self.allow_plaintext {
            problems.push(Problem::with(
                &ADDRESS,
                format_args!(
                    "{} can be reached from other machines, and without TLS tokens and secrets would cross the network \
                     in the clear; give --tls-cert-file and --tls-key-file, listen on 127.0.0.1, or say \
                     --allow-plaintext (SIGNALBOX_ALLOW_PLAINTEXT) if something in front of it encrypts",
                    self.address
                ),
            ));
        }
        if self.address.port() != 0 && self.health == Some(self.address) {
            problems.push(Problem::with(&HEALTH, "is the address of --listen; give another port"));
        }
        problems
    }

    /// What an operator should know about it.
    #[must_use]
    pub fn warnings(&self, tls: bool) -> Vec<String> {
        let exposed = self.beyond_loopback() && !tls && self.allow_plaintext;
        let warning = format!(
            "listening on {} without TLS: whoever sees the traffic reads tokens and secrets",
            self.address
        );
        exposed.then_some(warning).into_iter().collect()
    }

    /// Whether reflection is served, given whether the listener has TLS.
    #[must_use]
    pub fn serves_reflection(&self, tls: bool) -> bool {
        match self.reflection {
            Reflection::On => true,
            Reflection::Off => false,
            Reflection::Auto => tls || !self.beyond_loopback(),
        }
    }

    fn beyond_loopback(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback()
    }
}
