//! Several servers on one database, with the settings that an operator gives all of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use signalbox::proto::v1::{
    CreateResourceRequest, CreateResourceResponse, GetResourceRequest, GetResourceResponse,
    GetStatusResponse, Replica, Resource,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    harness::{
        Home, PATIENCE, Server,
        exposition::Exposition,
        http::{Answer, get},
        probe::{Probed, probe},
        until_answered,
    },
    postgres,
    support::caller::{Caller, Site},
};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
/// A write is refused, and a read that needs the database, before this. Above the 10 s that a write may be tried for.
const BOUND: Duration = Duration::from_secs(15);

/// Replicas, each in a folder of its own: they share nothing but the database and the encryption key.
pub struct Cluster {
    url: String,
    key: String,
    settings: Vec<(&'static str, &'static str)>,
}

/// One server of a cluster.
pub struct Member {
    server: Option<Server>,
    home: Arc<Home>,
    pub site: Site,
}

impl Cluster {
    /// On an empty database of the shared PostgreSQL.
    pub async fn new() -> Self {
        Self::on(postgres::shared().database().await).await
    }

    /// On the database at a URL.
    pub async fn on(url: String) -> Self {
        let made = Home::new().run(&["keys", "generate"]).await;
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        Self { url, key, settings: Vec::new() }
    }

    /// With a setting for every replica to come.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// The encryption key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A folder whose processes have the settings of the cluster.
    pub fn home(&self) -> Home {
        self.home_at(&self.url)
    }

    fn home_at(&self, url: &str) -> Home {
        let home = Home::new().with("SIGNALBOX_DATABASE_URL", url).with("ENCRYPTION_KEY", &self.key);
        self.settings.iter().fold(home, |home, (name, value)| home.with(name, *value))
    }

    /// Starts one more replica.
    pub async fn start(&self) -> Member {
        self.start_at(&self.url).await
    }

    /// Starts one that reaches the database at another URL.
    pub async fn start_at(&self, url: &str) -> Member {
        Member::start_in(self.home_at(url)).await
    }

    /// Starts three at once.
    pub async fn start_three(&self) -> [Member; 3] {
        let (one, two, three) = tokio::join!(self.start(), self.start(), self.start());
        [one, two, three]
    }

    /// The first administrator's token: made with what the replicas share, because none lies in a file.
    pub async fn first_token(&self) -> String {
        let arguments = ["token", "create", "--local", "--role", "admin", "--grant-secrets", "--ttl", "24h"];
        let made = self.home().run(&arguments).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }
}

impl Member {
    /// Starts one in a folder.
    pub async fn start_in(home: Home) -> Self {
        let mut member = Self { server: None, home: Arc::new(home), site: Site::default() };
        member.start().await;
        member
    }

    /// Starts it, or starts it again, on another port.
    pub async fn start(&mut self) {
        let listen = ["--http-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
        let server = Server::start_in_with(&self.home, &listen).await;
        self.site.moved_to(server.address());
        self.server = Some(server);
    }

    /// Tells it to stop, waits until it has, and says how long that took.
    pub async fn stop(&mut self) -> Duration {
        let server = self.server.take().expect("it runs");
        // Whoever comes now goes to another one: the port may be somebody else's soon.
        self.site.moved_to(NOWHERE);
        let begin = Instant::now();
        server.stop().await;
        begin.elapsed()
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.site.moved_to(NOWHERE);
        self.server.take().expect("it runs").kill().await;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.server.as_ref().expect("it runs").signal(signal);
    }

    /// How it ended by itself, if it does so in time.
    pub async fn ended(&mut self) -> Option<i32> {
        self.server.as_mut().expect("it runs").ended(PATIENCE).await.and_then(|status| status.code())
    }

    /// A page of its HTTP listener.
    pub async fn page(&self, path: &str, token: &str) -> Answer {
        get(self.server.as_ref().expect("it runs").http_address(), path, token).await
    }

    /// What a kubelet is told of a service.
    pub async fn probe(&self, service: &str) -> Probed {
        probe(self.server.as_ref().expect("it runs").health_address(), service).await
    }

    /// Its metrics.
    pub async fn metrics(&self, token: &str) -> Exposition {
        Exposition::parse(&self.page("/metrics", token).await.body)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// The most memory that it ever held, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.server.as_ref().expect("it runs").peak_memory()
    }

    /// Somebody who calls this replica.
    pub fn caller(&self, token: &str) -> Caller {
        Caller::new(&self.site, token)
    }
}

/// Waits until a replica knows of so many.
pub async fn knows_of(caller: &Caller, count: usize) -> Vec<Replica> {
    let mut replicas = Vec::new();
    until_answered(PATIENCE, "the replicas know of each other", async || {
        replicas = caller.status().await.replicas;
        replicas.len() == count
    })
    .await;
    replicas
}

/// Waits until all replicas are at a revision, fresh, and holds them against each other.
pub async fn agree(callers: &[Caller], revision: u64) -> GetStatusResponse {
    let mut all = Vec::new();
    for caller in callers {
        let mut status = GetStatusResponse::default();
        until_answered(PATIENCE, "every replica has caught up", async || {
            status = caller.status().await;
            status.revision >= revision && !status.stale
        })
        .await;
        all.push(status);
    }
    let same = |status: &GetStatusResponse| {
        (status.epoch.clone(), status.revision, status.digest.clone(), status.revision_token.clone())
    };
    assert!(all.iter().all(|status| same(status) == same(&all[0])), "replicas differ: {all:?}");
    let alarm = all.iter().flat_map(|status| &status.warnings).find(|warning| warning.contains("digest"));
    assert_eq!(alarm, None, "no replica has found another one to differ");
    all.swap_remove(0)
}

/// Creates a resource; its revision.
pub async fn create(caller: &Caller, resource: Resource) -> u64 {
    let request = CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() };
    caller.config().create_resource(request).await.expect("it is created").into_inner().revision
}

/// The creation of a resource under a request id of its own.
pub fn request(resource: Resource) -> CreateResourceRequest {
    let request_id = format!("of {}", resource.name);
    CreateResourceRequest { resource: Some(resource), request_id, ..CreateResourceRequest::default() }
}

/// Repeats a creation for as long as it is refused for now.
pub async fn insist(caller: &Caller, request: &CreateResourceRequest) -> CreateResourceResponse {
    let begin = Instant::now();
    loop {
        match caller.config().create_resource(request.clone()).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if status.code() == Code::Unavailable && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => panic!("{status:?}"),
        }
    }
}

/// Something that has to be refused for now, soon, and with when to come back.
pub async fn is_refused_for_now<T>(what: &str, call: impl Future<Output = Result<T, Status>>) {
    let begin = Instant::now();
    let Err(status) = call.await else { panic!("{what} was not refused") };
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some(), "{what}: it does not say when to come back: {status:?}");
    assert!(begin.elapsed() < BOUND, "{what} took {:?}", begin.elapsed());
}

/// Reads a resource, no older than a token.
pub async fn read(caller: &Caller, name: &str, least: &str) -> Result<GetResourceResponse, Status> {
    let request = GetResourceRequest {
        name: name.to_owned(),
        min_revision_token: least.to_owned(),
        ..GetResourceRequest::default()
    };
    caller.config().get_resource(request).await.map(tonic::Response::into_inner)
}
