//! The page of metrics: that it says what has happened, that its form is right, and that what is written about it
//! (`docs/metrics.md`, the alert rules, the dashboard) names what is there and nothing else.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::json;
use signalbox::{
    domain::{Clock as _, SystemClock},
    proto::v1::{
        CreateResourceRequest, DeleteResourceRequest, ProviderSpec, ProviderType, Role, WatchConfigRequest,
        config_service_client::ConfigServiceClient, resource::Spec, watch_config_response::Event,
    },
};
use tonic::{Code, Streaming};

use crate::{
    calls::{channel, event, refusal, token, with},
    harness::{
        PATIENCE, Server,
        api::{Api, api_key, new_token, provider, setting},
        command, end,
        exposition::Exposition,
        http::{Answer, ask, get, send},
        until_answered,
    },
};

const CONFIG: &str = "signalbox.v1.ConfigService";

async fn start() -> Server {
    Server::start_with(&["--http-listen", "127.0.0.1:0"]).await
}

async fn scrape(server: &Server) -> Exposition {
    let page = get(server.http_address(), "/metrics", &server.admin_token()).await;
    assert_eq!(page.code, 200, "{page:?}");
    Exposition::parse(&page.body)
}

/// A stream with these words for a resume token, where it is in sync.
async fn watching(
    server: &Server,
    token: &str,
    resume_token: &str,
) -> Streaming<signalbox::proto::v1::WatchConfigResponse> {
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let request = WatchConfigRequest { resume_token: resume_token.to_owned(), ..Default::default() };
    let mut stream = config.watch_config(with(token, request)).await.unwrap().into_inner();
    while !matches!(event(&mut stream).await.unwrap(), Some(Event::Synced(_))) {}
    stream
}

/// How many resources there are is told to who reaches all of them.
#[tokio::test]
async fn regression_totals_are_left_out_for_who_reaches_a_part_only() {
    let server = start().await;
    let narrow = new_token(&server, &["--role", "viewer", "--selector", "settings/*"]).await;
    let whole = new_token(&server, &["--role", "viewer", "--selector", "*"]).await;
    let totals = ["signalbox_config_changes_total", "signalbox_view_resources"];
    let shown = async |token: &str| {
        let page = get(server.http_address(), "/metrics", token).await;
        assert_eq!(page.code, 200, "{page:?}");
        let families = Exposition::parse(&page.body).families;
        assert!(families.contains_key("signalbox_view_age_seconds"));
        totals.map(|name| families.contains_key(name))
    };
    assert_eq!(shown(&whole).await, [true; 2]);
    assert_eq!(shown(&server.admin_token()).await, [true; 2]);
    assert_eq!(shown(&narrow).await, [false; 2]);
}

#[tokio::test]
async fn changes_are_counted_by_kind_action_and_role() {
    let server = start().await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("one")).await;
    api.create("settings/b", setting("one")).await;
    api.create("providers/groq", provider(&[])).await;
    let deletion = DeleteResourceRequest { name: "settings/b".to_owned(), ..Default::default() };
    api.config.delete_resource(deletion).await.unwrap();
    // What changes nothing does not count, and neither does what is refused.
    let dry = CreateResourceRequest {
        resource: Some(signalbox::proto::v1::Resource {
            name: "settings/c".to_owned(),
            spec: Some(setting("one")),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    api.config.create_resource(dry).await.unwrap();
    let page = scrape(&server).await;
    let changes = |kind, action| {
        let labels = [("action", action), ("kind", kind), ("role", "admin")];
        page.find("signalbox_config_changes_total", &labels)
    };
    assert_eq!(changes("setting", "created"), Some(2.0));
    assert_eq!(changes("setting", "deleted"), Some(1.0));
    assert_eq!(changes("provider", "created"), Some(1.0));
    assert_eq!(changes("setting", "updated"), None);
    assert_eq!(page.value("signalbox_view_revision", &[]), 4.0);
    assert_eq!(page.value("signalbox_store_head_revision", &[]), 4.0);
    assert_eq!(page.value("signalbox_view_resources", &[]), 2.0);
    assert_eq!(page.value("signalbox_store_call_seconds_count", &[("call", "apply")]), 4.0);
    assert_eq!(page.value("signalbox_store_calls_open", &[("call", "apply")]), 0.0);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_whatever_becomes_of_them() {
    let server = start().await;
    let worker = token(&server, Role::Worker, "w").await;
    let channel = channel(server.address()).await;
    let mut config = ConfigServiceClient::new(channel.clone());
    let denied = config.create_resource(with(&worker, CreateResourceRequest::default())).await;
    assert_eq!(refusal(denied).0, Code::PermissionDenied);
    let nobody = config.create_resource(CreateResourceRequest::default()).await;
    assert_eq!(refusal(nobody).0, Code::Unauthenticated);
    let wrong = with(&server.admin_token(), CreateResourceRequest::default());
    assert_eq!(refusal(config.create_resource(wrong).await).0, Code::InvalidArgument);
    let stream = watching(&server, &worker, "").await;
    let (create, watch) = (format!("{CONFIG}/CreateResource"), format!("{CONFIG}/WatchConfig"));
    let page = scrape(&server).await;
    for code in ["PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT"] {
        assert_eq!(page.value("signalbox_rpcs_total", &[("code", code), ("method", &create)]), 1.0, "{code}");
    }
    assert_eq!(page.value("signalbox_rpcs_total", &[("code", "OK"), ("method", &create)]), 0.0);
    let timed =
        |code, method| page.find("signalbox_rpc_seconds_count", &[("code", code), ("method", method)]);
    assert_eq!((timed("INVALID_ARGUMENT", &create), timed("OK", &create)), (Some(1.0), Some(0.0)));
    assert_eq!(timed("OK", &watch), Some(1.0), "a stream is timed when it is open");
    assert_eq!(page.value("signalbox_rpcs_open", &[("method", &watch)]), 1.0);
    drop((stream, config, channel));
    until_answered(PATIENCE, "the stream that was left is counted", async || {
        let page = scrape(&server).await;
        page.find("signalbox_rpcs_total", &[("code", "CANCELLED"), ("method", &watch)]) == Some(1.0)
            && page.value("signalbox_rpcs_open", &[("method", &watch)]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn streams_are_counted_with_what_they_were_sent_and_why_they_began_anew() {
    let server = start().await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut streams = [watching(&server, &worker, "").await, watching(&server, &worker, "no token").await];
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("one")).await;
    for stream in &mut streams {
        while !matches!(event(stream).await.unwrap(), Some(Event::Changes(_))) {}
    }
    let page = scrape(&server).await;
    assert_eq!(page.value("signalbox_watchers", &[]), 2.0);
    assert_eq!(page.value("signalbox_watch_deliveries_total", &[]), 2.0);
    assert_eq!(page.value("signalbox_watch_snapshots_total", &[]), 2.0);
    assert_eq!(page.value("signalbox_watch_resets_total", &[("reason", "invalid_token")]), 1.0);
    assert_eq!(page.value("signalbox_watch_resets_total", &[("reason", "lagged")]), 0.0);
    assert_eq!(page.value("signalbox_watch_cut_total", &[("reason", "stalled")]), 0.0);
    assert!(page.value("signalbox_watch_ring_bytes", &[]) > 0.0);
}

#[tokio::test]
async fn calls_to_others_are_counted_by_what_came_of_them() {
    let server = start().await;
    let local = ProviderSpec {
        r#type: ProviderType::Ollama.into(),
        base_url: "http://127.0.0.1:1".to_owned(),
        default_model: "m1".to_owned(),
        ..Default::default()
    };
    Api::admin(&server).await.create("providers/local", Spec::Provider(local)).await;
    let (address, token) = (server.http_address(), server.admin_token());
    let tested = send(address, "POST", "/v1/providers/local:test", &token, &json!({})).await;
    assert_eq!(tested.json()["reason"], "PROBE_REASON_EGRESS_REFUSED", "{tested:?}");
    let page = scrape(&server).await;
    let calls = |target, outcome| {
        page.find("signalbox_outbound_call_seconds_count", &[("outcome", outcome), ("target", target)])
    };
    assert!(calls("provider", "egress_refused").is_some_and(|count| count >= 1.0));
    assert_eq!((calls("provider", "ok"), calls("database", "ok")), (Some(0.0), Some(0.0)));
}

#[tokio::test]
async fn values_that_are_replaced_and_rotations_that_are_ended_are_counted() {
    let server = start().await;
    let mut api = Api::admin(&server).await;
    api.create("providers/groq", provider(&[])).await;
    api.create("providers/groq/apiKeys/a", api_key("gsk-one")).await;
    let (address, token) = (server.http_address(), server.admin_token());
    for body in [
        json!({ "secret": { "value": "gsk-two" }, "timeout": "3600s" }),
        json!({ "retireNow": true }),
        json!({ "secret": { "value": "gsk-three" }, "validateOnly": true }),
    ] {
        let rotated = send(address, "POST", "/v1/providers/groq/apiKeys/a:rotate", &token, &body).await;
        assert_eq!(rotated.code, 200, "{rotated:?}");
    }
    let page = scrape(&server).await;
    assert_eq!(page.value("signalbox_key_values_replaced_total", &[]), 1.0);
    let ended = |reason| page.value("signalbox_key_rotations_ended_total", &[("reason", reason)]);
    assert_eq!([ended("retired"), ended("revoked"), ended("applied")], [1.0, 0.0, 0.0]);
}

#[tokio::test]
async fn one_server_alone_is_shown_as_it_is() {
    let server = start().await;
    let page = scrape(&server).await;
    let doorbell = |state| page.value("signalbox_store_doorbell", &[("state", state)]);
    assert_eq!((doorbell("local"), doorbell("notify"), doorbell("polling")), (1.0, 0.0, 0.0));
    assert_eq!(page.value("signalbox_replicas", &[]), 1.0);
    for alarm in ["ahead", "crowd", "digest", "environment", "heartbeat", "key", "vanished", "verification"] {
        assert_eq!(page.value("signalbox_replica_alarms", &[("alarm", alarm)]), 0.0);
    }
    let levels = ["signalbox_feature_level", "signalbox_feature_level_supported"];
    let [level, supported] = levels.map(|name| page.value(name, &[]));
    assert!(level >= 1.0 && level == supported, "{level} {supported}");
    assert_eq!(page.value("signalbox_view_stale", &[]), 0.0);
    assert_eq!(page.value("signalbox_undecryptable_secrets", &[]), 0.0);
    // The house is kept once at the start, which may still be going on.
    until_answered(PATIENCE, "the lease on housekeeping is given back", async || {
        scrape(&server).await.value("signalbox_leases_held", &[("work", "housekeeping")]) == 0.0
    })
    .await;
    assert!(page.value("signalbox_warnings", &[]) >= 1.0, "the key lies beside the data");
    let build = [("store", "sqlite"), ("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(page.value("signalbox_build_info", &build), 1.0);
    let age = SystemClock.now().timestamp() as f64 - page.value("process_start_time_seconds", &[]);
    assert!((-1.0..600.0).contains(&age), "{age}");
}

/// A page on which everything that there is has been seen once.
async fn full_page() -> (Server, String) {
    let server = start().await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("one")).await;
    let page = get(server.http_address(), "/metrics", &server.admin_token()).await;
    (server, page.body)
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_exists() {
    let (_server, page) = full_page().await;
    let mut table = String::new();
    for (name, family) in Exposition::parse(&page).families {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {} | {} | {} |", family.kind, labels.join(", "), family.help).unwrap();
    }
    let document = document("docs/metrics.md");
    let rows: String =
        document.lines().filter(|line| line.starts_with("| `")).map(|line| line.to_owned() + "\n").collect();
    assert_eq!(rows, table, "docs/metrics.md must have these rows:\n{table}");
}

#[tokio::test]
async fn rules_and_dashboard_ask_only_for_what_there_is() {
    let (_server, page) = full_page().await;
    let names = Exposition::parse(&page).names();
    for file in ["deploy/prometheus/alerts.yaml", "deploy/grafana/signalbox.json"] {
        let asked = asked(&document(file));
        assert!(asked.len() > 10, "{file} asks for {asked:?}");
        let unknown: Vec<_> = asked.difference(&names).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&document("deploy/grafana/signalbox.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    assert!(panels.iter().all(|panel| panel["description"].as_str().is_some_and(|text| !text.is_empty())));
}

#[tokio::test]
async fn promtool_has_nothing_against_page_and_rules() {
    let promtool = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/prometheus/usr/bin/promtool");
    assert!(promtool.exists(), "there is no promtool; scripts/tools fetches it where apt can");
    let (server, _) = full_page().await;
    let rules = path("deploy/prometheus/alerts.yaml");
    let mut check = command(&promtool, server.home().folder());
    let checked = crate::harness::run(check.args(["check", "rules"]).arg(rules)).await;
    assert!(checked.status.success(), "{checked:?}");
    let page = page_for(&server, "").await.body;
    let mut check = command(&promtool, server.home().folder());
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = check.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let checked = end(child).await;
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

/// The page as it is for who sends these headers beside a token.
async fn page_for(server: &Server, headers: &str) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\n{headers}", server.admin_token());
    ask(server.http_address(), "GET", "/metrics", &headers).await
}

#[tokio::test]
async fn regression_open_metrics_is_for_who_asks_for_it() {
    let (server, _) = full_page().await;
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"] {
        let classic = page_for(&server, accept).await;
        assert_eq!(classic.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(!classic.body.contains("# EOF"), "{accept}");
    }
    let both = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let open = page_for(&server, both).await;
    assert!(open.headers["content-type"].starts_with("application/openmetrics-text"), "{open:?}");
    assert!(open.body.contains("# TYPE signalbox_rpcs counter\n") && open.body.ends_with("# EOF\n"));
    let [classic, open] =
        [page_for(&server, "").await, open].map(|page| Exposition::parse(&page.body).families);
    assert_eq!(classic, open, "both say the same of it");
}

#[tokio::test]
async fn what_the_process_takes_is_told_under_the_usual_names() {
    let server = start().await;
    let page = scrape(&server).await;
    assert!(page.value("process_cpu_seconds_total", &[]) > 0.0);
    assert!(page.value("process_resident_memory_bytes", &[]) > 1_000_000.0);
    let [open, most] = ["process_open_fds", "process_max_fds"].map(|name| page.value(name, &[]));
    assert!(open > 3.0 && open < most, "{open} of {most}");
}

/// The metrics that a text asks for.
fn asked(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| word.starts_with("signalbox_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

fn document(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
