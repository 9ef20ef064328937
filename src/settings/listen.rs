//! Where the server listens, and what it shows to whoever knocks.

use std::net::SocketAddr;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

static ADDRESS: Opt = Opt::new(
    "listen",
    "SIGNALBOX_LISTEN",
    "listen.address",
    "ADDRESS",
    "Address and port for gRPC and gRPC-Web; port 0 takes a free one",
)
.or("127.0.0.1:50051");
static HTTP: Opt = Opt::new(
    "http-listen",
    "SIGNALBOX_HTTP_LISTEN",
    "listen.http",
    "ADDRESS",
    "Address and port for HTTP (REST, health pages, metrics), or off; port 0 takes a free one",
)
.or("127.0.0.1:8080");
const METRICS_ANONYMOUS: Opt = Opt::new(
    "metrics-anonymous",
    "SIGNALBOX_METRICS_ANONYMOUS",
    "listen.metrics_anonymous",
    "BOOL",
    "Show /metrics to whoever reaches the HTTP listener, without a token",
)
.switch();
static HEALTH: Opt = Opt::new(
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

const CORS: Opt = Opt::new(
    "cors-allowed-origins",
    "SIGNALBOX_CORS_ALLOWED_ORIGINS",
    "listen.cors_allowed_origins",
    "ORIGIN,...",
    "Origins of web pages that may call gRPC-Web and REST from a browser, for example https://console.example.com; may be \
     repeated",
)
.list();

const MAX_ORIGINS: usize = 64;

/// The options of this section.
pub static OPTIONS: [&Opt; 7] =
    [&ADDRESS, &HTTP, &HEALTH, &ALLOW_PLAINTEXT, &REFLECTION, &METRICS_ANONYMOUS, &CORS];

/// What each listener's option is called, for whoever can't bind it.
pub static LISTENERS: Listeners = Listeners { grpc: &ADDRESS, http: &HTTP, health: &HEALTH };

/// The options that say where to listen.
#[derive(Debug)]
pub struct Listeners {
    /// Of the gRPC listener.
    pub grpc: &'static Opt,
    /// Of the HTTP listener.
    pub http: &'static Opt,
    /// Of the listener for probes.
    pub health: &'static Opt,
}

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
    /// Address of the HTTP listener, if there is one; port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Address of the health-only listener, if there is one.
    pub health: Option<SocketAddr>,
    /// Whether plaintext is allowed beyond loopback.
    pub allow_plaintext: bool,
    /// When gRPC reflection is served.
    pub reflection: Reflection,
    /// Whether metrics are shown without a token.
    pub metrics_anonymous: bool,
    /// Origins of web pages that may call, exactly as browsers send them.
    pub cors_origins: Vec<String>,
}

impl Listen {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let address = from.get(&ADDRESS, values::address);
        let http = from.get(&HTTP, values::address_or_off);
        let health = from.get(&HEALTH, values::address_or_off);
        let allow_plaintext = from.get(&ALLOW_PLAINTEXT, values::switch);
        let words = [("on", Reflection::On), ("off", Reflection::Off), ("auto", Reflection::Auto)];
        let reflection = from.get(&REFLECTION, |text| values::word(text, &words));
        let metrics_anonymous = from.get(&METRICS_ANONYMOUS, values::switch);
        let cors_origins = from.optional(&CORS, origins);
        Some(Self {
            address: address?,
            http: http?,
            health: health?,
            allow_plaintext: allow_plaintext?,
            reflection: reflection?,
            metrics_anonymous: metrics_anonymous?,
            cors_origins: cors_origins?.unwrap_or_default(),
        })
    }

    /// What is wrong with it, given whether the listeners have TLS.
    #[must_use]
    pub fn validate(&self, tls: bool) -> Vec<Problem> {
        let open = |(option, address): (&Opt, SocketAddr)| {
            Problem::with(
                option,
                format_args!(
                    "{address} can be reached from other machines, and without TLS tokens and secrets would cross the \
                     network in the clear; give --tls-cert-file and --tls-key-file, listen on 127.0.0.1, or say \
                     --allow-plaintext (SIGNALBOX_ALLOW_PLAINTEXT) if something in front of it encrypts"
                ),
            )
        };
        let mut problems: Vec<Problem> = match tls || self.allow_plaintext {
            true => Vec::new(),
            false => self.beyond_loopback().map(open).collect(),
        };
        let same = |one: SocketAddr, other: SocketAddr| one.port() != 0 && one == other;
        if self.http.is_some_and(|http| same(http, self.address)) {
            problems.push(Problem::with(&HTTP, "is the address of --listen; give another port, or off"));
        }
        if self.health.is_some_and(|health| same(health, self.address)) {
            problems.push(Problem::with(&HEALTH, "is the address of --listen; give another port"));
        }
        if self.health.zip(self.http).is_some_and(|(health, http)| same(health, http)) {
            problems.push(Problem::with(&HEALTH, "is the address of --http-listen; give another port"));
        }
        problems
    }

    /// What an operator should know about it.
    #[must_use]
    pub fn warnings(&self, tls: bool) -> Vec<String> {
        let warning = |(_, address)| {
            format!("listening on {address} without TLS: whoever sees the traffic reads tokens and secrets")
        };
        if tls { Vec::new() } else { self.beyond_loopback().map(warning).collect() }
    }

    /// Whether reflection is served, given whether the listener has TLS.
    #[must_use]
    pub fn serves_reflection(&self, tls: bool) -> bool {
        match self.reflection {
            Reflection::On => true,
            Reflection::Off => false,
            Reflection::Auto => tls || is_local(self.address),
        }
    }

    /// The listeners for callers that can be reached from other machines.
    fn beyond_loopback(&self) -> impl Iterator<Item = (&'static Opt, SocketAddr)> {
        let http = self.http.map(|address| (&HTTP, address));
        [(&ADDRESS, self.address)].into_iter().chain(http).filter(|(_, address)| !is_local(*address))
    }
}

/// Origins with commas between. They are compared letter by letter, so each has to be as a browser sends it.
fn origins(text: &str) -> Result<Vec<String>, values::Wrong> {
    let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(origin);
    let origins = origins.collect::<Result<Vec<_>, _>>()?;
    match origins.len() {
        count if count > MAX_ORIGINS => {
            Err(format!("lists {count} origins; at most {MAX_ORIGINS} are allowed"))
        }
        _ => Ok(origins),
    }
}

fn origin(text: &str) -> Result<String, values::Wrong> {
    let wrong = || {
        format!(
            "`{text}` is no origin; give scheme, host and port if it is not the usual one, as in https://console.example.com"
        )
    };
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let spelt = url.origin().ascii_serialization();
    match url.scheme() {
        "http" | "https" if spelt == text => Ok(spelt),
        "http" | "https" => Err(format!("`{text}` is not how a browser writes it; give {spelt}")),
        _ => Err(wrong()),
    }
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
