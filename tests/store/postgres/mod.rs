//! PostgreSQL: the conformance suite, and what only a server that others use can suffer.

mod cluster;
mod encrypted;
mod faults;
mod opening;
mod pooled;
#[path = "../../support/pgbouncer.rs"]
mod pooler;
#[path = "../../support/proxy.rs"]
mod proxy;
mod replicas;
#[path = "../../support/postgres.rs"]
pub mod server;
mod tampering;
mod vanished;

use std::sync::Arc;

use signalbox::{
    domain::{
        SystemClock,
        keys::{FirstKeys, KeyCheck, LogKey, WrappedKey},
    },
    store::postgres::{PostgresDatabase, PostgresStore},
};

use crate::fixture::{DATA_KEY, Place};

/// A database of its own, on the server that the tests share or on another.
pub struct Database(pub String);

impl Database {
    pub async fn new() -> Self {
        Self(server::shared().database().await)
    }
}

pub fn first_keys() -> FirstKeys {
    let key = |id: &str| WrappedKey { id: id.into(), kek: "kek1".into(), wrapped: format!("wrapped-{id}") };
    FirstKeys {
        check: KeyCheck { kek: "kek1".into(), value: "check".into() },
        keys: vec![key(DATA_KEY), key(WrappedKey::LOG)],
    }
}

/// Opens a database at a URL, on whatever way leads to it.
pub async fn open(url: &str) -> Arc<PostgresStore> {
    let mut database = PostgresDatabase::open(url, true).await.unwrap();
    if database.identity().fresh {
        database.initialise(first_keys()).await.unwrap();
    }
    Arc::new(database.into_store(&LogKey([3; 32]), Arc::new(SystemClock)).await.unwrap())
}

impl Place for Database {
    type Store = PostgresStore;

    async fn open(&self) -> Arc<PostgresStore> {
        open(&self.0).await
    }
}

mod conforms {
    use super::Database;

    crate::conformance::conformance!(Database::new().await);
}
