//! How a stream begins, or begins anew: from where its client was, if that can be served, or with a snapshot.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Cursor, Phase, Position, Resume, unavailable};
use crate::{
    domain::{ChainHash, Error, Result, Revision, RevisionToken},
    proto::v1::{Reset, ResetReason, watch_config_response::Event},
    watch::batch::frame_into,
};

/// How long a stream waits for a replica that is behind its token.
const CATCH_UP: Duration = Duration::from_secs(5);

impl Cursor {
    pub(super) async fn open(&mut self, resume: Resume) -> Result<Bytes> {
        if resume.token.is_empty() {
            return self.begin_snapshot(None, None).await;
        }
        match self.judge(&resume).await? {
            Ok(position) => {
                self.warned = position.revision;
                self.at = position;
                self.digest = None;
                // Ahead even of being in sync: what the client goes on with may hold secrets that have been revoked since.
                let mut out = BytesMut::from(self.warning().await?.unwrap_or_default().as_ref());
                let confirmed = self.streams.view.confirmed();
                out.extend_from_slice(&self.synced(confirmed));
                Ok(out.freeze())
            }
            Err(reason) => {
                let token = RevisionToken::parse(&resume.token);
                let known = token.filter(|token| token.epoch == self.streams.view.state().epoch);
                self.begin_snapshot(Some(reason), known.map(|token| token.revision)).await
            }
        }
    }

    /// Whether the stream can go on from the token: its position, or why not.
    async fn judge(&self, resume: &Resume) -> Result<std::result::Result<Position, ResetReason>> {
        let Some(token) = RevisionToken::parse(&resume.token) else {
            return Ok(Err(ResetReason::InvalidToken));
        };
        // Before anything is judged, so that a view that is built anew meanwhile is noticed.
        let generation = self.streams.hub.generation();
        if let Some(reason) = self.wait_for(&token).await? {
            return Ok(Err(reason));
        }
        if resume.view_id != self.filter.view_id {
            return Ok(Err(ResetReason::ViewChanged));
        }
        let position = |hash| Position { epoch: token.epoch, revision: token.revision, hash, generation };
        Ok(match self.hash_at(token.revision).await? {
            Some(hash) if hash.half() == token.hash => Ok(position(hash)),
            Some(_) => Err(ResetReason::OtherStore),
            None => Err(ResetReason::Compacted),
        })
    }

    /// Waits until this replica is where the token is, also where that is another life than its own. Asks the store's own
    /// head about what it has not seen: why there is no such place, if there is none.
    async fn wait_for(&self, token: &RevisionToken) -> Result<Option<ResetReason>> {
        let (view, state) = (&self.streams.view, self.streams.view.state());
        if state.has(token) {
            return Ok(None);
        }
        let head = self.streams.log.head().await.map_err(|error| unavailable(&error))?;
        let reason = match head.epoch == token.epoch {
            false => Some(ResetReason::OtherStore),
            true => (head.revision < token.revision).then_some(ResetReason::Ahead),
        };
        let wanted = match reason {
            None => *token,
            Some(_) if head.epoch == state.epoch => return Ok(reason),
            // What is shown here is about to be replaced, and may be older than what the client has.
            Some(_) => RevisionToken::new(head.epoch, head.revision, &head.hash),
        };
        view.look();
        match view.has_seen(&wanted, CATCH_UP).await {
            true => Ok(reason),
            false => Err(Error::Unavailable {
                reason: "REPLICA_BEHIND",
                description: "this replica has not yet seen the revision of the token".into(),
                retry_after: Duration::from_secs(1),
            }),
        }
    }

    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>> {
        let state = self.streams.view.state();
        if let Some(hash) = self.streams.hash_in_memory(&state, revision) {
            return Ok(Some(hash));
        }
        let _permit = self.streams.log_readers.acquire().await.map_err(Error::internal)?;
        self.streams.log.hash_at(revision).await.map_err(|error| unavailable(&error))
    }

    /// Begins a snapshot of the present state; says why first, if the client had another cursor. Where that was in the same
    /// life, what the client still serves may hold secrets that were revoked after `known`.
    pub(super) async fn begin_snapshot(
        &mut self,
        reason: Option<ResetReason>,
        known: Option<Revision>,
    ) -> Result<Bytes> {
        self.streams.tally.snapshot(reason);
        let generation = self.streams.hub.generation();
        let confirmed = self.streams.view.confirmed();
        let state = self.streams.view.state();
        let framed = self.streams.snapshots.of(&state, &self.filter).await?;
        self.at = Position { epoch: state.epoch, revision: state.revision, hash: state.hash, generation };
        self.digest = Some(framed.digest);
        self.pending.clear();
        self.warned = known.map_or(state.revision, |known| known.min(state.revision));
        let mut chunks = framed.chunks.clone().into_iter();
        let mut out = BytesMut::new();
        if let Some(reason) = reason {
            let floor_revision = self.streams.floor().await.0;
            frame_into(
                &mut out,
                Event::Reset(Reset { reason: reason.into(), floor_revision, revision: state.revision.0 }),
            );
        }
        let first = chunks.next().unwrap_or_default();
        self.phase = Phase::Snapshot { chunks, confirmed };
        if out.is_empty() {
            return Ok(first);
        }
        out.extend_from_slice(&first);
        Ok(out.freeze())
    }
}
