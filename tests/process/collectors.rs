//! The way to a collector: compressed, behind TLS, by an address for traces alone; what one costs that is away or hangs, what it
//! is sent at the end, and what can be set of it.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use signalbox::{
    client::{Client, ClientOptions, TokenSource},
    proto::v1::Role,
};

use crate::{
    calls::{channel, token, watch},
    harness::{
        Home, PATIENCE, Server,
        collector::{Collector, PROTOCOLS},
        exposition::Exposition,
        http::{ask, get},
        soon, until, until_answered,
    },
    tls::Authority,
    traces::{TRACE, created, home, home_by, traceparent},
};

#[tokio::test]
async fn traces_are_compressed_where_the_settings_say_so() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await;
        let home = home_by(&collector, protocol).with("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        let server = Server::start_in(&Arc::new(home)).await;
        created(&server, "settings/a", &traceparent("01")).await;
        collector.only(TRACE, "transaction").await;
        server.stop().await;
        let wanted = (protocol, "gzip".to_owned());
        assert!(collector.ways().iter().all(|way| *way == wanted), "{:?}", collector.ways());
    }
}

/// What is named for traces alone is called as it stands.
#[tokio::test]
async fn a_collector_for_traces_alone_has_the_path_that_it_has() {
    let collector = Collector::start().await;
    let home = Home::new()
        .with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/v1/traces", collector.url()))
        .with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let server = Server::start_in(&Arc::new(home)).await;
    created(&server, "settings/a", &traceparent("01")).await;
    collector.only(TRACE, "transaction").await;
    server.stop().await;
}

#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_its_authority_alone() {
    let (ours, other) = (Authority::new(), Authority::new());
    for protocol in PROTOCOLS {
        let collector = Collector::secured(&ours.sign("localhost")).await;
        for (authority, trusted) in [(&other, false), (&ours, true)] {
            let home =
                home_by(&collector, protocol).with("OTEL_EXPORTER_OTLP_CERTIFICATE", "collector-ca.crt");
            std::fs::write(home.path("collector-ca.crt"), authority.pem()).unwrap();
            let home = Arc::new(home);
            let server = Server::start_in(&home).await;
            created(&server, "settings/a", &traceparent("01")).await;
            if trusted {
                collector.only(TRACE, "transaction").await;
            } else {
                let warning = "traces can't be sent to the collector";
                until(PATIENCE, "the warning", || home.log().contains(warning)).await;
                let log = home.log();
                assert!(log.contains("certificate") && collector.spans().is_empty(), "{protocol}: {log}");
            }
            server.stop().await;
        }
    }
}

/// One that refuses connections, and one that takes them and never answers.
#[tokio::test]
async fn a_collector_that_is_away_costs_one_warning() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let silent = silent.local_addr().unwrap();
    let away = [(nobody, true), (silent, false)];
    for (protocol, (collector, told)) in PROTOCOLS.into_iter().flat_map(|each| away.map(|one| (each, one))) {
        let home = Home::new()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .with("OTEL_BSP_SCHEDULE_DELAY", "10")
            .with("OTEL_BSP_MAX_QUEUE_SIZE", "4")
            .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2");
        let home = Arc::new(home);
        let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
        for number in 0..50 {
            created(&server, &format!("settings/n{number}"), "").await;
        }
        let warning = "traces can't be sent to the collector";
        if told {
            until(PATIENCE, "the warning", || home.log().contains(warning)).await;
            assert!(home.log().contains("onnection refused"), "{protocol}: it says why: {}", home.log());
        }
        // One that refuses fails each batch; behind one that is silent the queue of four fills up.
        let outcome = if told { "failed" } else { "queue_full" };
        assert!(spans(&server, outcome).await > 0.0, "{outcome}");
        assert_eq!(spans(&server, "sent").await, 0.0);
        let begun = Instant::now();
        server.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "the stop waited for a collector");
        let log = home.log();
        assert!(log.matches(warning).count() <= 1 && !log.contains("BatchSpanProcessor"), "{log}");
    }
}

/// It had cost four seconds, and nobody was told why.
#[tokio::test]
async fn regression_a_collector_that_hangs_costs_a_stop_two_seconds_and_is_told_of() {
    for protocol in PROTOCOLS {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = format!("http://{}", silent.local_addr().unwrap());
        let home = Home::new()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let home = Arc::new(home);
        let mut server = Server::start_in(&home).await;
        created(&server, "settings/a", "").await;
        let begun = Instant::now();
        server.signal(Signal::TERM);
        assert!(server.wait(PATIENCE).await.success());
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(3_000), "{protocol}: {took:?}");
        let log = home.log();
        assert!(log.contains("the collector did not answer in time"), "{protocol}: {log}");
    }
}

/// Whoever is waited for: a stream that does not go, and a collector that does not answer.
#[tokio::test]
async fn a_stop_ends_by_its_deadline_with_the_last_traces() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = format!("http://{}", silent.local_addr().unwrap());
    let home = Arc::new(Home::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", collector));
    let deadline = ["--shutdown-grace", "2s", "--shutdown-deadline", "3s"];
    let mut server = Server::start_in_with(&home, &deadline).await;
    created(&server, "settings/a", "").await;
    let worker = token(&server, Role::Worker, "w").await;
    let stream = watch(&channel(server.address()).await, &worker).await.unwrap();
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait(PATIENCE).await.success());
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
    drop(stream);
}

/// Nobody is asked at the standard address either, which is the default of OpenTelemetry's own library.
#[tokio::test]
async fn without_a_collector_there_are_no_traces() {
    let collector = Collector::start().await;
    // Whoever else on this machine has it can't tell who asks.
    let standard = TcpListener::bind("127.0.0.1:4317").ok();
    standard.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
    // What is set beside can't make traces by itself.
    let beside =
        |home: Home| home.with("OTEL_BSP_SCHEDULE_DELAY", "10").with("OTEL_TRACES_SAMPLER", "always_on");
    for home in [
        beside(Home::new()),
        home(&collector).with("OTEL_SDK_DISABLED", "true"),
        home(&collector).with("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let server = Server::start_in(&Arc::new(home)).await;
        let options = ClientOptions::new(server.url()).token(TokenSource::fixed(server.admin_token()));
        let client = Client::connect(options).unwrap();
        soon(client.wait_ready(PATIENCE)).await.unwrap();
        let mut changes = client.subscribe();
        created(&server, "settings/untraced", &traceparent("01")).await;
        let update = soon(changes.next()).await.unwrap();
        let signalbox::client::Update::Changes(set) = update else { panic!("{update:?}") };
        assert!(set.events.iter().all(|event| event.traceparent.is_none()), "{set:?}");
        let home = Arc::clone(server.home());
        server.stop().await;
        assert!(!home.log().contains("traces"), "{}", home.log());
    }
    assert!(collector.spans().is_empty());
    assert!(standard.iter().all(|listener| listener.accept().is_err()), "somebody was asked");
}

/// A collector says so in an answer that is no error, as when a quota is used up.
#[tokio::test]
async fn regression_spans_that_a_collector_refuses_are_failed_ones() {
    for protocol in PROTOCOLS {
        refused_spans_are_failed_ones(protocol).await;
    }
}

async fn refused_spans_are_failed_ones(protocol: &str) {
    let collector = Collector::start().await;
    collector.refuse_one_of_each_batch();
    let home = Arc::new(home_by(&collector, protocol));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    created(&server, "settings/a", &traceparent("01")).await;
    collector.only(TRACE, "transaction").await;
    let token = format!("Authorization: Bearer {}\r\n", server.admin_token());
    let failed = async || {
        let page = ask(server.http_address(), "GET", "/metrics", &token).await.body;
        let count = page
            .lines()
            .find_map(|line| line.strip_prefix("signalbox_trace_spans_total{outcome=\"failed\"} "));
        count.unwrap().parse::<u64>().unwrap() > 0
    };
    until_answered(PATIENCE, "they are counted", failed).await;
    let home = Arc::clone(server.home());
    server.stop().await;
    assert_eq!(home.log().matches("the collector refuses some of the spans").count(), 1, "{}", home.log());
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await;
        let home = home_by(&collector, protocol).with("OTEL_BSP_SCHEDULE_DELAY", "600000");
        let server = Server::start_in(&Arc::new(home)).await;
        created(&server, "settings/last", &traceparent("01")).await;
        server.stop().await;
        for name in ["signalbox.v1.ConfigService/CreateResource", "write", "transaction", "fan out"] {
            collector.only(TRACE, name).await;
        }
        assert!(collector.ways().iter().all(|(way, _)| *way == protocol), "{:?}", collector.ways());
    }
}

/// What became of so many spans, as the page of metrics says.
async fn spans(server: &Server, outcome: &str) -> f64 {
    let page = get(server.http_address(), "/metrics", &server.admin_token()).await;
    Exposition::parse(&page.body).value("signalbox_trace_spans_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn spans_that_are_sent_are_counted() {
    let collector = Collector::start().await;
    let home = Arc::new(home(&collector));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    created(&server, "settings/a", &traceparent("01")).await;
    let span = collector.only(TRACE, "transaction").await;
    let private = ["busy_ns", "idle_ns"].map(|name| span.attributes.iter().any(|(key, _)| key == name));
    assert_eq!(private, [false; 2], "names of nobody's convention: {span:?}");
    until_answered(PATIENCE, "they are counted", async || spans(&server, "sent").await > 0.0).await;
    assert_eq!((spans(&server, "failed").await, spans(&server, "queue_full").await), (0.0, 0.0));
}

#[tokio::test]
async fn settings_of_traces_that_can_not_be_right_are_refused() {
    let refused = async |settings: &[(&str, &str)]| {
        let home = settings.iter().fold(Home::new(), |home, (name, value)| home.with(name, *value));
        home.refused().await.message
    };
    let url = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let local = (url, "http://127.0.0.1:4317");
    for (settings, wanted) in [
        (
            &[(url, "127.0.0.1:4317")][..],
            "--traces-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT, traces.endpoint in the file): is not the URL of a collector",
        ),
        (&[(url, "http://u:p@127.0.0.1:4317")], "give credentials in OTEL_EXPORTER_OTLP_HEADERS"),
        (&[(url, "http://127.0.0.1:4318/v1/traces")], "its port is mostly 4317"),
        (&[(url, "http://127.0.0.1:4318?key=hunter2")], "has a query, which no collector has"),
        (&[local, ("OTEL_TRACES_SAMPLER", "xray")], "`xray` is none of always_on"),
        (
            &[local, ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift")],
            "OTEL_EXPORTER_OTLP_PROTOCOL: `thrift` is not spoken here; give grpc or http/protobuf",
        ),
        (
            &[
                local,
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ],
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: `http/json` is not spoken here; give grpc or http/protobuf",
        ),
        (&[local, ("OTEL_TRACES_EXPORTER", "zipkin")], "`zipkin` is not there; give otlp or none"),
        (&[local, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2")], "header 2 is not NAME=VALUE"),
        (&[local, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=hunter2")], "header 1 is not NAME=VALUE"),
        (&[local, ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0d%0a")], "header 1 is not NAME=VALUE"),
        (
            &[local, ("OTEL_RESOURCE_ATTRIBUTES", format!("a={}", "x".repeat(4_095)).as_str())],
            "4097 bytes; give 4096 at most",
        ),
        (&[local, ("OTEL_TRACES_SAMPLER_ARG", "1.5")], "1.5 is out of range; give 0 to 1"),
        (
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://10.0.0.1:4317"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
            ],
            "the headers would cross the network in the clear",
        ),
        (&[local, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere")], "/nowhere can't be read"),
    ] {
        let message = refused(settings).await;
        assert!(message.contains(wanted), "{message}");
        assert!(!message.contains("u:p@") && !message.contains("hunter2"), "{message}");
    }
}

#[tokio::test]
async fn what_is_set_in_vain_is_told_of_where_traces_are_made() {
    let collector = Collector::start().await;
    let set = |home: Home| {
        home.with("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,hunter2,=x")
            .with("OTEL_PROPAGATORS", "b3")
            // Of the two names of a protocol the one for traces counts.
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            .with("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    };
    let warnings =
        ["item 2 is not KEY=VALUE", "item 3 is not KEY=VALUE", "OTEL_PROPAGATORS is set, and nothing"];
    for (home, made) in [(home(&collector), true), (Home::new(), false)] {
        let server = Server::start_in(&Arc::new(set(home))).await;
        created(&server, "settings/a", &traceparent("01")).await;
        let home = Arc::clone(server.home());
        server.stop().await;
        let log = home.log();
        assert!(warnings.iter().all(|warning| log.contains(warning) == made), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
    let rpc = collector.only(TRACE, "signalbox.v1.ConfigService/CreateResource").await;
    assert_eq!(rpc.attribute("deployment.environment.name"), "prod");
}
