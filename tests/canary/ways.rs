//! The ways in beside our own methods: health, reflection, headers, paths, and what is no gRPC at all.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, codegen::http::HeaderMap, metadata::MetadataMap};

use crate::{
    calls::{Answer, once, send},
    harness::{Home, Server, calls::channel, http::ask, soon},
    trail::Trail,
};

const STATUS: &str = "/signalbox.v1.AdminService/GetStatus";

/// A message whose field of this number is a text.
fn text(number: u32, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::string::encode(number, &text.to_owned(), &mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_comes_in_otherwise_is_found_anywhere() {
    let trail = Trail::new();
    let home = Arc::new(Home::new().with("RUST_LOG", "trace").with("SIGNALBOX_HEALTH_LISTEN", "127.0.0.1:0"));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let channel = channel(server.address()).await;
    let admin = server.admin_token();
    let call = async |path: &str, body: Vec<u8>, headers: &[(&'static str, String)]| -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        let mut request = Request::new(once(body));
        *request.metadata_mut() = MetadataMap::from_headers(map);
        let answer = send(&channel, path, request).await;
        // Reflection repeats the name that it was asked for, to who asked.
        if !path.contains("Reflection") {
            trail.saw(format!("the error of {path}"), &answer.told());
        }
        answer
    };
    let canary = |used: &str| trail.canary(used);
    let bearer = format!("Bearer {admin}");

    for method in ["Check", "Watch"] {
        let body = text(1, &canary("the service of a health check"));
        call(&format!("/grpc.health.v1.Health/{method}"), body, &[]).await;
    }
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        for number in [3, 4, 6] {
            call(&path, text(number, &canary("a reflected name")), &[("authorization", bearer.clone())])
                .await;
        }
    }
    let wrong: [(&str, Vec<(&'static str, String)>); 6] = [
        ("basic", vec![("authorization", format!("Basic {}", canary("a password")))]),
        ("bare", vec![("authorization", canary("a bare header"))]),
        (
            "two",
            vec![
                ("authorization", bearer.clone()),
                ("authorization", format!("Bearer {}", canary("a second"))),
            ],
        ),
        ("other header", vec![("x-api-key", canary("a key of another header"))]),
        ("cookie", vec![("cookie", format!("token={}", canary("a cookie")))]),
        (
            "three parts",
            vec![("authorization", format!("Bearer e30.{}.c", URL_SAFE_NO_PAD.encode(canary("a payload"))))],
        ),
    ];
    for (what, headers) in wrong {
        assert!(call(STATUS, vec![], &headers).await.error.is_some(), "{what} is no way in");
    }
    // Beside a good token, other headers are nobody's business.
    let beside = [("authorization", bearer.clone()), ("x-api-key", canary("a key beside a token"))];
    assert!(call(STATUS, vec![], &beside).await.error.is_none());

    for (what, request) in [
        (
            "HTTP/1.1",
            "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 64\r\n\r\n{}",
        ),
        ("no HTTP", "{}\n{}\n"),
    ] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.replace("{}", &canary(what)).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Cut, already or later, or answered: either will do.
        let _ = stream.shutdown().await;
        let _ = soon(stream.read_to_end(&mut answer)).await;
        trail.saw(format!("the answer to {what}"), &answer);
    }
    for (path, headers) in [
        (format!("/{}", canary("a path of HTTP")), String::new()),
        (format!("/metrics?token={}", canary("a query of HTTP")), String::new()),
        ("/metrics".to_owned(), format!("Authorization: Bearer {}\r\n", canary("a bearer of HTTP"))),
        ("/metrics".to_owned(), format!("Authorization: Basic {}\r\n", canary("a password of HTTP"))),
        (
            "/metrics".to_owned(),
            format!("Authorization: {bearer}\r\nX-Api-Key: {}\r\n", canary("a header of HTTP")),
        ),
        ("/readyz".to_owned(), format!("Cookie: token={}\r\n", canary("a cookie of HTTP"))),
    ] {
        let answer = ask(server.http_address(), "GET", &path, &headers).await;
        trail.saw("an answer of HTTP", format!("{answer:?}").as_bytes());
    }
    assert!(trail.shows("an answer of HTTP", "signalbox_build_info"), "metrics were shown");
    server.stop().await;
    trail.saw_files(&home);
    assert!(trail.shows("server.log", "TRACE"));
    let leaks = trail.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
