//! SQLite: the conformance suite, and what only a file can suffer.

use std::{path::PathBuf, sync::Arc};

use signalbox::{
    domain::{
        SystemClock,
        keys::{FirstKeys, KeyCheck, LogKey, WrappedKey},
    },
    store::sqlite::{SqliteDatabase, SqliteStore},
};
use tempfile::TempDir;

use crate::fixture::{DATA_KEY, Place};

/// A database in a directory of its own.
pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("data/signalbox.db")
    }
}

fn first_keys() -> FirstKeys {
    let key = |id: &str| WrappedKey { id: id.into(), kek: "kek1".into(), wrapped: format!("wrapped-{id}") };
    FirstKeys {
        check: KeyCheck { kek: "kek1".into(), value: "check".into() },
        keys: vec![key(DATA_KEY), key(WrappedKey::LOG)],
    }
}

impl Place for Directory {
    type Store = SqliteStore;

    async fn open(&self) -> Arc<SqliteStore> {
        let mut database = SqliteDatabase::open(&self.path(), true).await.unwrap();
        if database.identity().fresh {
            database.initialise(first_keys()).await.unwrap();
        }
        Arc::new(database.into_store(&LogKey([3; 32]), Arc::new(SystemClock)).unwrap())
    }
}

mod conforms {
    use super::Directory;

    crate::conformance::conformance!(Directory::new());
}
