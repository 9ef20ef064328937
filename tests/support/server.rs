//! A real server in this process, on a free port, in a folder of its own, that can be stopped and started again.

use std::time::{Duration, Instant};

use prometheus_client::{encoding::text::encode, registry::Registry};
use signalbox::{
    app::{self, AppError, Metrics, Surroundings},
    domain::ReplicaId,
    settings::{Environment, Settings},
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::caller::{Caller, Site};
use crate::harness::{PATIENCE, admin_token, within};

/// A server. Its folder is gone when the test lets go of it.
pub struct Server {
    folder: tempfile::TempDir,
    flags: Vec<(&'static str, String)>,
    site: Site,
    metrics: Metrics,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), AppError>>,
}

impl Server {
    /// Starts a server on an empty store.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with more flags.
    pub async fn with(flags: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut server =
            Self { folder, flags, site: Site::default(), metrics: Metrics::default(), running: None };
        server.resume().await;
        server
    }

    /// Starts it again, after a stop, on the same folder.
    pub async fn resume(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        let mut flags: signalbox::settings::Flags = self.flags.iter().cloned().collect();
        flags.insert("listen", "127.0.0.1:0".to_owned());
        flags.insert("http-listen", "off".to_owned());
        flags.entry("starters").or_insert_with(|| "off".to_owned());
        flags.insert("data-dir", self.data().display().to_string());
        let settings =
            Settings::load(&flags, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"));
        let (stop, stopped) = oneshot::channel();
        let (ready, told) = oneshot::channel();
        let mut done = tokio::spawn(app::run(
            settings,
            (ReplicaId::random(), self.metrics.clone()),
            Surroundings::default(),
            move |addresses| {
                let _ = ready.send(addresses.grpc);
            },
            async move {
                let _ = stopped.await;
            },
        ));
        let address = within(PATIENCE, "the server's start", async {
            tokio::select! {
                Ok(address) = told => address,
                ended = &mut done => panic!("the server did not start: {ended:?}"),
            }
        })
        .await;
        self.site.moved_to(address.to_string());
        self.running = Some(Running { stop, done });
    }

    /// Stops it in good order, and says how long that took.
    pub async fn stop(&mut self) -> Duration {
        let Running { stop, done } = self.running.take().expect("the server runs");
        let begun = Instant::now();
        let _ = stop.send(());
        let ended = within(PATIENCE, "the server's end", done).await.expect("the server does not panic");
        ended.unwrap_or_else(|error| panic!("the server ended badly: {error}"));
        begun.elapsed()
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    /// Where it is, also after a restart.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What it has counted of a series, as `signalbox_store_calls_open{call="apply"}`; it has to be there.
    pub fn counted(&self, series: &str) -> u64 {
        let (mut registry, mut page) = (Registry::default(), String::new());
        self.metrics.register(&mut registry);
        encode(&mut page, &registry).expect("a page of metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("there is no {series} in {page}"))
    }

    /// The administrator that the first start made.
    pub fn admin(&self) -> Caller {
        Caller::new(&self.site, &admin_token(&self.data()))
    }

    /// The data directory.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}
