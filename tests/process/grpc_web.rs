//! gRPC-Web on the gRPC listener, as a browser speaks it: over HTTP/1.1, with the trailers in the body.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use signalbox::proto::v1::{
    GetResourceRequest, GetResourceResponse, GetStatusRequest, Role, WatchConfigRequest, WatchConfigResponse,
    admin_service_client::AdminServiceClient, watch_config_response::Event,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::{
    calls::{channel, refusal, token, with},
    harness::{
        Server,
        api::{Api, setting},
        events::Stream,
        http::ask,
        soon,
    },
};

/// A frame of an answer: a message, or the trailers.
enum Frame {
    Message(Bytes),
    Trailers(String),
}

/// Reads frames out of an answer that goes on.
struct Frames {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Frames {
    async fn call(server: &Server, method: &str, token: &str, message: &impl Message) -> Self {
        let body = message.encode_to_vec();
        let framed = [&[0][..], &(body.len() as u32).to_be_bytes(), &body].concat();
        let request = Request::post(format!("/signalbox.v1.ConfigService/{method}"))
            .header("host", "signalbox")
            .header("content-type", "application/grpc-web+proto")
            .header("x-grpc-web", "1")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::from(framed))
            .unwrap();
        Self { stream: Stream::open(server.address(), request).await, buffer: Vec::new() }
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.buffer.split_at_checked(5) {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                if rest.len() >= length {
                    let (flag, content) = (head[0], rest[..length].to_vec());
                    self.buffer.drain(..5 + length);
                    return Some(match flag {
                        0 => Frame::Message(content.into()),
                        _ => Frame::Trailers(String::from_utf8(content).unwrap()),
                    });
                }
            }
            self.buffer.extend_from_slice(&self.stream.bytes().await?);
        }
    }

    async fn event(&mut self) -> Event {
        match self.next().await {
            Some(Frame::Message(bytes)) => WatchConfigResponse::decode(bytes).unwrap().event.unwrap(),
            Some(Frame::Trailers(trailers)) => panic!("the stream ended: {trailers}"),
            None => panic!("the stream broke off"),
        }
    }
}

#[tokio::test]
async fn a_browser_calls_and_watches_over_http_1() {
    let server = Server::start().await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("first")).await;
    let worker = token(&server, Role::Worker, "w").await;
    let get = GetResourceRequest { name: "settings/a".into(), ..Default::default() };
    let mut call = Frames::call(&server, "GetResource", &worker, &get).await;
    assert_eq!(call.stream.head().headers()["content-type"], "application/grpc-web+proto");
    let Some(Frame::Message(bytes)) = call.next().await else { panic!("no message") };
    assert_eq!(GetResourceResponse::decode(bytes).unwrap().resource.unwrap().name, "settings/a");
    let Some(Frame::Trailers(trailers)) = call.next().await else { panic!("no trailers") };
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    let mut watch = Frames::call(&server, "WatchConfig", &worker, &WatchConfigRequest::default()).await;
    assert!(matches!(watch.event().await, Event::Snapshot(_)));
    assert!(matches!(watch.event().await, Event::Synced(_)));
    api.create("settings/b", setting("second")).await;
    let Event::Changes(changes) = watch.event().await else { panic!("no changes") };
    assert_eq!(changes.changes[0].name, "settings/b");
}

#[tokio::test]
async fn the_gate_is_the_same() {
    let server = Server::start().await;
    let viewer = token(&server, Role::Viewer, "v").await;
    for (token, method, code) in [
        ("nonsense", "GetResource", "16"),
        (viewer.as_str(), "CreateResource", "7"),
        (viewer.as_str(), "createResource", "12"),
    ] {
        let refused = Frames::call(&server, method, token, &GetResourceRequest::default()).await;
        assert_eq!(refused.stream.head().headers()["grpc-status"], code, "{method}");
    }
    // Nothing else is to be had over HTTP/1.1 here.
    let admin = format!("Authorization: Bearer {}\r\n", server.admin_token());
    let path = "/signalbox.v1.AdminService/GetStatus";
    for (method, kind, code) in [
        ("POST", "application/grpc", 400),
        ("GET", "application/grpc-web", 405),
        ("GET", "text/html", 415),
        ("POST", "application/json", 415),
        ("POST", "application/grpc-web\r\nContent-Type: text/plain", 415),
        ("POST", "application/grpcfoo", 415),
        ("POST", "application/grpc+json", 415),
    ] {
        let answer = ask(server.address(), method, path, &format!("{admin}Content-Type: {kind}\r\n")).await;
        let told = match code {
            400 => "HTTP/2",
            405 => "with POST",
            415 => "--http-listen",
            _ => "",
        };
        assert!(answer.code == code && answer.body.contains(told), "{method} {kind}: {answer:?}");
        assert!(answer.headers.contains_key("x-request-id"), "{method} {kind}: the log has it");
    }
    assert_eq!(ask(server.address(), "POST", path, &admin).await.code, 415, "it says of nothing what it is");
}

/// Over HTTP/2 everything had been taken for a call.
#[tokio::test]
async fn regression_what_is_no_grpc_is_refused_as_that() {
    let flags = ["--http-listen", "127.0.0.1:0", "--metrics-anonymous"];
    let server = Server::start_with(&flags).await;
    for (form, code) in
        [("application/json", 415), ("application/grpc", 200), ("application/grpc+proto", 200)]
    {
        let request = Request::post("/signalbox.v1.AdminService/GetStatus").header("content-type", form);
        let request = request.body(tonic::body::Body::empty()).unwrap();
        let answer = channel(server.address()).await.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), code, "{form}");
        assert!(answer.headers().contains_key("x-request-id"), "{form}: the log has it");
    }
    let request =
        Request::get("/signalbox.v1.AdminService/GetStatus").header("content-type", "application/grpc");
    let request = request.body(tonic::body::Body::empty()).unwrap();
    let answer = channel(server.address()).await.oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let page = ask(server.http_address(), "GET", "/metrics", "").await.body;
    let line =
        "signalbox_rpcs_total{method=\"signalbox.v1.AdminService/GetStatus\",code=\"INVALID_ARGUMENT\"} 2\n";
    assert!(page.contains(line), "{page}");
}

/// The answer in JSON was none that a client of gRPC could read.
#[tokio::test]
async fn regression_grpc_on_the_port_of_http_is_told_where_it_belongs() {
    let server = Server::start_with(&["--http-listen", "127.0.0.1:0"]).await;
    let mut admin = AdminServiceClient::new(channel(server.http_address()).await);
    let refused = admin.get_status(with(&server.admin_token(), GetStatusRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("(--listen)"), "{refused:?}");
}

/// Forms of gRPC-Web, which nobody decodes there, were answered as gRPC.
#[tokio::test]
async fn regression_the_health_listener_takes_grpc_alone() {
    let server = Server::start_with(&["--health-listen", "127.0.0.1:0"]).await;
    for (form, code) in [
        ("Application/GRPC", 200),
        ("application/grpc-web", 415),
        ("application/grpcfoo", 415),
        ("text/html", 415),
    ] {
        let body = tonic::body::Body::new(Full::from(vec![0; 5]));
        let request = Request::post("/grpc.health.v1.Health/Check").header("content-type", form);
        let answer =
            channel(server.health_address()).await.oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), code, "{form}");
    }
}

/// It was told as a method that there is not, and a client looked for another version.
#[tokio::test]
async fn regression_compressed_messages_are_refused_as_that() {
    let server = Server::start().await;
    let admin = format!("Bearer {}", server.admin_token());
    for method in ["AdminService/GetStatus", "ConfigService/WatchConfig"] {
        for (encoding, code) in [("gzip", Code::Unimplemented), ("identity", Code::Ok)] {
            let body = tonic::body::Body::new(Full::from(vec![0; 5]));
            let request = Request::post(format!("/signalbox.v1.{method}"))
                .header("content-type", "application/grpc")
                .header("authorization", &admin)
                .header("grpc-encoding", encoding);
            let answer = channel(server.address()).await.oneshot(request.body(body).unwrap()).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap_or(Status::ok(""));
            assert_eq!(status.code(), code, "{method} {encoding}: {status}");
            if code != Code::Ok {
                assert_eq!(refusal(Err::<(), _>(status)).1, "COMPRESSION_UNSUPPORTED");
                assert_eq!(answer.headers()["grpc-accept-encoding"], "identity");
            }
        }
    }
}

/// A connection that says nothing, or never ends what it says, is sent away as it is on any listener.
#[tokio::test]
async fn a_slow_head_is_cut() {
    let server = Server::start_with(&["--handshake-timeout", "1s"]).await;
    for said in ["", "POST /x HTTP/1.1\r\n", "POST /signalbox.v1.X/Y HTTP/1.1\r\nHost: signalbox\r\nX-Slow: "]
    {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    let giant = format!("X-Giant: {}\r\n", "x".repeat(1 << 20));
    assert_eq!(ask(server.address(), "POST", "/x", &giant).await.code, 431);
}
