//! Where traces go, by the names that OpenTelemetry gives such settings everywhere; off unless a collector is named.
//!
//! `OTEL_RESOURCE_ATTRIBUTES`, the other `OTEL_BSP_*` and the headers' values are read by OpenTelemetry's own library, which passes over
//! what it can't read; so they are looked at here.

mod collector;

use std::path::PathBuf;

use url::Url;

pub use collector::Protocol;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    secret::SecretText,
    values::{self, Wrong},
};

const ENDPOINT: Opt = Opt::new(
    "traces-endpoint",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "traces.endpoint",
    "URL",
    "Collector that traces are sent to (OTLP), for example http://127.0.0.1:4317; without one there are none",
);
const TRACES_ENDPOINT: Opt = environment(
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "URL",
    "The same for traces alone; goes before OTEL_EXPORTER_OTLP_ENDPOINT, and over HTTP gets no /v1/traces appended",
);
const PROTOCOL: Opt = environment(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "PROTOCOL",
    "How the collector is spoken to: grpc, which is what counts where nothing is said (its port is mostly 4317), or \
     http/protobuf (4318)",
);
const TRACES_PROTOCOL: Opt = environment(
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "PROTOCOL",
    "The same for traces alone; goes before OTEL_EXPORTER_OTLP_PROTOCOL",
);
const EXPORTER: Opt = Opt {
    default: "otlp",
    ..environment("OTEL_TRACES_EXPORTER", "EXPORTER", "How traces are sent: otlp, or none to make none")
};
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
const QUEUE_SIZE: Opt = Opt {
    default: "2048",
    ..environment(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "N",
        "Finished spans that wait to be sent at most; what comes then is dropped and counted",
    )
};
const DISABLED: Opt = Opt {
    default: "false",
    ..environment("OTEL_SDK_DISABLED", "BOOL", "Make no traces, whatever else is set")
};

/// The options of this section.
pub static OPTIONS: [&Opt; 14] = [
    &ENDPOINT,
    &TRACES_ENDPOINT,
    &PROTOCOL,
    &TRACES_PROTOCOL,
    &EXPORTER,
    &CA_FILE,
    &HEADERS,
    &TRACES_HEADERS,
    &SERVICE_NAME,
    &RESOURCE_ATTRIBUTES,
    &SAMPLER,
    &SAMPLER_ARG,
    &QUEUE_SIZE,
    &DISABLED,
];

/// Standard names that would change what is sent, or how, and that nothing here reads.
const UNREAD: [&str; 9] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_PROPAGATORS",
    "OTEL_CONFIG_FILE",
];
/// The exporter that sends nothing.
const NO_EXPORTER: &str = "none";
/// Bytes of the attributes: they go along with every batch.
const MOST_ATTRIBUTES: usize = 4_096;

/// Where traces go, and which are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// What is called: an http or https URL, which has a path over HTTP alone.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
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
    /// Finished spans that wait to be sent at most.
    pub queue_size: usize,
    /// Whether headers go along, which may be credentials.
    has_headers: bool,
    /// What the environment says in vain, as sentences.
    in_vain: Vec<String>,
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
        let endpoint = from.optional(&ENDPOINT, collector::url);
        let of_traces = from.optional(&TRACES_ENDPOINT, collector::url);
        let protocols = [&TRACES_PROTOCOL, &PROTOCOL].map(|option| from.optional(option, values::text));
        let exporter = from.get(&EXPORTER, values::text);
        let ca_file = from.optional(&CA_FILE, values::path);
        let headers = [&HEADERS, &TRACES_HEADERS].map(|option| from.secret(option));
        let service_name = from.optional(&SERVICE_NAME, values::text);
        let attributes = from.optional(&RESOURCE_ATTRIBUTES, values::text);
        let sampler = from.get(&SAMPLER, |text| values::word(text, &SAMPLERS));
        let per_million = from.get(&SAMPLER_ARG, share);
        let queue_size = from.get(&QUEUE_SIZE, queue_size);
        let disabled = from.get(&DISABLED, values::switch);
        let ([of_traces_protocol, protocol], [headers, traces_headers]) = (protocols, headers);
        let beside = Beside {
            protocols: [of_traces_protocol?, protocol?],
            exporter: exporter?,
            headers: [headers?, traces_headers?],
            attributes: attributes?.unwrap_or_default(),
        };
        let (ca_file, service_name, per_million) = (ca_file?, service_name?, per_million?);
        let ((sampler, parent_decides), queue_size, disabled) = (sampler?, queue_size?, disabled?);
        let (of_traces, of_all) = (of_traces?, endpoint?);
        let for_traces = of_traces.is_some();
        // What is set for other programs may be what it likes, as long as nothing is to be sent.
        let Some(url) = of_traces.or(of_all).filter(|_| !disabled && beside.exporter != NO_EXPORTER) else {
            return Some(None);
        };
        let called = beside.called(&url, for_traces);
        let mut problems = beside.problems();
        let (protocol, endpoint) = match called {
            Ok(called) if problems.is_empty() => called,
            other => {
                problems.extend(other.err());
                problems.into_iter().for_each(|problem| from.complain(problem));
                return None;
            }
        };
        let has_headers = beside.headers.iter().any(Option::is_some);
        let in_vain = unreadable_attributes(&beside.attributes).chain(unread(from)).collect();
        Some(Some(Self {
            endpoint,
            protocol,
            ca_file,
            service_name,
            sampler,
            per_million,
            parent_decides,
            queue_size,
            has_headers,
            in_vain,
        }))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let ca_file = self.ca_file.as_deref().and_then(|path| Problem::unless_file(&CA_FILE, path));
        let what = "the headers would cross the network in the clear; use an https:// collector, or one on this machine";
        let in_the_clear = (self.has_headers && collector::in_the_clear(&self.endpoint))
            .then(|| Problem::with(&HEADERS, what));
        ca_file.into_iter().chain(in_the_clear).collect()
    }

    /// What an operator should know of it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let what = "traces cross the network in the clear; they hold no secret, but who calls what, and when";
        let in_the_clear = collector::in_the_clear(&self.endpoint).then(|| format!("{ENDPOINT}: {what}"));
        let unlikely = collector::unlikely(&self.endpoint, self.protocol);
        let unlikely = unlikely.map(|what| format!("{ENDPOINT}: {what}"));
        in_the_clear.into_iter().chain(unlikely).chain(self.in_vain.iter().cloned()).collect()
    }
}

const fn environment(env: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt { flag: None, key: None, ..Opt::new("", env, "", value, help) }
}

/// What is read by others, or has one right value, and is looked at only where something is to be sent.
struct Beside {
    /// For traces, and for everything.
    protocols: [Option<String>; 2],
    exporter: String,
    headers: [Option<SecretText>; 2],
    attributes: String,
}

impl Beside {
    /// How the collector is spoken to, and what is called then.
    fn called(&self, url: &Url, for_traces: bool) -> Result<(Protocol, String), Problem> {
        let [of_traces, of_all] = &self.protocols;
        // The one for traces counts where there are two: the other is for what else a program may send.
        let said = of_traces.as_ref().map(|name| (&TRACES_PROTOCOL, name));
        let protocol = match said.or(of_all.as_ref().map(|name| (&PROTOCOL, name))) {
            None => Protocol::Grpc,
            Some((option, name)) => {
                collector::protocol(name).map_err(|wrong| Problem::with(option, wrong))?
            }
        };
        let named = if for_traces { &TRACES_ENDPOINT } else { &ENDPOINT };
        let target = collector::target(url, protocol, for_traces);
        target.map(|target| (protocol, target)).map_err(|wrong| Problem::with(named, wrong))
    }

    fn problems(&self) -> Vec<Problem> {
        let Self { exporter, headers: [all, of_traces_headers], attributes, .. } = self;
        let exporter = (exporter != EXPORTER.default).then(|| {
            Problem::with(&EXPORTER, format_args!("`{exporter}` is not there; give otlp or {NO_EXPORTER}"))
        });
        let headers = [(&HEADERS, all), (&TRACES_HEADERS, of_traces_headers)].map(|(option, text)| {
            let what = text.as_ref().and_then(|text| unusable_header(text.expose()));
            what.map(|what| Problem::with(option, what))
        });
        let length = attributes.len();
        let attributes = (length > MOST_ATTRIBUTES).then(|| {
            Problem::with(
                &RESOURCE_ATTRIBUTES,
                format_args!("{length} bytes; give {MOST_ATTRIBUTES} at most"),
            )
        });
        [exporter, attributes].into_iter().chain(headers).flatten().collect()
    }
}

/// What is wrong with headers, without their values: these are mostly credentials.
fn unusable_header(text: &str) -> Option<String> {
    let mut items = text.split_terminator(',').enumerate();
    let (place, _) = items.find(|(_, item)| {
        !item.split_once('=').is_some_and(|(name, value)| is_token(name.trim()) && is_escaped(value.trim()))
    })?;
    Some(format!(
        "header {} is not NAME=VALUE, with %20 for a space and %2C for a comma; give for example authorization=Bearer%20x",
        place + 1
    ))
}

/// Whether it can be the name of a header.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte))
}

/// Whether it is a value in which what is not plain is written as `%` and two digits.
fn is_escaped(value: &str) -> bool {
    let mut parts = value.split('%');
    let plain = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let begins_plain = parts.next().is_some_and(plain);
    let escape = |part: &str| part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let printable = |byte: u8| (b' '..0x7f).contains(&byte);
    !value.is_empty() && begins_plain && parts.all(|part| escape(part).is_some_and(printable) && plain(part))
}

/// A warning for each attribute that OpenTelemetry's library passes over, by its place.
fn unreadable_attributes(text: &str) -> impl Iterator<Item = String> {
    let items = text.split_terminator(',').enumerate();
    items.filter(|(_, item)| item.split_once('=').is_none_or(|(key, _)| key.trim().is_empty())).map(
        |(place, _)| format!("{RESOURCE_ATTRIBUTES}: item {} is not KEY=VALUE, and is left out", place + 1),
    )
}

/// A warning for each standard name that is set in vain.
fn unread(from: &Reader<'_>) -> impl Iterator<Item = String> {
    let set = UNREAD.into_iter().filter(|name| from.is_in_env(name));
    set.map(|name| format!("{name} is set, and nothing here reads it; `.env.example` lists what there is"))
}

/// As many as memory has room for: a span is about 1 KiB.
fn queue_size(text: &str) -> Result<usize, Wrong> {
    match values::number(text)? {
        size if (1..=1_000_000).contains(&size) => Ok(size),
        _ => Err(format!("{text} is out of range; give 1 to 1000000")),
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
