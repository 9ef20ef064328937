//! Where traces go, by the names that OpenTelemetry gives such settings everywhere; off unless a collector is named.
//!
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*` and the headers' values are read by OpenTelemetry's own library.

use std::path::PathBuf;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values::{self, Wrong},
};

const ENDPOINT: Opt = Opt::new(
    "traces-endpoint",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "traces.endpoint",
    "URL",
    "Collector that traces are sent to (OTLP over gRPC), for example http://127.0.0.1:4317; without one there are none",
);
const TRACES_ENDPOINT: Opt = environment(
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "URL",
    "The same for traces alone; goes before OTEL_EXPORTER_OTLP_ENDPOINT",
);
const PROTOCOL: Opt = environment(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "PROTOCOL",
    "How the collector is spoken to: grpc, which is all that there is here",
);
const CA_FILE: Opt = Opt::new(
    "traces-ca-file",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "traces.ca_file",
    "FILE",
    "PEM file of the authorities to trust for an https:// collector, instead of the system's",
);
const HEADERS: Opt = Opt::secret(
    "OTEL_EXPORTER_OTLP_HEADERS",
    "Headers for the collector, for example authorization=Bearer%20x",
);
const TRACES_HEADERS: Opt = Opt::secret("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "The same for traces alone");
const SERVICE_NAME: Opt = Opt::new(
    "traces-service-name",
    "OTEL_SERVICE_NAME",
    "traces.service_name",
    "NAME",
    "Name of the service in traces; by default service.name of OTEL_RESOURCE_ATTRIBUTES, else signalbox",
);
const RESOURCE_ATTRIBUTES: Opt = environment(
    "OTEL_RESOURCE_ATTRIBUTES",
    "KEY=VALUE,...",
    "What else is said of this process in traces, for example deployment.environment.name=prod",
);
const SAMPLER: Opt = Opt::new(
    "traces-sampler",
    "OTEL_TRACES_SAMPLER",
    "traces.sampler",
    "SAMPLER",
    "Which traces are recorded: always_on, always_off or traceidratio, or one of these for traces that begin here only \
     (parentbased_...)",
)
.or("parentbased_always_on");
const SAMPLER_ARG: Opt = Opt::new(
    "traces-sampler-arg",
    "OTEL_TRACES_SAMPLER_ARG",
    "traces.sampler_arg",
    "RATIO",
    "The share of traces that a traceidratio sampler records, 0 to 1",
)
.or("1");
const DISABLED: Opt = Opt {
    default: "false",
    ..environment("OTEL_SDK_DISABLED", "BOOL", "Make no traces, whatever else is set")
};

/// The options of this section.
pub static OPTIONS: [&Opt; 11] = [
    &ENDPOINT,
    &TRACES_ENDPOINT,
    &PROTOCOL,
    &CA_FILE,
    &HEADERS,
    &TRACES_HEADERS,
    &SERVICE_NAME,
    &RESOURCE_ATTRIBUTES,
    &SAMPLER,
    &SAMPLER_ARG,
    &DISABLED,
];

/// Where traces go, and which are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector: an http or https URL.
    pub endpoint: String,
    /// PEM file of the authorities to trust for https, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// What the service is called; `None` leaves it to the resource's attributes.
    pub service_name: Option<String>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Of those that the sampler takes a share of, how many out of a million.
    pub per_million: u32,
    /// Whether a recorded caller decides for what it calls.
    pub parent_decides: bool,
    /// Whether headers go along, which may be credentials.
    has_headers: bool,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// All.
    All,
    /// None.
    None,
    /// A share of them.
    Share,
}

/// The samplers by their names: what each takes, and whether a caller's decision goes before.
const SAMPLERS: [(&str, (Sampler, bool)); 6] = [
    ("always_on", (Sampler::All, false)),
    ("always_off", (Sampler::None, false)),
    ("traceidratio", (Sampler::Share, false)),
    ("parentbased_always_on", (Sampler::All, true)),
    ("parentbased_always_off", (Sampler::None, true)),
    ("parentbased_traceidratio", (Sampler::Share, true)),
];

impl Traces {
    /// Reads the section; `Some(None)` is no traces.
    pub fn read(from: &mut Reader<'_>) -> Option<Option<Self>> {
        let endpoint = from.optional(&ENDPOINT, url);
        let of_traces = from.optional(&TRACES_ENDPOINT, url);
        let protocol = from.optional(&PROTOCOL, values::text);
        let ca_file = from.optional(&CA_FILE, values::path);
        let headers = [from.secret(&HEADERS), from.secret(&TRACES_HEADERS)];
        let service_name = from.optional(&SERVICE_NAME, values::text);
        let sampler = from.get(&SAMPLER, |text| values::word(text, &SAMPLERS));
        let per_million = from.get(&SAMPLER_ARG, share);
        let disabled = from.get(&DISABLED, values::switch);
        let [headers, traces_headers] = headers;
        let has_headers = headers?.or(traces_headers?).is_some();
        let (ca_file, service_name, per_million) = (ca_file?, service_name?, per_million?);
        let ((sampler, parent_decides), disabled) = (sampler?, disabled?);
        let endpoint = of_traces?.or(endpoint?).filter(|_| !disabled);
        // It may stand there for other programs, as long as nothing is to be sent.
        if let Some(other) = protocol?.filter(|protocol| protocol != "grpc" && endpoint.is_some()) {
            from.complain(Problem::with(&PROTOCOL, format_args!("`{other}` is not spoken here; give grpc")));
            return None;
        }
        Some(endpoint.map(|endpoint| Self {
            endpoint,
            ca_file,
            service_name,
            sampler,
            per_million,
            parent_decides,
            has_headers,
        }))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let ca_file = self.ca_file.as_deref().and_then(|path| Problem::unless_file(&CA_FILE, path));
        let what = "the headers would cross the network in the clear; use an https:// collector, or one on this machine";
        let in_the_clear = (self.has_headers && self.in_the_clear()).then(|| Problem::with(&HEADERS, what));
        ca_file.into_iter().chain(in_the_clear).collect()
    }

    /// What an operator should know of it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let what = "traces cross the network in the clear; they hold no secret, but who calls what, and when";
        self.in_the_clear().then(|| format!("{ENDPOINT}: {what}")).into_iter().collect()
    }

    /// Whether everybody on the way to the collector can read what is sent.
    fn in_the_clear(&self) -> bool {
        let Ok(url) = url::Url::parse(&self.endpoint) else { return false };
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
            None => false,
        };
        url.scheme() == "http" && !local
    }
}

const fn environment(env: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt { flag: None, key: None, ..Opt::new("", env, "", value, help) }
}

fn url(text: &str) -> Result<String, Wrong> {
    let wrong = || "is not the URL of a collector; give one such as http://127.0.0.1:4317".to_owned();
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none();
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.has_host(), plain, bare) {
        (_, _, false, _) => {
            Err("holds a user or a password; give credentials in OTEL_EXPORTER_OTLP_HEADERS".into())
        }
        ("http" | "https", true, true, true) => Ok(text.trim_end_matches('/').to_owned()),
        ("http" | "https", true, true, false) => {
            Err("has a path or a query; OTLP over gRPC has none, its port is mostly 4317".into())
        }
        _ => Err(wrong()),
    }
}

/// In millionths: settings are compared, and numbers that are not whole can't be.
fn share(text: &str) -> Result<u32, Wrong> {
    let ratio: f64 = text.parse().map_err(|_| format!("`{text}` is not a number from 0 to 1"))?;
    match (0.0..=1.0).contains(&ratio) {
        // Within the bounds of the type, by the line above.
        true => Ok((ratio * 1e6).round() as u32),
        false => Err(format!("{text} is out of range; give 0 to 1")),
    }
}
