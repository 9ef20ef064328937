//! The server's own options: flags, environment and a TOML file, in this order of precedence.
//!
//! One file a section; each declares its options once, reads them and says what is wrong. It must not know what the
//! options do to the server. To add an option: a constant of [`Opt`] in its section, a line in the section's
//! `OPTIONS`, a field, a line in `read`; flags, help, file keys and complaints follow.

mod cluster;
mod database;
mod environment;
mod file;
mod jwt;
mod keys;
mod legacy;
mod limits;
mod listen;
mod log;
mod options;
mod outbound;
mod overrides;
mod reader;
mod secret;
mod shutdown;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod traces;
mod unknown;
pub mod values;

use std::{fmt, path::Path};

use self::reader::Reader;
pub use self::{
    cluster::Cluster,
    database::{Database, Encryption, PostgresUrl},
    environment::Environment,
    jwt::{Jwt, JwtKey},
    keys::Keys,
    limits::Limits,
    listen::{LISTENERS, Listen, Listeners, Reflection},
    log::{Log, LogFormat},
    options::{Opt, Problem},
    outbound::{AllowedHost, HostPattern, Outbound},
    overrides::{Override, Overrides},
    reader::{Env, Flags},
    secret::SecretText,
    shutdown::Shutdown,
    store::Store,
    tls::Tls,
    traces::{Protocol as TracesProtocol, Sampler, Traces},
};

static CONFIG: Opt = Opt {
    key: None,
    ..Opt::new(
        "config",
        "SIGNALBOX_CONFIG",
        "",
        "FILE",
        "Settings file (TOML); flags and environment go before it",
    )
};

/// Everything that an operator can set, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens.
    pub listen: Listen,
    /// Where configuration is kept.
    pub store: Store,
    /// What this replica is to others.
    pub cluster: Cluster,
    /// Where the encryption key comes from.
    pub keys: Keys,
    /// Whose tokens are accepted.
    pub jwt: Jwt,
    /// The listener's certificate; `None` is plaintext.
    pub tls: Option<Tls>,
    /// How much may be taken.
    pub limits: Limits,
    /// Which addresses may be called beyond the public ones.
    pub outbound: Outbound,
    /// What is logged.
    pub log: Log,
    /// Where traces go; `None` is nowhere.
    pub traces: Option<Traces>,
    /// How long stopping takes.
    pub shutdown: Shutdown,
    /// What the environment says of stored settings. No option: the server only tells of it.
    pub overrides: Overrides,
    unread: Vec<String>,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// Every option of the server, in the order of the help.
pub fn options() -> impl Iterator<Item = &'static Opt> {
    [&CONFIG]
        .into_iter()
        .chain(listen::OPTIONS)
        .chain(store::OPTIONS)
        .chain(cluster::OPTIONS)
        .chain(keys::OPTIONS)
        .chain(jwt::OPTIONS)
        .chain(tls::OPTIONS)
        .chain(limits::OPTIONS)
        .chain(outbound::OPTIONS)
        .chain(log::OPTIONS)
        .chain(traces::OPTIONS)
        .chain(shutdown::OPTIONS)
}

impl Settings {
    /// Reads and checks everything, or says everything that is wrong.
    pub fn load(flags: &Flags, env: Env<'_>) -> Result<Self, Problems> {
        let mut from = Reader::new(flags, env);
        read_file(&mut from);
        let listen = Listen::read(&mut from);
        let store = Store::read(&mut from);
        // Where the store could not be read the rest is still checked, though nothing will come of it.
        let data_dir = store.as_ref().map_or(Path::new("."), |store| store.data_dir.as_path());
        let keys = Keys::read(&mut from, data_dir);
        let cluster = Cluster::read(&mut from);
        let jwt = Jwt::read(&mut from);
        let tls = Tls::read(&mut from);
        let limits = Limits::read(&mut from);
        let outbound = Outbound::read(&mut from);
        let log = Log::read(&mut from);
        let traces = Traces::read(&mut from);
        let shutdown = Shutdown::read(&mut from);
        let overrides = Overrides::read(env);
        let known: Vec<&str> = options().map(|option| option.env).collect();
        let mut unread = legacy::warnings(&from);
        unread.extend(unknown::warnings(env, &known));
        // Sections that could be read are checked even where others could not, so that one look shows all.
        // A certificate that could not be read counts as one: the complaint about plaintext would mislead.
        let has_tls = !matches!(tls, Some(None));
        let mut problems = from.into_problems();
        problems.extend(listen.iter().flat_map(|listen| listen.validate(has_tls)));
        problems.extend(store.iter().flat_map(Store::validate));
        problems.extend(cluster.iter().flat_map(Cluster::validate));
        problems.extend(keys.iter().flat_map(Keys::validate));
        problems.extend(jwt.iter().flat_map(Jwt::validate));
        problems.extend(tls.iter().flatten().flat_map(Tls::validate));
        problems.extend(limits.iter().flat_map(Limits::validate));
        problems.extend(outbound.iter().flat_map(Outbound::validate));
        problems.extend(log.iter().flat_map(Log::validate));
        problems.extend(traces.iter().flatten().flat_map(Traces::validate));
        problems.extend(shutdown.iter().flat_map(Shutdown::validate));
        let whole = || {
            let (listen, store, cluster, keys, jwt) = (listen?, store?, cluster?, keys?, jwt?);
            let (tls, limits, outbound, log, traces, shutdown) =
                (tls?, limits?, outbound?, log?, traces?, shutdown?);
            Some(Self {
                listen,
                store,
                cluster,
                keys,
                jwt,
                tls,
                limits,
                outbound,
                log,
                traces,
                shutdown,
                overrides,
                unread,
            })
        };
        match whole() {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(Problems(problems)),
        }
    }

    /// What an operator should know, though the server starts.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.listen.warnings(self.tls.is_some());
        warnings.extend(self.store.warnings());
        if let Database::Sqlite(_) = self.store.database {
            warnings.extend(self.keys.warnings(&self.store.data_dir));
        }
        warnings.extend(self.traces.iter().flat_map(Traces::warnings));
        warnings.extend(self.unread.iter().chain(self.overrides.warnings()).cloned());
        warnings
    }
}

fn read_file(from: &mut Reader<'_>) {
    let Some(Some(path)) = from.optional(&CONFIG, values::path) else { return };
    let known: Vec<&'static Opt> = options().collect();
    match file::read(&path) {
        Err(problem) => from.complain(problem),
        Ok(found) => {
            file::unknown_keys(&found, &known).into_iter().for_each(|problem| from.complain(problem));
            from.set_file(found);
        }
    }
}

impl fmt::Display for Problems {
    /// One problem a line.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        out.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}
