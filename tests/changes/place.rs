//! A server on one of the two databases, its first administrator, and what tests ask of it again and again.

use std::sync::Arc;

use signalbox::proto::v1::{
    ExportConfigRequest, ExportConfigResponse, GetResourceRequest, ImportConfigRequest, ImportConfigResponse,
    ImportItem, ImportMode, ImportOptions, Resource, secret::State,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    harness::{Home, Server},
    postgres,
    support::{
        caller::{Caller, Site},
        resources::secrets_in,
        truth::Recorder,
        writer::{Op, Writer},
    },
};

const STARTERS: &str = "SIGNALBOX_STARTERS";

/// A server, and its first administrator.
pub struct Place {
    pub server: Server,
    pub admin: Caller,
    /// Its token.
    pub token: String,
}

impl Place {
    /// On an empty store in a file.
    pub async fn on_sqlite() -> Self {
        Self::on_sqlite_in(Home::new()).await
    }

    /// On a store in a file that begins as it does for operators.
    pub async fn started_on_sqlite() -> Self {
        Self::on_sqlite_in(Home::new().with(STARTERS, "on")).await
    }

    async fn on_sqlite_in(home: Home) -> Self {
        let server = Server::start_in(&Arc::new(home)).await;
        let admin = Caller::new(&Site::of(&server), &server.admin_token());
        let token = server.admin_token();
        Self { server, admin, token }
    }

    /// On an empty database of the shared PostgreSQL.
    pub async fn on_postgres() -> Self {
        Self::on_postgres_in(Home::new()).await
    }

    /// On a database of the shared PostgreSQL that begins as it does for operators.
    pub async fn started_on_postgres() -> Self {
        Self::on_postgres_in(Home::new().with(STARTERS, "on")).await
    }

    async fn on_postgres_in(home: Home) -> Self {
        let url = postgres::shared().database().await;
        let key = printed(&Home::new(), &["keys", "generate"]).await;
        let home = home.with("SIGNALBOX_DATABASE_URL", url).with("ENCRYPTION_KEY", key);
        let home = Arc::new(home);
        let server = Server::start_in(&home).await;
        let arguments = ["token", "create", "--local", "--role", "admin", "--grant-secrets", "--ttl", "24h"];
        let token = printed(&home, &arguments).await;
        let admin = Caller::new(&Site::of(&server), &token);
        Self { server, admin, token }
    }

    /// Writes, as the administrator.
    pub async fn write(&self, op: Op) -> u64 {
        Writer::new(self.admin.clone(), Recorder::default()).write(op).await.revision
    }

    /// Writes a batch, which must succeed.
    pub async fn write_all(&self, ops: Vec<Op>) -> u64 {
        Writer::new(self.admin.clone(), Recorder::default()).batch(ops).await.revision
    }

    /// A file with the administrator's token, for the command line.
    pub fn token_file(&self) -> String {
        let path = self.server.home().path("token-of-the-test");
        std::fs::write(&path, self.admin.token()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub async fn get(&self, name: &str) -> Result<Resource, Status> {
        let request = GetResourceRequest { name: name.to_owned(), ..Default::default() };
        let answer = self.admin.config().get_resource(request).await?;
        Ok(answer.into_inner().resource.expect("a resource"))
    }

    pub async fn revision(&self) -> u64 {
        self.admin.status().await.revision
    }

    /// The states of all secrets of a resource, by their place.
    pub async fn states(&self, name: &str) -> Vec<State> {
        let mut resource = self.get(name).await.expect("it is there");
        secrets_in(&mut resource).iter().map(|(_, secret)| secret.state()).collect()
    }

    /// Everything, exported.
    pub async fn export(&self, request: ExportConfigRequest) -> ExportConfigResponse {
        export(&self.admin, request).await.expect("it is exported")
    }
}

async fn printed(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The parts of an export as one.
pub async fn export(caller: &Caller, request: ExportConfigRequest) -> Result<ExportConfigResponse, Status> {
    let mut parts = caller.admin().export_config(request).await?.into_inner();
    let mut whole = ExportConfigResponse::default();
    while let Some(part) = parts.message().await? {
        assert!(whole.revision == 0 || whole.revision == part.revision, "one revision");
        whole.resources.extend(part.resources);
        whole.secrets.extend(part.secrets);
        whole.warnings.extend(part.warnings);
        (whole.revision, whole.revision_token) = (part.revision, part.revision_token);
    }
    Ok(whole)
}

/// Options of an import.
pub fn options(mode: ImportMode) -> ImportOptions {
    ImportOptions { mode: mode.into(), ..Default::default() }
}

/// Items without masks.
pub fn items(resources: &[Resource]) -> Vec<ImportItem> {
    let item = |resource: &Resource| ImportItem { resource: Some(resource.clone()), ..Default::default() };
    resources.iter().map(item).collect()
}

/// Imports, in messages of so many items.
pub async fn import(
    caller: &Caller,
    options: ImportOptions,
    items: Vec<ImportItem>,
    a_message: usize,
) -> Result<ImportConfigResponse, Status> {
    let mut messages = vec![ImportConfigRequest { options: Some(options), items: Vec::new() }];
    messages.extend(
        items.chunks(a_message).map(|items| ImportConfigRequest { options: None, items: items.to_vec() }),
    );
    caller.admin().import_config(tokio_stream::iter(messages)).await.map(tonic::Response::into_inner)
}

/// Code and reason of a refusal.
pub fn reason(status: &Status) -> (Code, String) {
    let info = status.get_error_details().error_info().cloned();
    (status.code(), info.map(|info| info.reason).unwrap_or_default())
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    violations.iter().map(|violation| violation.field.clone()).collect()
}
