//! What is told of the server's health, and what the listener for probes does not tell.

use std::{process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use signalbox::proto::v1::{
    GetResourceRequest, GetStatusRequest, admin_service_client::AdminServiceClient,
    config_service_client::ConfigServiceClient, setting_spec::Value,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    calls::{channel, refusal, with},
    harness::{
        Home, PATIENCE, Server, end,
        exposition::Exposition,
        http::get,
        probe::{Probed, probe},
        soon, until_answered,
    },
    shutdown::{LONG_GRACE, ORDERLY, create, unread},
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
            // The protocol: who waits for a service that there is not goes on waiting.
            let request = HealthCheckRequest { service: unknown.to_owned() };
            let mut watch = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
            let first = soon(watch.message()).await.unwrap().unwrap();
            assert_eq!(first.status(), ServingStatus::ServiceUnknown, "{unknown}");
            let more = tokio::time::timeout(Duration::from_millis(50), watch.message()).await;
            assert!(more.is_err(), "{unknown}: {more:?}");
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
    // Nobody is there, then somebody who does not serve yet, then it serves: no step back.
    let step = |probed: &Probed| match probed {
        Probed::Refused => 0,
        Probed::NotServing => 1,
        Probed::Serving => 2,
        other => panic!("{other:?} in {seen:?}"),
    };
    assert!(seen.iter().map(step).is_sorted(), "{seen:?}");
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

/// A request over HTTP that never says all that it wants: the stop waits for it, though no stream of gRPC is open.
async fn unfinished(server: &Server) -> TcpStream {
    let mut request = TcpStream::connect(server.http_address()).await.unwrap();
    let token = server.admin_token();
    let head = format!(
        "POST /v1/settings HTTP/1.1\r\nHost: signalbox\r\nAuthorization: Bearer {token}\r\nContent-Type: \
         application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    request.write_all(head.as_bytes()).await.unwrap();
    let under_way = async || {
        let page = get(server.http_address(), "/metrics", &token).await;
        let page = Exposition::parse(&page.body);
        let method = "signalbox.v1.ConfigService/CreateResource";
        page.find("signalbox_rpcs_open", &[("method", method)]) == Some(1.0)
    };
    until_answered(PATIENCE, "the request is under way", under_way).await;
    request
}

/// Every probe comes on a connection of its own, as Kubernetes' and those of balancers do.
#[tokio::test]
async fn regression_new_connections_see_the_drain_until_the_process_ends() {
    let on = ["--http-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
    let mut server = Server::start_with(&[&LONG_GRACE[..], &on].concat()).await;
    let (health, http) = (server.health_address().to_owned(), server.http_address().to_owned());
    let open = channel(&health).await;
    assert_eq!(check(&open, "readiness").await.unwrap(), ServingStatus::Serving);
    let unfinished = unfinished(&server).await;
    let grpc = server.address().to_owned();
    server.signal(Signal::TERM);
    let refused = async || TcpStream::connect(&grpc).await.is_err();
    until_answered(PATIENCE, "gRPC is over", refused).await;
    for _ in 0..20 {
        assert_eq!(probe(&health, "liveness").await, Probed::Serving);
        assert_eq!(probe(&health, "readiness").await, Probed::NotServing);
        let (live, ready) = (get(&http, "/livez", "").await, get(&http, "/readyz", "").await);
        assert_eq!((live.code, live.json()["live"].clone()), (200, true.into()));
        assert_eq!((ready.code, ready.json()["why"]["reason"].clone()), (503, "DRAINING".into()));
    }
    // Who has asked before asks on, on the connection that he has.
    assert_eq!(check(&open, "liveness").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check(&open, "readiness").await.unwrap(), ServingStatus::NotServing);
    let call = get(&http, "/v1/status", &server.admin_token()).await;
    assert_eq!(call.refusal(), (503, "SHUTTING_DOWN".to_owned()));
    assert_eq!(server.ended(Duration::from_secs(1)).await, None, "nothing held it: this shows nothing");
    drop((unfinished, open));
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
    assert_eq!(probe(&health, "liveness").await, Probed::Refused);
}

/// Balancers hear of the end some time after it is told: calls are still taken for so long.
#[tokio::test]
async fn calls_are_taken_for_a_while_after_readiness_is_lost() {
    let delay = ["--shutdown-delay", "20s", "--http-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
    let mut server = Server::start_with(&[&LONG_GRACE[..], &delay].concat()).await;
    let health = server.health_address().to_owned();
    server.signal(Signal::TERM);
    let lost = async || probe(&health, "readiness").await == Probed::NotServing;
    until_answered(PATIENCE, "readiness is lost", lost).await;
    assert_eq!(check(&channel(server.address()).await, "").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(get(server.http_address(), "/readyz", "").await.code, 503);
    assert_eq!(get(server.http_address(), "/v1/status", &server.admin_token()).await.code, 200);
    let request = create(&server.admin_token(), "settings/late", Value::IntValue(1));
    ConfigServiceClient::new(channel(server.address()).await).create_resource(request).await.unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait(ORDERLY).await.code(), Some(130), "who can't wait says so again");
}

/// A database that comes up later than the server: whoever watches over it must not restart it for that.
#[tokio::test]
async fn regression_a_server_that_waits_for_its_database_is_alive_and_not_ready() {
    let mut home = Home::new();
    let key = home.run(&["keys", "generate"]).await.stdout;
    home.set("ENCRYPTION_KEY", String::from_utf8(key).unwrap().trim());
    home.set("SIGNALBOX_DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/db");
    let [health, http] = [(); 2].map(|()| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    });
    let mut command = home.serve(&["--http-listen", &http, "--health-listen", &health]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ready = || get(&http, "/readyz", "");
    let waits = async || {
        TcpStream::connect(&http).await.is_ok() && ready().await.json()["why"]["reason"] == "STORE_AWAY"
    };
    until_answered(PATIENCE, "it says what it waits for", waits).await;
    assert_eq!(ready().await.code, 503);
    for page in ["/livez", "/readyz"] {
        assert_eq!(get(&http, page, "").await.json()["degraded"][0]["reason"], "STORE_AWAY", "{page}");
    }
    assert_eq!(get(&http, "/livez", "").await.code, 200);
    assert_eq!(probe(&health, "liveness").await, Probed::Serving);
    assert_eq!(probe(&health, "readiness").await, Probed::NotServing);
    // What it can take is known without a store; who may see what is not.
    assert_eq!(get(&http, "/openapi.json", "").await.json()["openapi"], "3.1.0");
    for page in ["/v1/status", "/metrics"] {
        assert_eq!(get(&http, page, "").await.refusal(), (503, "STARTING".to_owned()), "{page}");
    }
    assert_eq!(child.try_wait().unwrap(), None, "it waits");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = end(child).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]), "{output:?}");
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
