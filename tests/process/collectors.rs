//! The way to a collector: compressed, behind TLS, by an address for traces alone; and what one costs that is away or hangs.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use signalbox::proto::v1::Role;

use crate::{
    calls::{channel, token, watch},
    harness::{
        Home, PATIENCE, Server,
        collector::{Collector, PROTOCOLS},
        until,
    },
    tls::Authority,
    traces::{TRACE, created, home_by, spans, traceparent},
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
