//! How a client is set up.
//!
//! Owns the options, their rules and the reading of the environment. Must not know how they are carried out.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use http::Uri;

use super::{
    bounds::MAX_STATE_BYTES,
    cache::{CacheOptions, Identity},
    environment::Environment,
    error::Error,
    metrics::{Metric, Metrics},
    secret::SecretText,
    selector::Selector,
    settings::Overrides,
    snapshot::Snapshot,
    staleness::Staleness,
    token::{Subject, TokenSource},
    validation::Validation,
};
use crate::{
    proto::v1::{WatchConfigRequest, Worker, setting_spec::Value},
    setting_key, setting_text,
    trace_context::TraceContext,
};

/// How this client names itself.
pub(super) const CLIENT_VERSION: &str = concat!("signalbox-rust/", env!("CARGO_PKG_VERSION"));
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:50051";
const MAX_SELECTORS: usize = 64;
const MAX_QUEUE: usize = 65_536;
const MIN_STATE_BYTES: usize = 1 << 20;

/// How a client is set up. Checked by [`Client::connect`](super::Client::connect).
#[derive(Clone)]
#[must_use]
pub struct ClientOptions {
    pub(super) endpoints: Vec<String>,
    pub(super) token: TokenSource,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) tls_server_name: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) trace_context: Option<TraceContext>,
    pub(super) staleness: Staleness,
    pub(super) metrics: Metrics,
    pub(super) validation: Validation,
    pub(super) cache: Option<CacheOptions>,
    pub(super) enabled: bool,
    pub(super) event_queue: usize,
    pub(super) max_state_bytes: usize,
    pub(super) progress_interval: Duration,
    selectors: Vec<Selector>,
    include_secrets: bool,
    worker: Worker,
    pub(super) environment: Environment,
    /// What is wrong with the environment that the options come from.
    problem: Option<&'static str>,
    defaults: BTreeMap<String, Value>,
}

impl ClientOptions {
    /// Options for one server, with defaults for everything else: no token, everything that is granted, no secrets.
    ///
    /// `http://` is plaintext, and sends the token in the clear: only for this machine. `https://` is TLS.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            token: TokenSource::none(),
            ca_file: None,
            tls_server_name: None,
            cert_file: None,
            key_file: None,
            trace_context: None,
            staleness: Staleness::default(),
            metrics: Metrics::default(),
            validation: Validation::default(),
            cache: None,
            enabled: true,
            problem: None,
            event_queue: 1_024,
            max_state_bytes: MAX_STATE_BYTES,
            progress_interval: Duration::from_secs(5),
            selectors: Vec::new(),
            include_secrets: false,
            worker: Worker {
                // The process that watches may be another than the one that has put the options together.
                id: String::new(),
                labels: BTreeMap::new(),
                client_version: CLIENT_VERSION.to_owned(),
                silent: false,
            },
            environment: Environment::default(),
            defaults: BTreeMap::new(),
        }
    }

    /// Options from this process's environment; see [`from_environment`](Self::from_environment).
    pub fn from_env() -> Self {
        Self::from_environment(Environment::of_process())
    }

    /// Options from an environment: `SIGNALBOX_URL` (one or several, separated by commas; this machine's default port
    /// when not set), `SIGNALBOX_TOKEN`, else `SIGNALBOX_TOKEN_FILE`, `SIGNALBOX_CA_FILE`, `SIGNALBOX_CLIENT_CERT_FILE`
    /// with `SIGNALBOX_CLIENT_KEY_FILE`, `SIGNALBOX_CACHE_FILE` with `SIGNALBOX_CACHE_KEY`, else `SIGNALBOX_CACHE_KEY_FILE`,
    /// `SIGNALBOX_ENABLED`, `SIGNALBOX_SETTING_<KEY>` as overrides, and the providers' own (`GROQ_API_KEY` and so on) for calls of
    /// models without a service.
    pub fn from_environment(environment: Environment) -> Self {
        let urls = environment.get("SIGNALBOX_URL").unwrap_or(DEFAULT_ENDPOINT);
        let file = environment.get("SIGNALBOX_TOKEN_FILE").map(TokenSource::file);
        let token = environment.get("SIGNALBOX_TOKEN").map(TokenSource::fixed).or(file);
        let enabled = environment.get("SIGNALBOX_ENABLED").map_or(Some(true), setting_text::boolean);
        let path = |name| environment.get(name).map(PathBuf::from);
        let cache = |file: &str| match path("SIGNALBOX_CACHE_KEY_FILE") {
            Some(key) if environment.get("SIGNALBOX_CACHE_KEY").is_none() => {
                CacheOptions::with_key_file(file, key)
            }
            // Without any key it is refused when the client is made.
            _ => CacheOptions::new(
                file,
                SecretText::new(environment.get("SIGNALBOX_CACHE_KEY").unwrap_or_default()),
            ),
        };
        Self {
            token: token.unwrap_or_default(),
            ca_file: path("SIGNALBOX_CA_FILE"),
            cert_file: path("SIGNALBOX_CLIENT_CERT_FILE"),
            key_file: path("SIGNALBOX_CLIENT_KEY_FILE"),
            cache: environment.get("SIGNALBOX_CACHE_FILE").map(cache),
            enabled: enabled.unwrap_or(true),
            problem: enabled.is_none().then_some("SIGNALBOX_ENABLED is true or false"),
            ..Self::of_urls(urls)
        }
        .environment(environment)
    }

    /// Options for one server or several, separated by commas, as `SIGNALBOX_URL` has them.
    pub fn of_urls(urls: &str) -> Self {
        let endpoints = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        Self::new(DEFAULT_ENDPOINT).endpoints(endpoints.map(str::to_owned).collect())
    }

    /// The servers, tried in turn; at least one, of one service.
    pub fn endpoints(mut self, endpoints: Vec<String>) -> Self {
        self.endpoints = endpoints;
        self
    }

    /// Where the bearer token comes from.
    pub fn token(mut self, token: TokenSource) -> Self {
        self.token = token;
        self
    }

    /// A PEM file of the authorities to trust for `https://`, instead of the system's. Read at each connection.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The name that the certificate of every `https://` address has to be for, instead of the host of that address: for a
    /// server that is reached through a forwarded port.
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls_server_name = Some(name.into());
        self
    }

    /// PEM files of this client's certificate chain and its key, for a server that asks for one. Read at each connection.
    pub fn identity_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.cert_file = Some(certificate.into());
        self.key_file = Some(key.into());
        self
    }

    /// What calls belong to, where the caller's own span is not known: the trace of whoever started this process.
    pub fn trace_context(mut self, context: impl Into<TraceContext>) -> Self {
        self.trace_context = Some(context.into());
        self
    }

    /// Watches what this selector picks, beside what others pick; at most 64. None at all is everything granted.
    pub fn selector(mut self, selector: Selector) -> Self {
        self.selectors.push(selector);
        self
    }

    /// Whether secrets are sent in plaintext. Needs a token with `secrets:read`, else the client is refused.
    pub fn include_secrets(mut self, include_secrets: bool) -> Self {
        self.include_secrets = include_secrets;
        self
    }

    /// How often the server lets itself be heard at least, 1 s to 60 s; 5 s by default. A stream that is silent for
    /// three times as long is given up.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// How this process appears to operators: a name, at most 128 characters; by default the machine's name and the number of
    /// the process that watches. It need not be unique: whoever has the same one is told apart by his session.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker.id = id.into();
        self
    }

    /// A label of this process, for operators and staged rollouts; at most 32.
    pub fn worker_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.worker.labels.insert(key.into(), value.into());
        self
    }

    /// Whether this process tells the server which revision it runs, so that operators see it and can wait for it; it does
    /// by default.
    pub fn reports(mut self, reports: bool) -> Self {
        self.worker.silent = !reports;
        self
    }

    /// What may be read of a cache that has not been confirmed for a while. The bound is longer than the progress interval.
    pub fn staleness(mut self, staleness: Staleness) -> Self {
        self.staleness = staleness;
        self
    }

    /// Whether the service is used at all. Otherwise the client has what the environment variables of the providers say
    /// (`GROQ_API_KEY` and so on), and connects to nothing: a way back.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Keeps the last state on disk, encrypted, so that this worker can start while the service is away.
    pub fn cache(mut self, cache: CacheOptions) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Told of what happens, in the task that watches: it must not block.
    pub fn metrics(mut self, hook: impl Fn(Metric) + Send + Sync + 'static) -> Self {
        self.metrics = Metrics::new(hook);
        self
    }

    /// Shown each new state before it is served, in the task that watches: one revision or one new snapshot. Where it is an
    /// error, what was accepted last is served on until a later revision is accepted, without the secrets of what is gone
    /// in the refused one; operators are shown the reason (at most 512 characters), which must not hold a secret. It must
    /// not block; one that panics refuses.
    pub fn validate(
        mut self,
        callback: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validation = Validation::new(callback);
        self
    }

    /// Change sets that a subscriber may be behind, 1 to 65,536, before it is resynced; 1,024 by default. A change set
    /// is one revision (the server allows 10,000 changes), or the difference of two snapshots.
    pub fn event_queue(mut self, change_sets: usize) -> Self {
        self.event_queue = change_sets;
        self
    }

    /// Bytes that a state may take, a MiB or more; a GiB by default. A stream that brings more is given up, and what is there is
    /// served on. While a snapshot comes, the state before is held beside it.
    pub fn max_state_bytes(mut self, bytes: usize) -> Self {
        self.max_state_bytes = bytes;
        self
    }

    /// The value of a setting that is set nowhere else.
    pub fn default_setting(mut self, key: &str, value: Value) -> Self {
        self.defaults.insert(setting_key::normalise(key).into_owned(), value);
        self
    }

    /// The environment whose `SIGNALBOX_SETTING_<KEY>` override stored settings; none by default.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Checks everything that can be checked without a server.
    pub(super) fn check(&self) -> Result<(), Error> {
        let seconds = |range: std::ops::RangeInclusive<u64>, duration: Duration| {
            duration >= Duration::from_secs(*range.start()) && duration <= Duration::from_secs(*range.end())
        };
        let rules = [
            (!self.endpoints.is_empty(), "at least one endpoint is needed"),
            (self.selectors.len() <= MAX_SELECTORS, "at most 64 selectors are allowed"),
            (seconds(1..=60, self.progress_interval), "the progress interval is 1 s to 60 s"),
            (
                self.staleness.bound > self.progress_interval,
                "the staleness bound must be above the progress interval",
            ),
            (self.staleness.is_sound(), "each limit of staleness is above zero"),
            (
                self.cert_file.is_some() == self.key_file.is_some(),
                "a client's certificate and its key belong together",
            ),
            ((1..=MAX_QUEUE).contains(&self.event_queue), "the event queue is 1 to 65,536"),
            (self.max_state_bytes >= MIN_STATE_BYTES, "a state may take a MiB at least"),
        ];
        if let Some(problem) = self.problem {
            return Err(Error::Options(problem.to_owned()));
        }
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(Error::Options(rule.to_owned()));
        }
        self.endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint))
    }

    /// The request of a stream that begins with a snapshot.
    pub(super) fn watch_request(&self) -> WatchConfigRequest {
        let mut worker = self.worker.clone();
        if worker.id.is_empty() {
            worker.id = own_id();
        }
        WatchConfigRequest {
            selectors: self.selectors.iter().cloned().map(Into::into).collect(),
            include_secrets: self.include_secrets,
            // Within 1 s to 60 s, so that it always fits.
            progress_interval: prost_types::Duration::try_from(self.progress_interval).ok(),
            worker: Some(worker),
            ..WatchConfigRequest::default()
        }
    }

    /// What a cache on disk has to be of, with a token that speaks for this subject.
    pub(super) fn identity(&self, subject: &Subject) -> Identity {
        Identity::of(&self.endpoints, &self.selectors, self.include_secrets, subject)
    }

    pub(super) fn overrides(&self) -> Overrides {
        Overrides { environment: self.environment.settings(), defaults: self.defaults.clone() }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientOptions")
            .field("endpoints", &self.endpoints)
            .field("token", &self.token)
            .field("selectors", &self.selectors)
            .field("include_secrets", &self.include_secrets)
            .finish_non_exhaustive()
    }
}

/// The machine and the process. In a container the number of the process says little, and the machine's name is the pod's.
fn own_id() -> String {
    let system = rustix::system::uname();
    let machine = system.nodename().to_string_lossy();
    let machine: String = machine.chars().filter(|character| !character.is_control()).take(100).collect();
    format!("{machine}-{}", std::process::id())
}

fn check_endpoint(endpoint: &str) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Options(format!("endpoint: {why}")));
    // The text is left out of the messages: it may hold a password, which is one of the things refused.
    let Ok(uri) = endpoint.parse::<Uri>() else {
        return refuse("not a URL");
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            refuse("credentials in a URL")
        }
        (Some("http" | "https"), Some(_)) if matches!(uri.path(), "" | "/") && uri.query().is_none() => {
            Ok(())
        }
        (Some("http" | "https"), Some(_)) => refuse("a URL with a path or query"),
        _ => refuse("neither http:// nor https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientOptions, Duration, Environment, Error, MIN_STATE_BYTES, Selector, Staleness};

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[tokio::test]
    async fn the_environment_names_servers_token_and_overrides() {
        let options = ClientOptions::from_environment(environment(&[
            ("SIGNALBOX_URL", "https://a:1, https://b:2"),
            ("SIGNALBOX_TOKEN", "sk-canary"),
            ("SIGNALBOX_TOKEN_FILE", "/nowhere"),
            ("SIGNALBOX_SETTING_MAX_RETRIES", "7"),
            ("HOME", "/root"),
        ]));
        assert_eq!(options.endpoints, ["https://a:1", "https://b:2"]);
        assert_eq!(options.token.read().await.unwrap().unwrap().expose(), "sk-canary");
        assert_eq!(options.overrides().environment["max_retries"].expose(), "7");
        assert!(!format!("{options:?} {:?}", options.environment).contains("canary"));
        options.check().unwrap();
        let disabled = ClientOptions::from_environment(environment(&[("SIGNALBOX_ENABLED", "off")]));
        assert!(!disabled.enabled && options.enabled);
        let unclear = ClientOptions::from_environment(environment(&[("SIGNALBOX_ENABLED", "perhaps")]));
        assert!(unclear.check().unwrap_err().to_string().contains("SIGNALBOX_ENABLED"));
        let cached = ClientOptions::from_environment(environment(&[
            ("SIGNALBOX_CACHE_FILE", "/run/c"),
            ("SIGNALBOX_CACHE_KEY", "too short, canary"),
        ]));
        assert!(!format!("{:?}", cached.cache).contains("canary"));
        assert!(matches!(cached.cache.unwrap().open(), Err(Error::Options(_))));
        let options = ClientOptions::from_environment(environment(&[
            ("SIGNALBOX_TOKEN_FILE", "/run/t"),
            ("SIGNALBOX_CA_FILE", "/run/ca"),
            ("SIGNALBOX_CLIENT_CERT_FILE", "/run/c"),
        ]));
        assert_eq!(options.ca_file.as_deref(), Some("/run/ca".as_ref()));
        assert_eq!((options.cert_file.is_some(), options.key_file.is_some()), (true, false));
        assert!(options.check().unwrap_err().to_string().contains("belong together"));
        assert_eq!(format!("{:?}", options.token), "file /run/t");
        assert_eq!(options.endpoints, ["http://127.0.0.1:50051"]);
    }

    /// All workers of a fleet in containers were called alike: each is the first process of its own.
    #[test]
    fn regression_a_worker_is_called_by_its_machine_too() {
        let id = |options: ClientOptions| options.watch_request().worker.unwrap().id;
        let own = id(ClientOptions::new("http://localhost:50051"));
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(own, format!("{}-{}", machine.trim(), std::process::id()));
        assert_eq!(
            id(ClientOptions::new("http://localhost:50051").worker_id("summariser-3")),
            "summariser-3"
        );
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let good = || ClientOptions::new("http://localhost:50051");
        good().check().unwrap();
        let many =
            (0..65).fold(good(), |options, n| options.selector(Selector::name(format!("settings/{n}"))));
        let cases = [
            good().endpoints(Vec::new()),
            good().endpoints(vec!["localhost:50051".to_owned()]),
            good().endpoints(vec!["ftp://localhost".to_owned()]),
            good().endpoints(vec!["http://user:sk-canary@localhost".to_owned()]),
            good().endpoints(vec!["http://localhost/path".to_owned()]),
            good().progress_interval(Duration::from_millis(900)),
            good().progress_interval(Duration::from_secs(61)),
            good().progress_interval(Duration::from_secs(30)),
            good().staleness(Staleness::default().secrets(Duration::ZERO)),
            good().event_queue(0),
            good().max_state_bytes(MIN_STATE_BYTES - 1),
            many,
        ];
        for options in cases {
            let error = options.check().unwrap_err();
            assert!(matches!(error, Error::Options(_)) && error.is_fatal(), "{options:?}");
            assert!(!error.to_string().contains("canary"));
        }
    }
}
