//! The page of metrics, in the text form of Prometheus that everything reads, or in that of OpenMetrics for who asks for it.
//!
//! What is counted as it happens registers itself (`telemetry`). The rest is read from the service when somebody asks.
//! `docs/metrics.md` lists all of them; a test holds the two together.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, text},
    metrics::MetricType,
    registry::Registry,
};

use super::answer;
use crate::{
    auth::Caller,
    domain::Pattern,
    service::{Service, Vitals},
    store::DoorbellState,
    telemetry::Metrics,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is shown.
pub(super) struct Exposition {
    whole: Registry,
    /// Without what counts resources, for who reaches a part of them only.
    narrow: Registry,
}

impl Exposition {
    pub fn new(metrics: &Metrics, service: &Arc<Service>) -> Self {
        let [whole, narrow] = [true, false].map(|totals| {
            let mut registry = Registry::default();
            metrics.register(&mut registry);
            registry.register_collector(Box::new(Gathered { service: Arc::clone(service), totals }));
            registry
        });
        Self { whole, narrow }
    }
}

/// The page. Where everybody may see it, everybody sees all of it: the operator has said so.
pub(super) async fn metrics(State(exposition): State<Arc<Exposition>>, request: Request) -> Response {
    let caller = Caller::among(request.extensions());
    let everything = caller.is_none_or(|caller| caller.grants.contains(&Pattern::All));
    let registry = if everything { &exposition.whole } else { &exposition.narrow };
    let mut page = String::new();
    match text::encode(&mut page, registry) {
        Ok(()) if wants_open_metrics(request.headers()) => {
            ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
        }
        Ok(()) => ([(header::CONTENT_TYPE, CLASSIC)], classic(&page)).into_response(),
        // Writing to memory does not fail.
        Err(_) => {
            answer::status(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the metrics can't be written")
        }
    }
}

/// Whether OpenMetrics is asked for by its name, as Prometheus does. Who takes anything may not know it.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut forms = accepted.flat_map(|value| value.split(','));
    forms.any(|range| {
        let form = range.split(';').next().unwrap_or_default();
        form.trim().eq_ignore_ascii_case("application/openmetrics-text")
    })
}

/// The page in the form of before OpenMetrics: there a counter's description stands under the name that its samples have,
/// and nothing marks the end.
fn classic(page: &str) -> String {
    let (mut written, mut help) = (String::with_capacity(page.len()), "");
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text;
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let end = if kind == "counter" { "_total" } else { "" };
            let text = help.strip_prefix(name).unwrap_or(help).trim_start();
            written += &format!("# HELP {name}{end} {text}\n# TYPE {name}{end} {kind}\n");
            continue;
        }
        written += line;
        written.push('\n');
    }
    written
}

/// What is read from the service when somebody asks.
struct Gathered {
    service: Arc<Service>,
    /// Whether what counts resources is shown.
    totals: bool,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Gathered")
    }
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let vitals = self.service.vitals();
        let mut page = Page(encoder);
        process(&mut page, &vitals)?;
        view(&mut page, &vitals)?;
        if self.totals {
            totals(&mut page, &vitals)?;
        }
        streams(&mut page, &vitals)?;
        workers(&mut page, &vitals)?;
        store(&mut page, &vitals)?;
        rotations(&mut page, &vitals)?;
        replicas(&mut page, &vitals)
    }
}

fn process(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let started = vitals.started.timestamp_millis() as f64 / 1000.0;
    page.gauge("process_start_time_seconds", "When the process started, in seconds of Unix time", started)?;
    page.gauges(
        "signalbox_build_info",
        "1, with the version of the binary and the database that it runs on",
        [([("version", env!("CARGO_PKG_VERSION")), ("store", vitals.store_kind)], 1u64)],
    )?;
    page.gauge(
        "signalbox_warnings",
        "Things that an operator should look at; `signalbox status` names them",
        vitals.warnings,
    )
}

/// What tells how many resources there are and what is done with them, whoever reaches them.
fn totals(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    page.counters(
        "signalbox_config_changes",
        "Changes of configuration made durable by this replica, by kind, action and the role of who made them; `server` for what nobody called for",
        vitals.changes.iter().map(|((kind, action, role), count)| {
            ([("kind", kind.0), ("action", action.0), ("role", role)], *count)
        }),
    )?;
    page.gauge("signalbox_view_resources", "Resources that it serves", vitals.resources)
}

fn view(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    page.gauge("signalbox_view_revision", "The revision that this replica serves", vitals.revision)?;
    page.gauge(
        "signalbox_view_age_seconds",
        "Time since the store confirmed that what is served is current",
        vitals.freshness.confirmed_age.as_secs_f64(),
    )?;
    page.gauge(
        "signalbox_view_stale",
        "1 while answers are marked stale: the store was not heard from, or is damaged",
        u64::from(vitals.freshness.stale),
    )?;
    page.gauge(
        "signalbox_undecryptable_secrets",
        "Secrets that no key which was given opens, or that were altered",
        vitals.undecryptable,
    )
}

fn streams(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let counts = &vitals.streams;
    page.gauge("signalbox_watchers", "Streams that are open", counts.open)?;
    page.gauge(
        "signalbox_watch_ring_bytes",
        "Bytes of the newest revisions that streams share",
        counts.ring_bytes,
    )?;
    page.counter(
        "signalbox_watch_deliveries",
        "Revisions handed to streams: one for each stream that sees a part of one",
        counts.deliveries,
    )?;
    page.counter("signalbox_watch_snapshots", "Snapshots that streams began with", counts.snapshots)?;
    page.counters(
        "signalbox_watch_resets",
        "Streams that could not go on from where they were, by reason",
        counts.resets.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
    )?;
    page.counter(
        "signalbox_watch_log_reads",
        "Pages of the log read for streams that were too slow for what lies in memory",
        counts.log_reads,
    )?;
    page.counters(
        "signalbox_watch_cut",
        "Connections cut because a stream on them does not read, by reason: stalled, or rights that it has lost",
        counts.cut.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
    )
}

fn workers(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let counts = &vitals.workers;
    page.gauges(
        "signalbox_workers",
        "Workers whose streams this replica serves or served in the last minute, by how they stand to its revision. Those of a replica that vanished are in none of them",
        counts.states.iter().map(|(state, count)| ([("state", *state)], *count)),
    )?;
    page.gauges(
        "signalbox_workers_behind",
        "Those of them that have not converged, by the number of revisions that they are behind at most",
        counts.lags.iter().map(|(revisions, count)| ([("revisions", *revisions)], *count)),
    )?;
    page.gauge(
        "signalbox_workers_uncounted",
        "Streams of workers that this replica serves and that nobody counts, because there are too many",
        counts.uncounted,
    )?;
    page.gauge(
        "signalbox_workers_orphaned",
        "Workers of replicas that vanished, which these may serve still; every replica tells the same number",
        counts.orphaned,
    )?;
    page.counter(
        "signalbox_worker_rejections",
        "Revisions that workers have refused, as far as this replica was told first",
        counts.rejections,
    )
}

fn rotations(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let counts = vitals.rotations;
    page.gauge(
        "signalbox_key_rotations",
        "API keys whose value before the present one is still kept",
        counts.under_way,
    )?;
    page.gauge(
        "signalbox_key_rotation_oldest_seconds",
        "Time since the oldest rotation of an API key began that is under way; 0 without one",
        counts.oldest_seconds,
    )?;
    page.gauge(
        "signalbox_key_rotation_workers_waiting",
        "Workers that rotations wait for, as far as this replica looks after these: one for each worker and key",
        counts.waiting,
    )?;
    page.counter(
        "signalbox_key_values_replaced",
        "Values of API keys replaced by rotation through this replica",
        counts.replaced,
    )?;
    page.counters(
        "signalbox_key_rotations_ended",
        "Rotations ended through this replica, by reason: applied by every worker, timed_out, or by an administrator, retired or revoked",
        [
            ([("reason", "applied")], counts.applied),
            ([("reason", "timed_out")], counts.timed_out),
            ([("reason", "retired")], counts.retired),
            ([("reason", "revoked")], counts.revoked),
        ],
    )
}

fn store(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    let state = vitals.doorbell.word();
    page.gauges(
        "signalbox_store_doorbell",
        "How commits of others are heard of: 1 for notify, polling, or local (there are no others)",
        DoorbellState::WORDS.map(|word| ([("state", word)], u64::from(word == state))),
    )?;
    page.gauge(
        "signalbox_store_damaged",
        "1 while the store holds what was never written, so that what was read before is served and writes are refused",
        u64::from(vitals.damaged),
    )?;
    let connections = vitals.connections;
    page.gauges(
        "signalbox_store_connections",
        "Connections to the database that reads share, by state",
        [
            ([("state", "idle")], connections.idle),
            ([("state", "used")], connections.open.saturating_sub(connections.idle)),
        ],
    )?;
    page.gauge("signalbox_audit_queue", "Audit events that wait to be written", vitals.audit.waiting)?;
    page.counter(
        "signalbox_audit_lost",
        "Audit events lost because the store was away and the buffer full; each gap is marked in the trail",
        vitals.audit.lost,
    )
}

fn replicas(page: &mut Page<'_>, vitals: &Vitals) -> fmt::Result {
    page.gauge("signalbox_replicas", "Replicas that live, this one included", vitals.replicas)?;
    let alarms = vitals.alarms;
    page.gauges(
        "signalbox_replica_alarms",
        "What replicas see that an operator has to look at: digests that differ, replicas that fell silent without a goodbye, keys not loaded, environments that differ, keys of tokens that differ, more replicas than are listed, heartbeats that were of a time to come, heartbeats not taken",
        [
            ([("alarm", "digest")], alarms.differ),
            ([("alarm", "vanished")], alarms.vanished),
            ([("alarm", "key")], alarms.lack_key),
            ([("alarm", "environment")], alarms.environment),
            ([("alarm", "verification")], alarms.verification),
            ([("alarm", "crowd")], alarms.crowd),
            ([("alarm", "ahead")], alarms.ahead),
            ([("alarm", "heartbeat")], alarms.unheard),
        ],
    )?;
    page.gauge("signalbox_feature_level", "The feature level of the store", vitals.feature_level.0)?;
    page.gauge("signalbox_feature_level_supported", "The feature level of this binary", vitals.supports.0)
}

/// Writes metrics, each with its description.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'static str); N], impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Gauge)?;
        for (labels, value) in values {
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'static str); N], impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Counter)?;
        for (labels, value) in values {
            encoder.encode_family(&labels)?.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        metric_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        // As the registry does for what registers itself.
        self.0.encode_descriptor(name, &format!("{help}."), None, metric_type)
    }
}
