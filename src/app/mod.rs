//! Composition: builds the service from its settings, and runs it on its listeners until it is told to stop.
//!
//! The order of the start is the order in which things can be trusted: key, store, migrations, view, listeners. Only
//! probes are answered before, and to the end. It must not know how anything works inside.

mod access;
mod certificates;
mod connections;
mod displaced;
mod fan_out;
mod first_start;
mod housekeeping;
mod lives;
mod moving;
mod open;
mod probes;
mod server;
mod validity;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

pub use access::local_issuer;
pub use first_start::Surroundings;
pub use moving::{Course, Moved, abandon, migrate, survey};
pub use open::{Inspection, Opened, Purpose, inspect, open};

pub use crate::{
    auth::LONGEST_TTL,
    crypto::{ExportKey, SecretText, generate_key, private_file},
    service::parse_token,
    store::{
        Defect, StoreError, Verification,
        moving::{Abandoned, Contents, MoveError, Progress, Tell},
    },
    telemetry::Metrics,
    view::{Undecryptable, Unopened},
};

use self::{fan_out::Traced, housekeeping::Housekeeping, lives::Lives, probes::Probes, server::Served};
use crate::{
    crypto::Vault,
    domain::{Clock, FeatureLevel, OffsetClock, Principal, ReplicaId, Revision},
    fleet::Fleet,
    grpc::{self, MessageLimits},
    lifecycle::{self, Lifecycle, Phase},
    outbound::{Outbound, SystemResolver},
    replica::{Identity, Replicas},
    service::{AuditTrail, Observer, Parts, Service, Warnings},
    settings::Settings,
    store::{Log, Measured, Store},
    view::{Revealer, State, View, follow},
    watch::{Hub, StreamLimits, Streams},
};

/// How long the last audit events may take to be written.
const LAST_AUDITS: Duration = Duration::from_secs(1);

/// Where a running server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP, unless it is off.
    pub http: Option<SocketAddr>,
    /// Health checks in plaintext, if asked for.
    pub health: Option<SocketAddr>,
    /// Whether gRPC and HTTP are behind TLS.
    pub tls: bool,
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no usable key.
    #[error(transparent)]
    Key(#[from] crate::crypto::KeyError),
    /// The key does not fit the store.
    #[error("{error}{}", .remarks.iter().map(|remark| format!("\n{remark}")).collect::<String>())]
    Unlock {
        /// Why not.
        error: crate::crypto::UnlockError,
        /// What is to be known of the keys that were given: it may be the reason.
        remarks: Vec<String>,
    },
    /// The store can't be opened.
    #[error("{}{}", .0, what_to_do(.0))]
    Store(#[from] StoreError),
    /// The store can't be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The store was never served.
    #[error(
        "there is nothing in it yet: the first server that starts on it gives it its keys; start one, then do this again"
    )]
    Fresh,
    /// The store was in use, and is empty.
    #[error("{0}")]
    Lost(String),
    /// Tokens can't be verified.
    #[error("tokens: {0}")]
    Auth(String),
    /// The certificate of the listener can't be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The store holds what this binary does not know.
    #[error(
        "the store is at feature level {level}, and this signalbox supports only {supports}; start a newer one"
    )]
    Outdated {
        /// What the store may hold.
        level: FeatureLevel,
        /// What this binary knows.
        supports: FeatureLevel,
    },
    /// A part of the process has panicked.
    #[error(
        "a part of the server died, which is a defect: its log says where. It stops, so that whoever looks after it starts it anew"
    )]
    Broken,
    /// A listener can't be opened, or died.
    #[error("{0}")]
    Listen(String),
}

/// Says so where the system allows fewer open files than connections: beyond them nobody can connect, and databases and
/// certificates can't be opened either.
fn warn_of_few_files(connections: usize) {
    let wanted = connections as u64;
    match lifecycle::raise_open_files() {
        Ok(Some(allowed)) if allowed < wanted => tracing::warn!(
            allowed,
            wanted,
            "the system allows fewer open files than there may be connections: raise it (`ulimit -n`, `LimitNOFILE`) or lower \
             `--max-connections`"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the number of open files can't be raised"),
    }
}

/// Runs a server, which is this replica and counts in these metrics. A new store begins with what is found in its surroundings. `ready` is told the
/// addresses once it serves; it runs until `shutdown` resolves.
///
/// # Errors
/// When it can't start, or a listener dies.
pub async fn run(
    settings: Settings,
    process: (ReplicaId, Metrics),
    around: Surroundings,
    ready: impl FnOnce(&Addresses) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    if let Err(error) = crate::crypto::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps can't be forbidden");
    }
    if let Err(error) = lifecycle::survive_file_size_limit() {
        tracing::warn!(%error, "a file size limit would end the process");
    }
    warn_of_few_files(settings.limits.max_connections);
    let probes = Probes::open(&settings, &process.1)?;
    let ended = open_and_serve(&settings, process, around, &probes, ready, shutdown).await;
    // Until now probes could see that the process is there.
    probes.close().await;
    tracing::info!("stopped");
    ended
}

async fn open_and_serve(
    settings: &Settings,
    process: (ReplicaId, Metrics),
    around: Surroundings,
    probes: &Probes,
    ready: impl FnOnce(&Addresses) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let clock: Arc<dyn Clock> = Arc::new(OffsetClock(settings.cluster.release.clock_ahead));
    let mut shutdown = std::pin::pin!(shutdown);
    // It may wait for its database; whoever waits has written nothing.
    let opened = tokio::select! {
        opened = open(settings, Purpose::Serve, &clock, &probes.standing) => opened?,
        () = &mut shutdown => {
            tracing::info!("told to stop before the database was reached");
            return Ok(());
        }
    };
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    let store: Arc<dyn Store> = opened.store.clone();
    let lifecycle = Lifecycle::default();
    let served =
        serve(settings, process, (opened, around), &clock, (&lifecycle, probes), ready, shutdown).await;
    store.close(settings.shutdown.closing()).await;
    served
}

async fn serve(
    settings: &Settings,
    (replica, metrics): (ReplicaId, Metrics),
    (opened, around): (Opened, Surroundings),
    clock: &Arc<dyn Clock>,
    (lifecycle, probes): (&Lifecycle, &Probes),
    ready: impl FnOnce(&Addresses) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let Opened { store, vault, warnings } = opened;
    let store: Arc<dyn Store> = Arc::new(Measured::new(store, metrics.store.clone()));
    let log: Arc<dyn Log> = store.clone();
    let vault = Arc::new(vault);
    let supports = settings.cluster.release.level;
    let (level, forged) = match store.feature_level().await {
        Ok(level) if level > supports => return Err(AppError::Outdated { level, supports }),
        Ok(level) => (level, None),
        // Whoever may write to the database must not keep anybody from serving what can be read.
        Err(StoreError::Damaged(what)) => (supports, Some(what)),
        Err(error) => return Err(error.into()),
    };
    displaced::settle(&*store).await?;
    let view = first_view(&*store).await?;
    let raises = view.state().revision == Revision(0) && forged.is_none();
    view.distrust(forged);
    let warnings = Warnings::new(warnings);
    let revealer = Arc::new(Revealer::new(Arc::clone(&vault)));
    let hub = Arc::new(Hub::new(view.state().revision, settings.limits.log_ring_bytes));
    lifecycle.spawn(follow(Arc::clone(&log), Arc::clone(&view), Traced(Arc::clone(&hub)), lifecycle.hard()));
    let died = store.died();
    lifecycle.spawn(lifecycle.clone().broken_by(died));
    lifecycle.spawn(check_secrets(Arc::clone(&revealer), view.state()));
    let empty = view.state().revision == Revision(0);
    let level = match raises {
        // Nothing older was ever here, unless it just starts beside this one: then it is counted.
        true => store.raise_feature_level(supports).await?,
        false => level,
    };
    let watched = Arc::clone(&view);
    let is_revoked = Arc::new(move |caller: &Principal| watched.state().revocations.revokes(caller));
    let found = access::Found { store: &*store, vault: &vault, empty };
    let access = access::build(settings, found, clock, is_revoked).await?;
    let identity = identity(settings, replica, &vault, &access.verification);
    let replicas = Arc::new(Replicas::new(identity, level));
    let housekeeping = Housekeeping {
        store: Arc::clone(&store),
        clock: Arc::clone(clock),
        retention: settings.store.retention,
        warnings: warnings.clone(),
        replica: replicas.id().clone(),
    };
    let lives = Lives {
        store: Arc::clone(&store),
        view: Arc::clone(&view),
        clock: Arc::clone(clock),
        warnings: warnings.clone(),
    };
    let limits = StreamLimits {
        total: settings.limits.max_streams,
        per_subject: settings.limits.max_streams_per_identity,
        stall: settings.limits.stream_stall_timeout,
        age: settings.limits.connection_max_age,
        age_jitter: settings.limits.connection_age_jitter,
    };
    let streams = Arc::new(Streams::new(
        Arc::clone(&view),
        Arc::clone(&hub),
        log,
        Arc::clone(&revealer),
        Arc::clone(clock),
        limits,
    ));
    lifecycle.spawn(Arc::clone(&streams).watch_over());
    let (audit, audit_writer) = AuditTrail::new(store.clone(), Arc::clone(clock));
    let auditing = tokio::spawn(lifecycle.vital(audit_writer.run()));
    let (observer, observation_writer) = Observer::new(store.clone());
    let observing = tokio::spawn(lifecycle.vital(observation_writer.run()));
    let fleet = Arc::new(Fleet::new(
        replicas.id().clone(),
        Arc::clone(&vault),
        Arc::clone(&store),
        Arc::clone(clock),
    ));
    let parts = Parts {
        store: Arc::clone(&store),
        fleet: Arc::clone(&fleet),
        audit,
        observer,
        outbound: Outbound::new(settings.outbound.allowed.clone(), Arc::new(SystemResolver))
            .counted(metrics.outbound.clone()),
        view: Arc::clone(&view),
        revealer,
        vault,
        streams: Arc::clone(&streams),
        replicas: Arc::clone(&replicas),
        issuer: access.issuer,
        clock: Arc::clone(clock),
        retention: settings.store.retention,
        max_answer_bytes: settings.limits.max_response_bytes,
        overrides: settings.overrides.clone(),
        warnings: warnings.clone(),
    };
    let service = Arc::new(Service::new(parts));
    for warning in service.unreadable_overrides() {
        tracing::warn!("{warning}");
    }
    // Before anybody can connect: whoever comes first finds the store as it begins.
    Box::pin(first_start::begin(settings, around, &service, &warnings)).await;
    let tls = settings.tls.is_some();
    let reflection = settings.listen.serves_reflection(tls);
    let messages = MessageLimits {
        request: settings.limits.max_request_bytes,
        response: settings.limits.max_response_bytes,
    };
    let routes =
        grpc::routes(&service, messages, reflection).map_err(|error| AppError::Listen(error.to_string()))?;
    let authenticator = access.authenticator;
    if let Some(certificates) = probes.certificates.clone() {
        let told = certificates::Told {
            expiry: metrics.certificate.clone(),
            warnings: warnings.clone(),
            clock: Arc::clone(clock),
        };
        lifecycle.spawn(certificates.follow(told));
    }
    let served = Served { routes, service: Arc::clone(&service), authenticator, metrics };
    let server = server::start(settings, served, probes, lifecycle).await?;
    // The others know of this one before anybody can reach it.
    replicas.join(&*store, &view, server.addresses.grpc.to_string()).await?;
    // Only now: a start that fails must not leave leases behind, which others would wait for.
    lifecycle.spawn(lives.tell());
    lifecycle.spawn(housekeeping.run(lifecycle.clone()));
    lifecycle.spawn(Arc::clone(&service).look_after_rotations(lifecycle.soft()));
    lifecycle.spawn(Arc::clone(&fleet).keep(lifecycle.hard()));
    let watchers = move || streams.watchers();
    // To the end of the last stream: one that drains lives, and its silence would be taken for its death.
    lifecycle.spawn(Arc::clone(&replicas).run(Arc::clone(&store), view, watchers));
    probes.standing.set(Phase::Serving);
    ready(&server.addresses);
    let outdated = replicas.outdated();
    let asked = async {
        shutdown.await;
        probes.standing.set(Phase::Draining);
        // Who sends callers here hears of it first.
        tokio::time::sleep(settings.shutdown.delay).await;
    };
    let ending = async {
        tokio::select! {
            () = asked => {}
            () = outdated.cancelled() => {}
        }
    };
    let served = server.run(hub, lifecycle, settings.shutdown.grace, ending).await;
    let served = match outdated.is_cancelled() {
        true => Err(AppError::Outdated { level: store.feature_level().await.unwrap_or(supports), supports }),
        false => served,
    };
    replicas.leave(&*store).await;
    // The last streams have just ended: workers are told of as gone.
    if !matches!(tokio::time::timeout(LAST_AUDITS, fleet.write()).await, Ok(Ok(()))) {
        tracing::warn!("what workers reported last could not be written");
    }
    // The last streams have told of their end; the trail ends with the last use case.
    drop(service);
    if tokio::time::timeout(LAST_AUDITS, auditing).await.is_err() {
        tracing::error!("the last audit events could not be written");
    }
    if tokio::time::timeout(LAST_AUDITS, observing).await.is_err() {
        tracing::warn!("the last observations could not be written");
    }
    served
}

/// What an operator is told to do about a store that can't be opened, where it does not say so itself.
fn what_to_do(error: &StoreError) -> &'static str {
    match error {
        StoreError::Damaged(_) => {
            "; look at it with `signalbox doctor --offline`, and restore a backup from before it was damaged"
        }
        StoreError::Unavailable(_) | StoreError::Absent(_) | StoreError::Internal(_) => "",
    }
}

/// What this process is among the replicas of its store.
fn identity(settings: &Settings, id: ReplicaId, vault: &Vault, verification: &[u8]) -> Identity {
    Identity {
        id,
        advertise: settings.cluster.advertise.clone(),
        feature_level: settings.cluster.release.level,
        key_ids: vault.key_ids_by_use(),
        raises_level: settings.cluster.raises_level,
        environment: vault.environment_mac(&settings.overrides.canonical()),
        verification: vault.verification_mac(verification),
    }
}

/// Reads the state for the first time. Nothing is served before.
async fn first_view(store: &dyn Store) -> Result<Arc<View>, AppError> {
    let mut snapshot = store.snapshot().await?;
    let defect = snapshot.defect.take();
    let state = State::from_snapshot(snapshot);
    tracing::info!(revision = %state.revision, resources = state.resources.len(), "the view is complete");
    Ok(Arc::new(match defect {
        None => View::new(state),
        Some(defect) => {
            tracing::error!(
                defect,
                "the store is damaged: what can be read of it is served as stale, and writes are refused; run \
                 `signalbox doctor`"
            );
            View::damaged(state, defect)
        }
    }))
}

/// Looks for secrets that can't be opened, beside serving: none of them stops the start.
async fn check_secrets(revealer: Arc<Revealer>, state: Arc<State>) {
    let checked = tokio::task::spawn_blocking(move || {
        revealer.check(&state);
        revealer.undecryptable(&state)
    });
    match checked.await {
        Ok(failed) if failed.is_empty() => {}
        Ok(failed) => {
            tracing::error!(count = failed.len(), first = %failed[0], "there are secrets that can't be decrypted");
        }
        Err(error) => tracing::error!(%error, "the check of the secrets failed"),
    }
}
