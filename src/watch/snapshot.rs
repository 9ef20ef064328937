//! Snapshots as streams share them: built once for a revision and a view, admitted at a bounded rate.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::{Bytes, BytesMut};
use lru::LruCache;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Semaphore;

use super::{batch::frame_into, filter::Filter};
use crate::{
    digest::ViewDigest,
    domain::{Epoch, Error, Result, Revision, limits},
    proto::v1::{Resource, Snapshot, watch_config_response::Event},
    view::{Entry, Revealer, State},
};

/// Snapshots that are built at the same time: more would only starve the live streams.
const BUILDERS: usize = 2;
/// Snapshots that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
/// A larger snapshot is not kept: it is for the stream that asked.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// The state that one view shows, framed.
#[derive(Debug)]
pub struct Framed {
    /// The chunks, in order.
    pub chunks: Vec<Bytes>,
    /// Digest of what is in them.
    pub digest: ViewDigest,
}

type Key = (Epoch, Revision, String);

/// Builds and keeps snapshots.
pub struct Snapshots {
    kept: Mutex<LruCache<Key, Arc<Framed>>>,
    builders: Semaphore,
    revealer: Arc<Revealer>,
}

impl Snapshots {
    /// Nothing is built yet.
    #[must_use]
    pub fn new(revealer: Arc<Revealer>) -> Self {
        Self { kept: Mutex::new(LruCache::new(KEPT)), builders: Semaphore::new(BUILDERS), revealer }
    }

    /// The snapshot of what `filter` shows of `state`.
    ///
    /// # Errors
    /// `Internal`, if building it failed.
    pub async fn of(&self, state: &Arc<State>, filter: &Filter) -> Result<Arc<Framed>> {
        let key = (state.epoch, state.revision, filter.view_id.clone());
        if let Some(framed) = self.kept.lock().get(&key) {
            return Ok(Arc::clone(framed));
        }
        let _permit = self.builders.acquire().await.map_err(Error::internal)?;
        // Whoever waited for the builder finds the work done.
        if let Some(framed) = self.kept.lock().get(&key) {
            return Ok(Arc::clone(framed));
        }
        let (state, filter, revealer) = (Arc::clone(state), filter.clone(), Arc::clone(&self.revealer));
        let built = tokio::task::spawn_blocking(move || build(&state, &filter, &revealer));
        let framed = Arc::new(built.await.map_err(Error::internal)?);
        if framed.chunks.iter().map(Bytes::len).sum::<usize>() <= KEPT_BYTES {
            self.kept.lock().put(key, Arc::clone(&framed));
        }
        Ok(framed)
    }
}

/// Digest of what `filter` shows of `state`.
pub fn digest_of(state: &State, filter: &Filter) -> ViewDigest {
    let mut digest = ViewDigest::default();
    state.resources.values().filter(|entry| filter.shows(entry)).for_each(|entry| count(&mut digest, entry));
    digest
}

fn count(digest: &mut ViewDigest, entry: &Entry) {
    digest.add(entry.record.name.as_str(), entry.record.update_revision.0);
}

fn build(state: &State, filter: &Filter, revealer: &Revealer) -> Framed {
    let mut framed = Framed { chunks: Vec::new(), digest: ViewDigest::default() };
    let (mut chunk, mut size) = (Vec::new(), 0);
    for entry in state.resources.values().filter(|entry| filter.shows(entry)) {
        count(&mut framed.digest, entry);
        let resource = revealer.resource(&entry.record, &entry.sealed, state.epoch, filter.reveal);
        let length = resource.encoded_len() + 8;
        if size + length > limits::MESSAGE_OUT_BYTES / 2 && !chunk.is_empty() {
            framed.chunks.push(encode(state.revision, std::mem::take(&mut chunk), false));
            size = 0;
        }
        size += length;
        chunk.push(resource);
    }
    framed.chunks.push(encode(state.revision, chunk, true));
    framed
}

fn encode(revision: Revision, resources: Vec<Resource>, last: bool) -> Bytes {
    let mut out = BytesMut::new();
    frame_into(&mut out, Event::Snapshot(Snapshot { revision: revision.0, resources, last }));
    out.freeze()
}
