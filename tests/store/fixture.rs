//! What the suite builds its cases from: write sets, and a place where a store lies.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, TimeZone as _, Utc};
use signalbox::{
    domain::{
        Action, Applied, FieldPath, KindName, Labels, PlannedChange, Read, Record, ResourceName, Revision,
        RevisionBatch, RevisionToken, Revocation, SealedSecret, SecretId, Uid, WriteSet, spec,
        write::{PlannedPut, RequestKey},
    },
    proto::v1::{SettingSpec, resource::Spec, setting_spec::Value},
    store::{LogPage, Store},
};

/// Makes stores of one kind. Each `Place` is one database, empty at first, that outlives the stores opened on it.
pub trait Place: Sync {
    /// What it opens.
    type Store: Store;
    /// Opens the database; makes it on the first call.
    fn open(&self) -> impl Future<Output = Arc<Self::Store>> + Send;
}

/// Longer than anything takes.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// The data key that every place knows.
pub const DATA_KEY: &str = "dk1";

static COUNTER: AtomicU64 = AtomicU64::new(1);

pub fn unique() -> u64 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

pub fn name(text: &str) -> ResourceName {
    ResourceName::parse(text).unwrap()
}

pub fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).unwrap()
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn spec_json(text: &str) -> Arc<str> {
    let setting = SettingSpec { value: Some(Value::StringValue(text.into())), ..SettingSpec::default() };
    spec::to_json(&Spec::Setting(setting)).unwrap().into()
}

/// A put of a setting; the identity follows from the name.
pub fn put(at: &str, version: u64, text: &str) -> PlannedPut {
    PlannedPut {
        name: name(at),
        kind: KindName("setting"),
        uid: Uid(format!("uid-of-{at}")),
        labels: Labels::new(),
        version,
        spec_json: spec_json(text),
        secrets: BTreeMap::new(),
        action: Action(if version == 1 { "created" } else { "updated" }),
    }
}

pub fn delete(at: &str) -> PlannedChange {
    PlannedChange::Delete { name: name(at), kind: KindName("setting"), action: Action("deleted") }
}

/// A write with a request id of its own.
pub fn write(changes: Vec<PlannedChange>) -> WriteSet {
    let id = unique();
    WriteSet {
        reads: vec![],
        changes,
        sealed: vec![],
        revocation: None,
        actor: "alice".into(),
        time: noon(),
        reason: "because".into(),
        request: RequestKey {
            principal: "alice".into(),
            id: format!("request-{id}"),
            mac: [7; 32],
            outcome: format!("outcome-{id}").into_bytes(),
        },
        trace: None,
    }
}

pub fn create(at: &str, text: &str) -> WriteSet {
    let mut write = write(vec![PlannedChange::Put(Box::new(put(at, 1, text)))]);
    write.reads.push(Read::Absent { name: name(at) });
    write
}

pub fn update(record: &Record, text: &str) -> WriteSet {
    let mut write =
        write(vec![PlannedChange::Put(Box::new(put(record.name.as_str(), record.version + 1, text)))]);
    write.reads.push(Read::Unchanged { name: record.name.clone(), revision: record.update_revision });
    write
}

pub fn removal(record: &Record) -> WriteSet {
    let mut write = write(vec![delete(record.name.as_str())]);
    write.reads.push(Read::Unchanged { name: record.name.clone(), revision: record.update_revision });
    write
}

/// Gives a put a secret, and the sealed value that goes with it.
pub fn with_secret(put: &mut PlannedPut, id: &str) -> SealedSecret {
    put.secrets.insert(FieldPath("setting.secret".into()), SecretId(id.into()));
    SealedSecret { id: SecretId(id.into()), data_key: DATA_KEY.into(), token: format!("token-of-{id}") }
}

pub fn revocation(id: &str) -> Revocation {
    Revocation::Token { token_id: id.into() }
}

/// The token of a write that must have been committed now.
pub fn committed(applied: &Applied) -> RevisionToken {
    match applied {
        Applied::Committed { token, .. } => *token,
        Applied::Replayed { .. } => panic!("replayed: {applied:?}"),
    }
}

pub async fn apply(store: &impl Store, write: WriteSet) -> RevisionToken {
    committed(&store.apply(write).await.unwrap())
}

/// The resource as the snapshot has it.
pub async fn record(store: &impl Store, at: &str) -> Record {
    let snapshot = store.snapshot().await.unwrap();
    snapshot.records.into_iter().find(|record| record.name.as_str() == at).unwrap()
}

/// The position of a revision, as somebody holds it who was there; below the floor the hash does not matter.
pub async fn position(store: &impl Store, revision: Revision) -> RevisionToken {
    let hash = store.hash_at(revision).await.unwrap().unwrap_or_default();
    RevisionToken::new(store.head().await.unwrap().epoch, revision, &hash)
}

/// One page of the log after a revision.
pub async fn page_after(store: &impl Store, after: u64, limit: usize) -> LogPage {
    let at = position(store, Revision(after)).await;
    store.changes_after(&at, limit).await.unwrap()
}

/// All of the log after a revision, page by page.
pub async fn log_after(store: &impl Store, after: Revision) -> Vec<RevisionBatch> {
    let (mut at, mut all) = (position(store, after).await, vec![]);
    loop {
        match store.changes_after(&at, 100).await.unwrap() {
            LogPage::Batches(page) if page.is_empty() => return all,
            LogPage::Batches(page) => {
                let last = page.last().unwrap();
                at = RevisionToken::new(at.epoch, last.revision, &last.hash);
                all.extend(page);
            }
            other => panic!("{other:?}"),
        }
    }
}
