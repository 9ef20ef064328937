//! The log: what an operator finds in it of a request and of a failure, and what becomes of a line that comes over and over.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use signalbox::proto::v1::{
    CreateResourceRequest, GetResourceRequest, config_service_client::ConfigServiceClient,
    setting_spec::Value as Setting,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Code, transport::Endpoint};

use crate::{
    calls::{channel, refusal},
    harness::{Home, PATIENCE, Server, collector::Collector, http::ask, soon, until, until_answered},
    shutdown,
    traces::{self, TRACE, create, traceparent},
};

/// Whether a server answers on a connection that is opened for this.
async fn answers(server: &Server) -> bool {
    let Ok(channel) = Endpoint::from_shared(server.url().to_owned()).unwrap().connect().await else {
        return false;
    };
    let refused = ConfigServiceClient::new(channel).get_resource(GetResourceRequest::default()).await;
    refused.is_err_and(|status| status.metadata().contains_key("x-request-id"))
}

/// What follows a text, up to where the number ends.
fn number_after(line: &str, before: &str) -> u64 {
    let (_, rest) = line.split_once(before).unwrap_or_else(|| panic!("no {before}: {line}"));
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

/// Asserts that a warning is logged five times, and told of in one line besides: `at_least` times in all.
fn assert_held_back(log: &str, warning: &str, at_least: u64) {
    let told = "the same was said more often than it was logged";
    let (told, said): (Vec<&str>, Vec<&str>) =
        log.lines().filter(|line| line.contains(warning)).partition(|line| line.contains(told));
    assert!(said.len() == 5 && told.len() == 1, "{log}");
    let times = if told[0].starts_with('{') { "\"times\":" } else { "times=" };
    assert!(number_after(told[0], times) + 5 >= at_least, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// The sixth one once ended the task that logged it.
#[tokio::test]
async fn regression_a_warning_that_comes_over_and_over_is_held_back_and_the_server_serves() {
    let collector = Collector::start().await;
    for format in ["text", "json"] {
        for home in [Home::new(), traces::home(&collector)] {
            let home = Arc::new(home.with("SIGNALBOX_LOG_FORMAT", format));
            let server = Server::start_in_with(&home, &["--max-connections", "1"]).await;
            let only = TcpStream::connect(server.address()).await.unwrap();
            for _ in 0..12 {
                let mut refused = TcpStream::connect(server.address()).await.unwrap();
                let read = soon(refused.read(&mut [0])).await;
                assert!(!matches!(read, Ok(1..)), "{read:?}");
            }
            drop(only);
            until_answered(PATIENCE, "it serves", async || answers(&server).await).await;
            server.stop().await;
            assert_held_back(&home.log(), "a connection was refused", 12);
        }
    }
}

#[tokio::test]
async fn regression_a_server_waits_for_its_database_beyond_six_warnings() {
    let home = Home::new();
    let mut command = home.serve(&["--database-url", "postgres://u:x@127.0.0.1:9/db"]);
    let log = File::create(home.path("server.log")).unwrap();
    let mut child =
        command.stdout(File::create(home.path("server.out")).unwrap()).stderr(log).spawn().unwrap();
    until(PATIENCE, "the first warning", || home.log().contains("can't be reached")).await;
    // It is tried every second. There is nothing else to see of it.
    let begun = Instant::now();
    until(PATIENCE, "eight seconds", || begun.elapsed() > Duration::from_secs(8)).await;
    assert_eq!(child.try_wait().unwrap(), None, "{}", home.log());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut status = None;
    until(PATIENCE, "its end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success(), "{status:?}: {}", home.log());
    assert_held_back(&home.log(), "can't be reached", 7);
}

/// With the filter that there is by default.
#[tokio::test]
async fn regression_a_complaint_leads_to_the_line_of_a_call_that_failed() {
    let server = Server::start_with_file_limit(2000).await;
    let admin = server.admin_token();
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let mut number = 0;
    let failed = loop {
        let value = Setting::StringValue("x".repeat(20 << 10));
        let mut request = shutdown::create(&admin, &format!("settings/s{number}"), value);
        request.metadata_mut().insert("x-request-id", format!("call-{number}-").parse().unwrap());
        if let Err(status) = soon(config.create_resource(request)).await {
            assert_eq!(refusal::<()>(Err(status)), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
            break format!("call-{number}-");
        }
        number += 1;
        assert!(number < 1_000, "the limit does not hold");
    };
    let mut wrong = tonic::Request::new(CreateResourceRequest::default());
    wrong.metadata_mut().insert("x-request-id", "callers-own".parse().unwrap());
    config.create_resource(wrong).await.unwrap_err();
    let log = server.home().log();
    let line = log.lines().find(|line| line.contains(&failed) && line.contains("a call failed"));
    let line = line.unwrap_or_else(|| panic!("{failed}: {log}"));
    let parts = ["WARN", "signalbox.v1.ConfigService/CreateResource", "UNAVAILABLE", "STORE_UNAVAILABLE"];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    assert!(!log.contains("callers-own"), "what a caller did wrong is no failure: {log}");
}

/// Lines of JSON that the server has logged.
fn lines(home: &Home) -> Vec<Value> {
    home.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn every_line_of_a_request_has_its_ids_and_the_answer_has_them_too() {
    let home =
        Home::new().with("SIGNALBOX_LOG_FORMAT", "json").with("RUST_LOG", "warn,signalbox::telemetry=debug");
    let home = Arc::new(home);
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let mut request = create(&server, "settings/a", &traceparent("00"));
    request.metadata_mut().insert("x-request-id", "mine-1".parse().unwrap());
    request.get_mut().request_id = "looked-up".to_owned();
    let answer = config.create_resource(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-1");
    // Ids that are none are replaced, also where the request is refused.
    let mut wrong = tonic::Request::new(CreateResourceRequest::default());
    wrong.metadata_mut().insert("x-request-id", "not one\"".parse().unwrap());
    let status = config.create_resource(wrong).await.unwrap_err();
    let made = status.metadata().get("x-request-id").unwrap().to_str().unwrap();
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");

    let headers = format!("Authorization: Bearer {}\r\nX-Request-Id: mine-2\r\n", server.admin_token());
    let answer = ask(server.http_address(), "GET", "/v1/settings/a:history", &headers).await;
    assert_eq!(answer.headers["x-request-id"], "mine-2");
    server.stop().await;

    let of = |id: &str| -> Vec<Value> {
        lines(&home)
            .into_iter()
            .map(|line| line["span"].clone())
            .filter(|span| span["request_id"] == id)
            .collect()
    };
    let first = of("mine-1");
    assert!(!first.is_empty(), "{}", home.log());
    for span in first {
        assert_eq!(span["trace_id"], TRACE, "{span}");
        assert_eq!(span["method"], "signalbox.v1.ConfigService/CreateResource");
    }
    assert!(!of("mine-2").is_empty(), "what came by HTTP keeps its id: {}", home.log());
}
