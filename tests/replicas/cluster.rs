//! Several servers on one database, with the settings that an operator gives all of them.

use std::sync::Arc;

use signalbox::proto::v1::{CreateResourceRequest, Replica, Resource};

use crate::{
    harness::{Home, PATIENCE, Server, until_answered},
    postgres,
    support::caller::{Caller, Site},
};

/// Replicas, each in a folder of its own: they share nothing but the database and the encryption key.
pub struct Cluster {
    url: String,
    key: String,
    extra: Vec<(&'static str, String)>,
}

/// One server of a cluster.
pub struct Member {
    pub server: Server,
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
        Self { url, key, extra: Vec::new() }
    }

    /// With a further variable for every process.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.extra.push((name, value.to_owned()));
        self
    }

    /// A folder whose processes have the settings of the cluster.
    pub fn home(&self) -> Home {
        let home = Home::new().with("SIGNALBOX_DATABASE_URL", &self.url).with("ENCRYPTION_KEY", &self.key);
        self.extra.iter().fold(home, |home, (name, value)| home.with(name, value))
    }

    /// Starts one more replica.
    pub async fn start(&self) -> Member {
        Member::of(Server::start_in(&Arc::new(self.home())).await)
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
    /// A server as a member.
    pub fn of(server: Server) -> Self {
        let site = Site::default();
        site.moved_to(server.address());
        Self { server, site }
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

/// Creates a resource; its revision.
pub async fn create(caller: &Caller, resource: Resource) -> u64 {
    let request = CreateResourceRequest { resource: Some(resource), ..CreateResourceRequest::default() };
    caller.config().create_resource(request).await.expect("it is created").into_inner().revision
}
