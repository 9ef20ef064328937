//! The client over real sockets, against a server that speaks only `WatchConfig` and does as a script says.
//!
//! What needs no socket is tested in paused time, in `src/client/watcher_tests.rs`.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "clippy's exemption of tests does not reach their helpers")]

use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use signalbox::{
    client::{
        CacheError, CacheOptions, Client, ClientOptions, Connection, Error, Filled, SecretText, TokenSource,
        Update,
    },
    proto::v1::{
        Change, ChangeType, Changes, GoingAway, Resource, SettingSpec, Snapshot, Synced, WatchConfigRequest,
        WatchConfigResponse, resource::Spec, setting_spec::Value, watch_config_response::Event,
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::AbortHandle};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, ServerStreamingService},
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

/// Far more than anything takes on a busy machine, so that only what never comes runs into it.
const LIMIT: Duration = Duration::from_secs(60);

/// One stream as a server sees it: what the client asked, and the way to answer.
type Opened = (WatchConfigRequest, mpsc::UnboundedSender<Result<WatchConfigResponse, Status>>);

/// Serves `WatchConfig` to whoever has the token, and leaves the rest to the test.
#[derive(Clone)]
struct Watch {
    token: Arc<str>,
    opened: mpsc::UnboundedSender<Opened>,
}

impl NamedService for Watch {
    const NAME: &'static str = "signalbox.v1.ConfigService";
}

impl Service<http::Request<Body>> for Watch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let watch = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<WatchConfigResponse, WatchConfigRequest>::default();
            Ok(Grpc::new(codec).server_streaming(watch, request).await)
        })
    }
}

impl ServerStreamingService<WatchConfigRequest> for Watch {
    type Response = WatchConfigResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<WatchConfigResponse, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchConfigRequest>) -> Self::Future {
        let expected = format!("Bearer {}", self.token);
        if request.metadata().get("authorization").is_none_or(|given| given != expected.as_str()) {
            return ready(Err(Status::unauthenticated("not the token")));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        self.opened.send((request.into_inner(), sender)).unwrap();
        ready(Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed())))
    }
}

/// A running server; dropping it cuts every connection.
struct Running {
    address: SocketAddr,
    opened: mpsc::UnboundedReceiver<Opened>,
    task: AbortHandle,
}

impl Running {
    async fn start(token: &str, tls: Option<ServerTlsConfig>) -> Self {
        Self::start_at("127.0.0.1:0", token, tls).await
    }

    async fn start_at(place: &str, token: &str, tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, opened) = mpsc::unbounded_channel();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let watch = Watch { token: token.into(), opened: sender };
        let serving = server.add_service(watch).serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        Self { address, opened, task }
    }

    async fn accept(&mut self) -> Opened {
        tokio::time::timeout(LIMIT, self.opened.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn message(event: Event) -> Result<WatchConfigResponse, Status> {
    Ok(WatchConfigResponse { event: Some(event) })
}

fn resource(value: i64) -> Resource {
    Resource {
        name: "settings/a".to_owned(),
        spec: Some(Spec::Setting(SettingSpec {
            value: Some(Value::IntValue(value)),
            ..SettingSpec::default()
        })),
        ..Resource::default()
    }
}

fn snapshot(revision: u64) -> [Result<WatchConfigResponse, Status>; 2] {
    let resources = vec![resource(revision.try_into().unwrap())];
    let synced = Synced { revision, resume_token: format!("token-{revision}"), ..Synced::default() };
    [message(Event::Snapshot(Snapshot { revision, resources, last: true })), message(Event::Synced(synced))]
}

fn change(revision: u64) -> Result<WatchConfigResponse, Status> {
    let change = Change {
        r#type: ChangeType::Updated.into(),
        name: "settings/a".to_owned(),
        resource: Some(resource(revision.try_into().unwrap())),
        ..Change::default()
    };
    let resume_token = format!("token-{revision}");
    message(Event::Changes(Changes {
        revision,
        changes: vec![change],
        last: true,
        resume_token,
        ..Changes::default()
    }))
}

/// Waits until the client tells of an error.
async fn in_trouble(client: &Client) {
    let told = async {
        while client.status().last_error.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.unwrap();
}

#[tokio::test]
async fn a_drained_server_is_left_for_the_next_and_nothing_is_missed() {
    let mut first = Running::start("t", None).await;
    let mut second = Running::start("t", None).await;
    let endpoints = [&first, &second].map(|server| format!("http://{}", server.address));
    let options = ClientOptions::new("").endpoints(endpoints.to_vec()).token(TokenSource::fixed("t"));
    let client = Client::connect(options).unwrap();
    let mut subscription = client.subscribe();
    let (request, stream) = first.accept().await;
    assert_eq!(
        (request.resume_token.as_str(), request.worker.unwrap().client_version.is_empty()),
        ("", false)
    );
    snapshot(5).into_iter().for_each(|event| stream.send(event).unwrap());
    client.wait_ready(LIMIT).await.unwrap();
    stream.send(message(Event::GoingAway(GoingAway::default()))).unwrap();
    stream.send(change(6)).unwrap();
    let (request, stream) = second.accept().await;
    let resumed_at: u64 = request.resume_token.strip_prefix("token-").unwrap().parse().unwrap();
    (resumed_at + 1..=8).for_each(|revision| stream.send(change(revision)).unwrap());
    client.wait_revision(8, LIMIT).await.unwrap();
    assert_eq!(client.setting_int("a").unwrap(), Some(8));
    for revision in 5..=8 {
        let next = tokio::time::timeout(LIMIT, subscription.next()).await.unwrap();
        let Some(Update::Changes(set)) = next else { panic!("no changes") };
        assert_eq!(set.snapshot.revision(), revision, "each once, in order");
    }
}

#[tokio::test]
async fn a_killed_server_is_survived() {
    let mut server = Running::start("t", None).await;
    let options = ClientOptions::new(format!("http://{}", server.address)).token(TokenSource::fixed("t"));
    let client = Client::connect(options).unwrap();
    let (_, stream) = server.accept().await;
    snapshot(5).into_iter().for_each(|event| stream.send(event).unwrap());
    client.wait_ready(LIMIT).await.unwrap();
    drop((server, stream));
    in_trouble(&client).await;
    assert_eq!(client.setting_int("a").unwrap(), Some(5), "served while nobody is there");
    assert!(client.status().loaded);
}

/// A client with a cache on disk, and one that has left its cache behind.
fn cached(url: &str, folder: &Path) -> ClientOptions {
    let key = SecretText::new("a-secret-of-at-least-thirty-two-characters");
    let cache = CacheOptions::new(folder.join("cache"), key);
    ClientOptions::new(url).token(TokenSource::fixed("t")).cache(cache)
}

async fn leave_behind(folder: &Path) -> String {
    let mut server = Running::start("t", None).await;
    let url = format!("http://{}", server.address);
    let client = Client::connect(cached(&url, folder)).unwrap();
    let (_, stream) = server.accept().await;
    snapshot(5).into_iter().for_each(|event| stream.send(event).unwrap());
    client.wait_ready(LIMIT).await.unwrap();
    drop(client);
    let written = async {
        while !folder.join("cache").exists() {
            tokio::task::yield_now().await;
        }
    };
    // What is due is written at the end.
    tokio::time::timeout(LIMIT, written).await.unwrap();
    url
}

#[tokio::test]
async fn a_worker_starts_from_disk_while_the_service_is_down_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let url = leave_behind(folder.path()).await;
    let mut took = Vec::new();
    // The best of three: other work on the machine is not what is measured.
    for _ in 0..3 {
        let begun = Instant::now();
        let client = Client::connect(cached(&url, folder.path())).unwrap();
        client.wait_ready(LIMIT).await.unwrap();
        took.push(begun.elapsed());
        assert_eq!(client.setting_int("a").unwrap(), Some(5));
    }
    assert!(took.iter().min().unwrap() < &Duration::from_millis(200), "{took:?}");
    let client = Client::connect(cached(&url, folder.path())).unwrap();
    client.wait_ready(LIMIT).await.unwrap();
    let status = client.status();
    assert_eq!(
        (status.source, status.loaded, status.ready),
        (Filled::Disk, true, false),
        "read, but not fresh"
    );
    assert!(status.cache_error.is_none());
    let mut changes = client.subscribe();
    let mut server = Running::start_at(url.trim_start_matches("http://"), "t", None).await;
    let (request, stream) = server.accept().await;
    assert_eq!(request.resume_token, "token-5");
    let synced = Synced { revision: 5, resume_token: "token-5".to_owned(), ..Synced::default() };
    stream.send(message(Event::Synced(synced))).unwrap();
    stream.send(change(6)).unwrap();
    client.wait_revision(6, LIMIT).await.unwrap();
    let next = tokio::time::timeout(LIMIT, changes.next()).await.unwrap();
    assert!(matches!(next, Some(Update::Changes(set)) if set.snapshot.revision() == 6), "only what is new");
    assert_eq!(client.status().source, Filled::Stream);
}

#[tokio::test]
async fn a_cache_that_is_not_to_be_used_is_told_of_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let url = leave_behind(folder.path()).await;
    let file = folder.path().join("cache");
    let mut content = fs::read(&file).unwrap();
    content[70] ^= 1;
    fs::write(&file, content).unwrap();
    let client = Client::connect(cached(&url, folder.path())).unwrap();
    let error = client.wait_ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }) && client.get("settings/a").is_none());
    let told = client.status().cache_error.unwrap();
    assert!(matches!(*told, CacheError::Foreign { .. }), "{told}");
    let mut server = Running::start_at(url.trim_start_matches("http://"), "t", None).await;
    let (request, stream) = server.accept().await;
    assert_eq!(request.resume_token, "");
    snapshot(7).into_iter().for_each(|event| stream.send(event).unwrap());
    client.wait_revision(7, LIMIT).await.unwrap();
    let mended = async {
        while client.status().cache_error.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, mended).await.unwrap();
    // What clears the cache removes the file as well.
    let clearing = client.clone();
    let cleared = tokio::spawn(async move { clearing.clear_cache(LIMIT).await });
    let (request, stream) = server.accept().await;
    assert!(request.resume_token.is_empty() && !file.exists());
    snapshot(8).into_iter().for_each(|event| stream.send(event).unwrap());
    cleared.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_rotated_token_is_taken_up_over_tls() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(certified.cert.pem(), certified.signing_key.serialize_pem());
    let mut server = Running::start("new", Some(ServerTlsConfig::new().identity(identity))).await;
    let directory = tempfile::tempdir().unwrap();
    let (ca, token) = (directory.path().join("ca.pem"), directory.path().join("token"));
    fs::write(&ca, certified.cert.pem()).unwrap();
    fs::write(&token, "old\n").unwrap();
    let endpoint = format!("https://localhost:{}", server.address.port());
    let options = ClientOptions::new(endpoint).token(TokenSource::file(&token)).ca_file(&ca);
    let client = Client::connect(options.clone()).unwrap();
    in_trouble(&client).await;
    let error = client.wait_ready(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.rpc().map(|rpc| rpc.code), Some(tonic::Code::Unauthenticated), "{error}");
    fs::write(&token, "new\n").unwrap();
    let (_, stream) = server.accept().await;
    snapshot(5).into_iter().for_each(|event| stream.send(event).unwrap());
    client.wait_ready(LIMIT).await.unwrap();
    Connection::open(&options).await.unwrap();
    let distrusting =
        Connection::open(&ClientOptions::new(format!("https://localhost:{}", server.address.port()))).await;
    assert!(matches!(distrusting, Err(Error::Connect { .. })));
}
