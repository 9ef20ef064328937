//! `deploy/prometheus`: every rule fires when it should and is quiet when all is well, as `promtool` evaluates it; and rules and
//! dashboard ask for labels and values that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::{Value, json};

use super::{
    binary::{self, Server},
    documents, path, text,
};

const RULES: &str = "deploy/prometheus/alerts.yaml";
const DASHBOARD: &str = "deploy/grafana/signalbox.json";

/// What Prometheus has scraped, once a minute for an hour, and what must have come of it by the end of it.
struct Case {
    alert: &'static str,
    /// Series without `instance` and `job`, and their values in promtool's words.
    series: &'static [(&'static str, &'static str)],
    /// The labels of what fires, without `instance`, `job` and `severity`; none: nothing fires.
    fires: Option<&'static [(&'static str, &'static str)]>,
}

const fn fires(
    alert: &'static str,
    series: &'static [(&'static str, &'static str)],
    labels: &'static [(&'static str, &'static str)],
) -> Case {
    Case { alert, series, fires: Some(labels) }
}

const fn quiet(alert: &'static str, series: &'static [(&'static str, &'static str)]) -> Case {
    Case { alert, series, fires: None }
}

const INTERNAL: &str =
    "signalbox_rpcs_total{code=\"INTERNAL\",method=\"signalbox.v1.ConfigService/GetResource\"}";
const EXHAUSTED: &str =
    "signalbox_rpcs_total{code=\"RESOURCE_EXHAUSTED\",method=\"signalbox.v1.ConfigService/WatchConfig\"}";
const GET: &[(&str, &str)] = &[("method", "signalbox.v1.ConfigService/GetResource")];

const CASES: &[Case] = &[
    fires("SignalboxDown", &[("up", "1x50 0x10")], &[]),
    quiet("SignalboxDown", &[("up", "1x60")]),
    fires("SignalboxGone", &[("up", "1x40 _x20")], &[]),
    quiet("SignalboxGone", &[("up", "0x60")]),
    fires("SignalboxFewerReplicas", &[("signalbox_replicas", "3x50 2x10")], &[]),
    // A rolling update has one more for a while.
    quiet("SignalboxFewerReplicas", &[("signalbox_replicas", "3x30 4x10 3x20")]),
    fires("SignalboxStoreAway", &[("signalbox_view_stale", "0x58 1x2")], &[]),
    quiet("SignalboxStoreAway", &[("signalbox_view_stale", "0x60")]),
    // What is repaired is not waited for.
    quiet("SignalboxStoreAway", &[("signalbox_view_stale", "1x60"), ("signalbox_store_damaged", "1x60")]),
    fires(
        "SignalboxStoreAway",
        &[("signalbox_view_stale", "1x60"), ("signalbox_store_damaged", "0x60")],
        &[],
    ),
    fires(
        "SignalboxViewBehind",
        &[("signalbox_store_head_revision", "7x60"), ("signalbox_view_revision", "6x60")],
        &[],
    ),
    quiet(
        "SignalboxViewBehind",
        &[("signalbox_store_head_revision", "7x60"), ("signalbox_view_revision", "7x60")],
    ),
    fires("SignalboxStoreDamaged", &[("signalbox_store_damaged", "0x59 1")], &[]),
    fires("SignalboxReplicasDiffer", &[("signalbox_replica_alarms{alarm=\"digest\"}", "0x59 1")], DIGEST),
    quiet("SignalboxReplicasDiffer", &[("signalbox_replica_alarms{alarm=\"key\"}", "1x60")]),
    fires("SignalboxKeyMissing", &[("signalbox_replica_alarms{alarm=\"key\"}", "1x60")], &[("alarm", "key")]),
    fires(
        "SignalboxEnvironmentsDiffer",
        &[("signalbox_replica_alarms{alarm=\"environment\"}", "1x60")],
        &[("alarm", "environment")],
    ),
    fires(
        "SignalboxTokenKeysDiffer",
        &[("signalbox_replica_alarms{alarm=\"verification\"}", "1x60")],
        &[("alarm", "verification")],
    ),
    fires(
        "SignalboxReplicaVanished",
        &[("signalbox_replica_alarms{alarm=\"vanished\"}", "1x60")],
        &[("alarm", "vanished")],
    ),
    fires(
        "SignalboxReplicasCrowd",
        &[("signalbox_replica_alarms{alarm=\"crowd\"}", "1x60")],
        &[("alarm", "crowd")],
    ),
    fires(
        "SignalboxReplicasAhead",
        &[("signalbox_replica_alarms{alarm=\"ahead\"}", "1x60")],
        &[("alarm", "ahead")],
    ),
    fires("SignalboxConnectionsGivenUp", &[("signalbox_connections_given_up_total", "0x50 0+20x10")], &[]),
    // Now and then a worker's machine dies.
    quiet("SignalboxConnectionsGivenUp", &[("signalbox_connections_given_up_total", "0+1x60")]),
    fires("SignalboxWarnings", &[("signalbox_warnings", "2x40 3x20")], &[]),
    // Where the key lies beside the database there are two for ever.
    quiet("SignalboxWarnings", &[("signalbox_warnings", "2x60")]),
    // What has a rule of its own is told by that.
    quiet(
        "SignalboxWarnings",
        &[("signalbox_warnings", "2x40 3x20"), ("signalbox_replica_alarms{alarm=\"vanished\"}", "0x40 1x20")],
    ),
    quiet("SignalboxWarnings", &[("signalbox_warnings", "0x50 1x10")]),
    fires(
        "SignalboxHeartbeatsRefused",
        &[("signalbox_replica_alarms{alarm=\"heartbeat\"}", "1x60")],
        &[("alarm", "heartbeat")],
    ),
    fires("SignalboxSecretsUndecryptable", &[("signalbox_undecryptable_secrets", "0x59 1")], &[]),
    fires("SignalboxAuditGap", &[("signalbox_audit_lost_total", "0x58 3x2")], &[]),
    quiet("SignalboxAuditGap", &[("signalbox_audit_lost_total", "3x60")]),
    fires(
        "SignalboxDoorbellDead",
        &[("signalbox_store_doorbell{state=\"polling\"}", "1x60")],
        &[("state", "polling")],
    ),
    quiet("SignalboxDoorbellDead", &[("signalbox_store_doorbell{state=\"notify\"}", "1x60")]),
    fires("SignalboxDoorbellFlaps", &[("signalbox_store_doorbell_changes_total", "0+1x60")], &[]),
    fires(
        "SignalboxWritesFail",
        &[("signalbox_store_errors_total{call=\"apply\",error=\"unavailable\"}", "0x50 1+1x10")],
        &[],
    ),
    // Who lost a race is planned again.
    quiet(
        "SignalboxWritesFail",
        &[("signalbox_store_errors_total{call=\"apply\",error=\"stale\"}", "0+1x60")],
    ),
    fires("SignalboxWritesQueue", &[("signalbox_store_calls_open{call=\"apply\"}", "600x60")], APPLY),
    // The first error of all, which no rate sees.
    fires("SignalboxInternalErrors", &[(INTERNAL, "_x57 1x3")], GET),
    fires("SignalboxInternalErrors", &[(INTERNAL, "1x55 2x5")], GET),
    quiet("SignalboxInternalErrors", &[(INTERNAL, "1x60")]),
    fires(
        "SignalboxSlowReads",
        &[
            (
                "signalbox_rpc_seconds_bucket{le=\"0.25\",method=\"signalbox.v1.ConfigService/GetResource\"}",
                "0x60",
            ),
            (
                "signalbox_rpc_seconds_bucket{le=\"0.5\",method=\"signalbox.v1.ConfigService/GetResource\"}",
                "0+60x60",
            ),
            (
                "signalbox_rpc_seconds_bucket{le=\"+Inf\",method=\"signalbox.v1.ConfigService/GetResource\"}",
                "0+60x60",
            ),
        ],
        &[],
    ),
    fires("SignalboxRefusesStreams", &[(EXHAUSTED, "_x57 40x3")], &[]),
    fires("SignalboxRefusesStreams", &[(EXHAUSTED, "4x55 9x5")], &[]),
    quiet("SignalboxRefusesStreams", &[(EXHAUSTED, "9x60")]),
    fires(
        "SignalboxWatchersReset",
        &[("signalbox_watch_resets_total{reason=\"other_store\"}", "0x57 9x3")],
        &[("reason", "other_store")],
    ),
    fires("SignalboxSlowReaders", &[("signalbox_watch_cut_total{reason=\"stalled\"}", "0x57 50x3")], &[]),
    fires("SignalboxKeyRotationWaits", &[("signalbox_key_rotation_oldest_seconds", "0+60x60")], &[]),
    quiet("SignalboxKeyRotationWaits", &[("signalbox_key_rotation_oldest_seconds", "60x60")]),
    fires(
        "SignalboxRotationTimedOut",
        &[("signalbox_key_rotations_ended_total{reason=\"timed_out\"}", "0x50 1x10")],
        &[("reason", "timed_out")],
    ),
    quiet(
        "SignalboxRotationTimedOut",
        &[("signalbox_key_rotations_ended_total{reason=\"applied\"}", "0+1x60")],
    ),
    // Fifty that refuse for some minutes were told to nobody.
    fires("SignalboxWorkersReject", &[("signalbox_workers{state=\"rejected\"}", "0x57 50x3")], REJECTED),
    quiet("SignalboxWorkersReject", &[("signalbox_workers{state=\"converged\"}", "50x60")]),
    fires("SignalboxRejections", &[("signalbox_worker_rejections_total", "0x55 50x5")], &[]),
    fires(
        "SignalboxWorkersPending",
        &[("signalbox_workers{state=\"pending\"}", "0x50 50x10"), ("signalbox_view_revision", "7x60")],
        &[("state", "pending")],
    ),
    // While changes come, some are always on their way.
    quiet(
        "SignalboxWorkersPending",
        &[("signalbox_workers{state=\"pending\"}", "5x60"), ("signalbox_view_revision", "0+3x60")],
    ),
    fires(
        "SignalboxWorkersBehind",
        &[("signalbox_workers_behind{revisions=\"more\"}", "0x50 50x10")],
        &[("revisions", "more")],
    ),
    quiet("SignalboxWorkersBehind", &[("signalbox_workers_behind{revisions=\"10\"}", "50x60")]),
    fires("SignalboxFleetFull", &[("signalbox_workers_uncounted", "0x50 3x10")], &[]),
    quiet("SignalboxFleetFull", &[("signalbox_workers_uncounted", "0x60")]),
    // The evaluation is an hour after 1970 began.
    fires("SignalboxCertificateExpires", &[(NOT_AFTER, "607000x60")], &[]),
    fires("SignalboxCertificateExpires", &[(NOT_AFTER, "3000x60")], &[]),
    quiet("SignalboxCertificateExpires", &[(NOT_AFTER, "609000x60")]),
    // Without TLS.
    quiet("SignalboxCertificateExpires", &[(NOT_AFTER, "0x60")]),
    fires(
        "SignalboxTracesLost",
        &[("signalbox_trace_spans_total{outcome=\"queue_full\"}", "0x40 1+1x20")],
        &[("outcome", "queue_full")],
    ),
    quiet("SignalboxTracesLost", &[("signalbox_trace_spans_total{outcome=\"sent\"}", "0+9x60")]),
    fires(
        "SignalboxFeatureLevelBehind",
        &[("signalbox_feature_level", "3x1500"), ("signalbox_feature_level_supported", "4x1500")],
        &[],
    ),
];

const NOT_AFTER: &str = "signalbox_tls_certificate_not_after_timestamp_seconds";
const DIGEST: &[(&str, &str)] = &[("alarm", "digest")];
const APPLY: &[(&str, &str)] = &[("call", "apply")];
const REJECTED: &[(&str, &str)] = &[("state", "rejected")];

/// The rules, by their name.
fn rules() -> BTreeMap<String, Value> {
    let groups = documents(&path(RULES)).remove(0)["groups"].take();
    let rules = groups.as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array().cloned());
    rules.flatten().map(|rule| (rule["alert"].as_str().expect("an alert").to_owned(), rule)).collect()
}

/// A series with the labels that Prometheus adds.
fn scraped(series: &str) -> String {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}');
    let comma = if labels.is_empty() { "" } else { "," };
    format!("{name}{{{labels}{comma}instance=\"one\",job=\"signalbox\"}}")
}

/// What is left of a series' labels by what the rule does with them: those that it sums by, or all.
fn expected(rule: &Value, labels: &[(&str, &str)]) -> Value {
    let expression = rule["expr"].as_str().unwrap();
    let mut expected: BTreeMap<String, Value> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    expected.insert("severity".to_owned(), rule["labels"]["severity"].clone());
    let summed = |label: &str| match expression.split_once(" by (") {
        Some((_, rest)) => rest.split(')').next().unwrap().split(", ").any(|by| by == label),
        None => true,
    };
    for (name, value) in [("instance", "one"), ("job", "signalbox")] {
        let kept = if expression.starts_with("absent") { name == "job" } else { summed(name) };
        if kept {
            expected.insert(name.to_owned(), json!(value));
        }
    }
    json!(expected)
}

#[test]
fn every_rule_fires_when_it_should_and_is_quiet_when_all_is_well() {
    let promtool = path(".tools/prometheus/usr/bin/promtool");
    assert!(promtool.exists(), "{} is missing: run scripts/tools", promtool.display());
    let mut rules = rules();
    // Every rule has a case in which it fires.
    let fired: BTreeSet<&str> =
        CASES.iter().filter(|case| case.fires.is_some()).map(|case| case.alert).collect();
    assert_eq!(fired, rules.keys().map(String::as_str).collect(), "cases of rules that there are");
    let tests: Vec<Value> = CASES
        .iter()
        .map(|case| {
            let rule = &rules[case.alert];
            let series = case.series.iter();
            let series: Vec<Value> =
                series.map(|(name, values)| json!({"series": scraped(name), "values": values})).collect();
            let expected: Vec<Value> =
                case.fires.iter().map(|labels| json!({"exp_labels": expected(rule, labels)})).collect();
            let at = if case.alert == "SignalboxFeatureLevelBehind" { "1500m" } else { "60m" };
            json!({"interval": "1m", "input_series": series, "alert_rule_test":
                [{"eval_time": at, "alertname": case.alert, "exp_alerts": expected}]})
        })
        .collect();
    // What is said in words is no part of this; that it can be expanded, promtool looks at with the rules themselves.
    rules.values_mut().for_each(|rule| drop(rule.as_object_mut().unwrap().remove("annotations")));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| fs::write(folder.path().join(name), value.to_string()).unwrap();
    let rules: Vec<&Value> = rules.values().collect();
    write("rules.yaml", json!({"groups": [{"name": "signalbox", "rules": rules}]}));
    write("tests.yaml", json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}));
    let mut tested = Command::new(promtool);
    let tested = tested.args(["test", "rules", "tests.yaml"]).current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&tested.stdout) + String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success(), "{said}");
}

/// A comparison with a label's value: metric, label, and the values where they are plain.
fn compared(text: &str) -> Vec<(String, String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("signalbox_") {
        let rest = &text[at..];
        let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(name_end);
        let Some(labels) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(all, _)| all)
        else {
            continue;
        };
        for each in labels.split(',') {
            let (label, value) = each.split_at(each.find(['=', '!']).expect("a comparison"));
            let plain = value.trim_start_matches(['=', '!', '~']).trim_matches('"');
            let is_word = |value: &&str| value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let values = plain.split('|').filter(is_word).map(str::to_owned).collect();
            found.push((name.to_owned(), label.to_owned(), values));
        }
    }
    found
}

/// Codes of gRPC that alerts may ask for; the page shows those that have been seen.
const CODES: [&str; 5] = ["OK", "INTERNAL", "UNKNOWN", "DATA_LOSS", "RESOURCE_EXHAUSTED"];

#[test]
fn rules_and_dashboard_compare_with_labels_and_values_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let environment = [("SIGNALBOX_METRICS_ANONYMOUS".to_owned(), "true".to_owned())];
    let server = Server::start(folder.path(), &environment, &arguments).unwrap();
    // A write, so that what is counted of these is shown.
    let token = folder.path().join("data/admin.token");
    let write = ["set", "settings/a", "--value", "1", "--server", server.address("gRPC"), "--token-file"];
    let written = binary::run(&[&write[..], &[&token.to_string_lossy()]].concat());
    assert!(written.status.success(), "{written:?}");
    let page = server.body("/metrics");
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let asked = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    let asked: Vec<String> =
        asked.chain(rules().into_values().map(|rule| rule["expr"].as_str().unwrap().to_owned())).collect();
    let labels = labels_of_the_document();
    let mut checked = 0;
    for query in &asked {
        for (metric, label, values) in compared(query) {
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| metric.strip_suffix(end));
            let known = labels.get(base.unwrap_or(&metric)).unwrap_or_else(|| panic!("{metric} in {query}"));
            if label == "instance" {
                continue;
            }
            assert!(known.contains(&label), "{metric} has no label {label}: {query}");
            for value in values {
                let shown = page
                    .lines()
                    .any(|line| line.starts_with(&metric) && line.contains(&format!("{label}=\"{value}\"")));
                let code = label == "code" && CODES.contains(&value.as_str());
                assert!(shown || code, "{metric} never has {label}=\"{value}\": {query}");
                checked += 1;
            }
        }
        for by in query.split(" by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            let known: BTreeSet<&str> = labels.values().flatten().map(String::as_str).collect();
            let added = ["instance", "job", "le"];
            let unknown = by.split(", ").find(|label| !known.contains(label) && !added.contains(label));
            assert_eq!(unknown, None, "{query}");
        }
    }
    assert!(checked > 20, "{checked}");
    // What replicas see that an operator has to look at, each with a rule.
    let alarms = page.lines().filter_map(|line| line.strip_prefix("signalbox_replica_alarms{"));
    let alarms: Vec<&str> = alarms.filter_map(|line| line.split_once('}')).map(|(alarm, _)| alarm).collect();
    let unasked = alarms.iter().find(|alarm| !asked.iter().any(|query| query.contains(*alarm)));
    assert!(alarms.len() > 7 && unasked.is_none(), "{unasked:?} of {alarms:?}");
}

/// The labels of each metric, as docs/metrics.md has them; a test holds that against a server.
fn labels_of_the_document() -> BTreeMap<String, BTreeSet<String>> {
    let document = text("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let names = |cell: &str| cell.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
    cells.map(|cells| (cells[0].trim_end_matches('`').to_owned(), names(&cells[2]))).collect()
}
