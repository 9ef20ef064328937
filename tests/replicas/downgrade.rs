//! The release before comes back after an upgrade, over a step of the schema that it does not know, until the level is raised:
//! on both databases. Both are `examples/another_release.rs`, told which one to be.

use std::sync::Arc;

use signalbox::{domain::FeatureLevel, proto::v1::RaiseFeatureLevelRequest};

use crate::{
    cluster::{Cluster, create, read},
    harness::{Home, Server, example},
    support::{
        caller::{Caller, Site},
        resources::setting,
    },
};

const CURRENT: u32 = FeatureLevel::CURRENT.0;
const BEFORE: u32 = CURRENT - 1;

/// A store, and the binary that comes to it next.
struct Place {
    home: Arc<Home>,
    /// Where `migrate` finds it.
    url: String,
    /// Makes tokens for a store whose replicas share their key.
    cluster: Option<Cluster>,
}

impl Place {
    async fn sqlite() -> Self {
        Self::of(Home::new(), "sqlite://data/signalbox.db".into(), None).await
    }

    async fn postgres() -> Self {
        let cluster = Cluster::new().await;
        Self::of(cluster.home(), cluster.url().to_owned(), Some(cluster)).await
    }

    async fn of(home: Home, url: String, cluster: Option<Cluster>) -> Self {
        let home = home.running(&example("another_release").await);
        let home = home.with("SIGNALBOX_RAISE_FEATURE_LEVEL", "manual");
        Self { home: Arc::new(home), url, cluster }
    }

    /// The release before is next.
    fn older(&mut self) {
        let home = Arc::get_mut(&mut self.home).expect("no server runs");
        home.set("OLDER_BY", "1");
        home.unset("NEXT_SCHEMA");
    }

    /// The release after is next, with a step over which binaries of a level can run.
    fn newer(&mut self, needs: u32) {
        let home = Arc::get_mut(&mut self.home).expect("no server runs");
        home.set("OLDER_BY", "0");
        home.set("NEXT_SCHEMA", needs.to_string());
    }

    async fn start(&self) -> (Server, Caller) {
        let server = Server::start_in(&self.home).await;
        let token = match &self.cluster {
            None => server.admin_token(),
            Some(cluster) => cluster.first_token().await,
        };
        let site = Site::default();
        site.moved_to(server.address());
        let caller = Caller::new(&site, &token);
        (server, caller)
    }

    /// What a command says, on either output, and whether it succeeded.
    async fn says(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.home.run(arguments).await;
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).unwrap())
    }
}

async fn has(caller: &Caller, names: &[&str]) {
    for name in names {
        read(caller, name, "").await.expect("it is readable");
    }
}

/// Upgrade, write, downgrade, write, upgrade: all is readable all the time.
async fn comes_back(mut place: Place) {
    place.older();
    let (server, caller) = place.start().await;
    create(&caller, setting("settings/first", "x")).await;
    let schema = caller.status().await.schema_version;
    server.stop().await;

    place.newer(BEFORE);
    let (server, caller) = place.start().await;
    create(&caller, setting("settings/of_the_newer", "x")).await;
    assert_eq!(caller.status().await.schema_version, schema + 1);
    server.stop().await;

    place.older();
    let (server, caller) = place.start().await;
    assert!(place.home.log().contains("the schema of a newer signalbox"), "{}", place.home.log());
    let status = caller.status().await;
    assert_eq!((status.schema_version, status.feature_level), (schema + 1, BEFORE));
    has(&caller, &["settings/first", "settings/of_the_newer"]).await;
    create(&caller, setting("settings/of_the_older", "x")).await;
    server.stop().await;
    is_looked_at(&place).await;

    place.newer(BEFORE);
    let (server, caller) = place.start().await;
    has(&caller, &["settings/first", "settings/of_the_newer", "settings/of_the_older"]).await;
    let raised =
        caller.admin().raise_feature_level(RaiseFeatureLevelRequest {}).await.expect("nobody else lives");
    assert_eq!(raised.into_inner().feature_level, CURRENT);
    server.stop().await;

    place.older();
    let refused = place.home.refused().await;
    let message = format!("at feature level {CURRENT}, and this signalbox supports only {BEFORE}");
    assert!(refused.message.contains(&message), "{refused:?}");
    let (well, told) = place.says(&["doctor", "--offline"]).await;
    assert!(!well && told.contains(&message), "what it does not know it can't check: {told}");
}

/// The release before looks at the store, but does not move it: what it does not know would stay behind.
async fn is_looked_at(place: &Place) {
    let (well, told) = place.says(&["doctor", "--offline"]).await;
    assert!(well, "{told}");
    let (well, told) = place.says(&["migrate", "--from", &place.url, "--to", "sqlite://other.db"]).await;
    assert!(!well && told.contains("would stay behind; take the newer one"), "{told}");
    assert!(!place.home.path("other.db").exists());
}

/// A step that the release before can't run over keeps it out, and every verb that opens the store.
async fn is_kept_out(mut place: Place) {
    place.older();
    place.start().await.0.stop().await;
    place.newer(CURRENT);
    place.start().await.0.stop().await;
    place.older();
    let refused = place.home.refused().await;
    for part in ["newer signalbox", &format!("only feature level {BEFORE}"), &format!("it needs {CURRENT}")] {
        assert!(refused.message.contains(part), "{part}: {refused:?}");
    }
    let (well, told) = place.says(&["doctor", "--offline"]).await;
    assert!(!well && told.contains(&format!("it needs {CURRENT}")), "{told}");
    place.newer(CURRENT);
    place.start().await.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_before_comes_back_on_sqlite() {
    comes_back(Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_before_comes_back_on_postgres() {
    comes_back(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_leaves_no_room_keeps_the_release_before_out_on_sqlite() {
    is_kept_out(Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_leaves_no_room_keeps_the_release_before_out_on_postgres() {
    is_kept_out(Place::postgres().await).await;
}
