//! What is told of the server's health, and what the listener for probes does not tell.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use signalbox::proto::v1::{
    GetResourceRequest, GetStatusRequest, admin_service_client::AdminServiceClient,
    config_service_client::ConfigServiceClient,
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    calls::{channel, refusal, with},
    harness::{
        Home, PATIENCE, Server,
        probe::{Probed, probe},
        soon, until_answered,
    },
    shutdown::{LONG_GRACE, ORDERLY, unread},
};

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel.clone()).check(request).await?.into_inner().status())
}

const SERVING: [&str; 8] = [
    "",
    "liveness",
    "readiness",
    "signalbox.v1.ConfigService",
    "signalbox.v1.ProviderService",
    "signalbox.v1.ApiKeyService",
    "signalbox.v1.SettingService",
    "signalbox.v1.AdminService",
];

#[tokio::test]
async fn every_service_is_told_of_without_a_token() {
    let server = Server::start_with(&["--health-listen", "127.0.0.1:0"]).await;
    for address in [server.address(), server.health_address()] {
        let channel = channel(address).await;
        for service in SERVING {
            assert_eq!(check(&channel, service).await.unwrap(), ServingStatus::Serving, "{service}");
            let request = HealthCheckRequest { service: service.to_owned() };
            let watch = HealthClient::new(channel.clone()).watch(request).await.unwrap();
            let first = soon(watch.into_inner().message()).await.unwrap().unwrap();
            assert_eq!(first.status(), ServingStatus::Serving, "{service}");
        }
        for unknown in ["signalbox.v1.Nonsense", "READINESS", "readiness/", "grpc.health.v1.Health2"] {
            assert_eq!(check(&channel, unknown).await.unwrap_err().code(), Code::NotFound, "{unknown}");
        }
    }
}

#[tokio::test]
async fn the_listener_for_probes_answers_nothing_else() {
    let server = Server::start_with(&["--health-listen", "127.0.0.1:0"]).await;
    let channel = channel(server.health_address()).await;
    let token = server.admin_token();
    let resource = GetResourceRequest { name: "settings/a".to_owned(), ..GetResourceRequest::default() };
    let get = ConfigServiceClient::new(channel.clone()).get_resource(with(&token, resource)).await;
    assert_eq!(refusal(get).0, Code::Unimplemented);
    let status = AdminServiceClient::new(channel.clone()).get_status(with(&token, GetStatusRequest {})).await;
    assert_eq!(refusal(status).0, Code::Unimplemented);
    assert_eq!(check(&channel, "readiness").await.unwrap(), ServingStatus::Serving);
}

/// What the manifests in `deploy/kubernetes` rely on. That a lost database changes nothing is shown in
/// `tests/replicas/database.rs`.
#[tokio::test]
async fn a_kubelet_sees_the_start_and_the_drain() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let (probed, home) = (address.clone(), Arc::new(Home::new()));
    let starting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&Probed::Serving) {
            seen.push(probe(&probed, "readiness").await);
        }
        seen
    });
    let arguments = [&LONG_GRACE[..], &["--health-listen", &address]].concat();
    let mut server = Server::start_in_with(&home, &arguments).await;
    let seen = soon(starting).await.unwrap();
    // Nobody listens before there is something to serve; from then on it serves.
    assert_eq!(seen.iter().filter(|probed| **probed == Probed::Refused).count(), seen.len() - 1, "{seen:?}");
    let unread = unread(&server).await;

    server.signal(Signal::TERM);
    let lost = async || probe(&address, "readiness").await == Probed::NotServing;
    until_answered(PATIENCE, "readiness is lost", lost).await;
    // Not to be restarted, and not to be sent anybody, for as long as it drains.
    for _ in 0..20 {
        assert_eq!(probe(&address, "liveness").await, Probed::Serving);
        assert_eq!(probe(&address, "readiness").await, Probed::NotServing);
    }
    assert_eq!(server.ended(Duration::from_secs(1)).await, None, "nothing held it: this shows nothing");
    drop(unread);
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
    assert_eq!(probe(&address, "liveness").await, Probed::Refused);
}

#[tokio::test]
async fn the_command_line_asks_as_a_probe_does() {
    let server = Server::start_with(&["--health-listen", "127.0.0.1:0"]).await;
    let health = format!("http://{}", server.health_address());
    let asked = async |arguments: &[&str]| server.home().run(&[&["health"], arguments].concat()).await;
    let ready = asked(&["--server", &health]).await;
    assert_eq!(String::from_utf8_lossy(&ready.stdout), "readiness: SERVING\n", "{ready:?}");
    let alive = asked(&["liveness", "--server", server.url(), "-o", "json"]).await;
    let told: serde_json::Value = serde_json::from_slice(&alive.stdout).unwrap();
    assert_eq!(told, serde_json::json!({ "service": "liveness", "status": "SERVING" }));
    assert_eq!(asked(&["nonsense", "--server", &health]).await.status.code(), Some(3));
    let nobody = asked(&["--server", "http://127.0.0.1:1"]).await;
    assert_eq!(nobody.status.code(), Some(6), "{nobody:?}");
}

/// security.md: anonymous rows are bounded per peer. Without a bound one peer could open streams until nobody else can.
#[tokio::test]
async fn regression_health_watches_of_one_peer_are_bounded() {
    let server = Server::start().await;
    let mut open = Vec::new();
    let refused = loop {
        // A connection for a few of them, so that no other limit comes first.
        let channel = channel(server.address()).await;
        let mut health = HealthClient::new(channel);
        let watch = health.watch(HealthCheckRequest { service: "readiness".to_owned() }).await;
        match watch {
            Ok(watch) => open.push((health, watch.into_inner())),
            Err(refused) => break refused,
        }
        assert!(open.len() < 1000, "one peer may open as many as it likes");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    open.clear();
    let again = async || check(&channel(server.address()).await, "readiness").await.is_ok();
    until_answered(PATIENCE, "the places come back", again).await;
}
