//! What replicas share, where there is one: the lock file keeps out every other, so each lease is free.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::SqliteStore;
use crate::{
    domain::{FeatureLevel, ReplicaId, SealedSecret, SecretId},
    store::{
        BegunLife, StoreError,
        cluster::{Cluster, Displaced, Heartbeat, Lease, Living, Replica, Work, let_in},
        failure::Failure,
        level::{self, LEVEL, RAISE},
        life,
    },
};

const OFFER: &str = "INSERT INTO service_secrets (name, id, data_key, token) VALUES ($1, $2, $3, $4) \
    ON CONFLICT DO NOTHING";
const SHARED: &str = "SELECT id, data_key, token FROM service_secrets WHERE name = $1";

#[async_trait]
impl Cluster for SqliteStore {
    async fn beat(&self, own: &Heartbeat) -> Result<Living, StoreError> {
        let_in(self.level().await, own.feature_level)?;
        let replicas = vec![Replica { heartbeat: own.clone(), age: Duration::ZERO }];
        Ok(Living { replicas, vanished: vec![], ahead: 0 })
    }

    /// It runs in this process.
    async fn clock(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(None)
    }

    async fn begun_life(&self, now: DateTime<Utc>) -> Result<Option<BegunLife>, StoreError> {
        let [from, to] = life::between(now);
        let newest = sqlx::query_as(life::NEWEST).bind(from).bind(to);
        let found: Option<(String, String)> =
            newest.fetch_optional(&self.engine.readers).await.map_err(Failure::from)?;
        Ok(found.map(BegunLife::read).transpose().map_err(Failure::from)?)
    }

    async fn leave(&self, _: &ReplicaId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn acquire(&self, work: Work, _: &ReplicaId, _: Duration) -> Result<Option<Lease>, StoreError> {
        Ok(Some(Lease { work, fence: 1 }))
    }

    async fn release(&self, _: &Lease) -> Result<(), StoreError> {
        Ok(())
    }

    /// A file does not know where it is.
    async fn displaced(&self) -> Result<Option<Displaced>, StoreError> {
        Ok(None)
    }

    async fn feature_level(&self) -> Result<FeatureLevel, StoreError> {
        Ok(self.level().await?)
    }

    async fn share_secret(
        &self,
        name: &'static str,
        offer: Option<SealedSecret>,
    ) -> Result<Option<SealedSecret>, StoreError> {
        if let Some(SealedSecret { id, data_key, token }) = offer {
            let offer = sqlx::query(OFFER).bind(name).bind(id.0).bind(data_key).bind(token);
            offer.execute(&self.engine.aside).await.map_err(Failure::from)?;
        }
        let shared = sqlx::query_as(SHARED).bind(name).fetch_optional(&self.engine.readers).await;
        let shared: Option<(String, String, String)> = shared.map_err(Failure::from)?;
        Ok(shared.map(|(id, data_key, token)| SealedSecret { id: SecretId(id), data_key, token }))
    }

    async fn raise_feature_level(&self, to: FeatureLevel) -> Result<FeatureLevel, StoreError> {
        // What is not believed is not written over.
        self.level().await?;
        let raise = sqlx::query(RAISE).bind(to.0).bind(self.keys().level_mac(to).to_vec());
        raise.execute(&self.engine.aside).await.map_err(Failure::from)?;
        self.feature_level().await
    }
}

impl SqliteStore {
    async fn level(&self) -> Result<FeatureLevel, Failure> {
        let row = sqlx::query_as(LEVEL).fetch_optional(&self.engine.readers).await?;
        level::believed(row, self.keys())
    }
}
