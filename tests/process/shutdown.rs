//! How a server stops, whoever is still connected.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use signalbox::proto::v1::{
    CreateResourceRequest, Resource, Role, SettingSpec, WatchConfigResponse,
    config_service_client::ConfigServiceClient, resource::Spec, setting_spec::Value,
    watch_config_response::Event,
};
use tonic::{Code, Request, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    access::status,
    calls::{channel, event, token, watch, with},
    harness::{Server, soon},
};

/// What a stop may take in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// What it gives to those who do not go.
const GRACE: Duration = Duration::from_secs(5);
/// So much grace that a stop within [`ORDERLY`] has needed none of it, on however busy a machine.
pub const LONG_GRACE: [&str; 4] = ["--shutdown-grace", "120s", "--shutdown-deadline", "150s"];
/// Far more than a stop takes when everybody goes, and far less than the long grace.
pub const ORDERLY: Duration = Duration::from_secs(30);

#[tokio::test]
async fn every_watcher_is_told_to_come_back_at_a_time_of_its_own() {
    let mut server = Server::start_with(&LONG_GRACE).await;
    let token = token(&server, Role::Worker, "w").await;
    let channel = channel(server.address()).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(watch(&channel, &token).await.unwrap());
    }
    server.signal(Signal::TERM);
    let mut delays = BTreeSet::new();
    for mut stream in streams {
        let going_away = loop {
            match event(&mut stream).await.unwrap() {
                Some(Event::GoingAway(going_away)) => break going_away,
                Some(Event::Progress(_)) => {}
                other => panic!("{other:?} instead of GoingAway"),
            }
        };
        let after = Duration::try_from(going_away.reconnect_after.unwrap()).unwrap();
        assert!(after > Duration::ZERO && after < Duration::from_secs(60), "{after:?}");
        delays.insert(after);
        assert!(!going_away.reason.is_empty());
        assert_eq!(event(&mut stream).await.unwrap(), None, "an orderly end");
    }
    assert!(delays.len() > 15, "the delays are not random: {delays:?}");
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
}

/// With a listener for probes, and the long grace.
async fn with_long_grace() -> Server {
    Server::start_with(&[&LONG_GRACE[..], &["--health-listen", "127.0.0.1:0"]].concat()).await
}

/// Probes watch for ever, and are told nothing that would make them go.
#[tokio::test]
async fn regression_open_health_watches_do_not_hold_the_stop() {
    let mut server = with_long_grace().await;
    let mut watches = Vec::new();
    for address in [server.address(), server.health_address()] {
        let channel = channel(address).await;
        for service in ["", "readiness", "liveness", "signalbox.v1.ConfigService"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let mut watch = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
            watches.push((service, watch));
        }
    }
    server.signal(Signal::TERM);
    for (service, mut watch) in watches {
        if service != "liveness" {
            let last = soon(watch.message()).await.unwrap().unwrap();
            assert_eq!(last.status(), ServingStatus::NotServing, "{service}");
        }
        assert_eq!(soon(watch.message()).await.unwrap(), None, "{service}: an orderly end");
    }
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
}

/// A stream that is opened and never read, with more on its way than its window takes.
pub async fn unread(server: &Server) -> Streaming<WatchConfigResponse> {
    let window = 65_535;
    let endpoint = Channel::from_shared(server.url().to_owned()).unwrap();
    let small = endpoint.initial_stream_window_size(window).connect().await.unwrap();
    let stream = watch(&small, &token(server, Role::Worker, "unread").await).await.unwrap();
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    for number in 0..4 {
        let value = Value::StringValue("x".repeat(60_000));
        let request = create(&server.admin_token(), &format!("settings/large{number}"), value);
        config.create_resource(request).await.unwrap();
    }
    stream
}

/// The creation of a setting.
pub fn create(token: &str, name: &str, value: Value) -> Request<CreateResourceRequest> {
    let spec = Spec::Setting(SettingSpec { value: Some(value), ..SettingSpec::default() });
    let resource = Resource { name: name.to_owned(), spec: Some(spec), ..Resource::default() };
    with(token, CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() })
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_the_stop() {
    let mut server = Server::start().await;
    let unread = unread(&server).await;
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait(DEADLINE).await.code(), Some(0));
    assert!(begun.elapsed() >= GRACE, "the client did read, so that this shows nothing");
    // Its connection is cut with the hard stop, so that the end of the stream is still audited.
    assert!(!server.home().log().contains("could not be written"), "{}", server.home().log());
    drop(unread);
}

/// Whoever sends traffic here has to know while the server still answers, not when it is gone.
#[tokio::test]
async fn readiness_is_lost_while_the_server_drains() {
    let mut server = with_long_grace().await;
    let unread = unread(&server).await;
    let mut watches = Vec::new();
    for address in [server.address(), server.health_address()] {
        let request = HealthCheckRequest { service: "readiness".to_owned() };
        let mut watch = HealthClient::new(channel(address).await).watch(request).await.unwrap().into_inner();
        assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    server.signal(Signal::TERM);
    for watch in &mut watches {
        assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
    assert_eq!(
        server.ended(Duration::from_secs(1)).await,
        None,
        "nothing holds it, so that this shows nothing"
    );
    drop(unread);
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
}

#[tokio::test]
async fn what_is_acknowledged_before_the_stop_is_there_after_it_and_nothing_is_taken_while_it_stops() {
    let mut server = Server::start().await;
    let home = Arc::clone(server.home());
    let admin = server.admin_token();
    let unread = unread(&server).await;
    let before = status(&server).await.resources;
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let mut acknowledged = 0_u64;
    let refused = loop {
        if acknowledged == 20 {
            server.signal(Signal::TERM);
        }
        match soon(config.create_resource(create(
            &admin,
            &format!("settings/s{acknowledged}"),
            Value::IntValue(1),
        )))
        .await
        {
            Ok(_) => acknowledged += 1,
            Err(status) => break status,
        }
        assert!(acknowledged < 100_000, "it does not stop");
    };
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{refused}");
    drop(unread);
    assert_eq!(server.wait(DEADLINE).await.code(), Some(0));
    drop(server);
    let server = Server::start_in(&home).await;
    let count = status(&server).await.resources - before;
    assert!((acknowledged..=acknowledged + 1).contains(&count), "{count} of {acknowledged}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start_with(&LONG_GRACE).await;
    let unread = unread(&server).await;
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(ORDERLY).await.code(), Some(130));
    drop(unread);
}
