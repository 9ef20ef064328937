//! Follows the log and keeps the view current.
//!
//! The doorbell only wakes it, and whoever knows that there is more; what it applies comes from the log, revision by revision. A lost ring costs at most
//! one poll interval.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{State, View};
use crate::{
    domain::{Epoch, RevisionBatch},
    store::{Log, LogPage, StateSnapshot, StoreError},
};

/// Polls are at most this far apart; each confirms that the store is still there.
const POLL: Duration = Duration::from_secs(1);
/// Changes that are read at once.
const PAGE: usize = 2000;
/// Pause after an error, so that a broken store is not hammered.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause between looks at all that a damaged store holds, in case it can be shown after all.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause between looks at all that a store holds which is only doubted: others can say what they like.
const VERIFY_EVERY: Duration = Duration::from_secs(30);

/// When all that the store holds was last looked at.
#[derive(Default)]
struct Looks {
    /// Because it is damaged.
    damaged: Option<Instant>,
    /// Because somebody doubted it.
    doubted: Option<Instant>,
}

/// What is told of each step of the view, after the view shows it.
pub trait Publish: Send + 'static {
    /// One revision has been applied; `state` holds it.
    fn batch(&self, batch: RevisionBatch, state: &Arc<State>);
    /// The view was built anew at `state`, because the log could not be followed.
    fn rebuilt(&self, state: &Arc<State>);
}

/// Keeps `view` at the head of `log` until `stop`, and tells `publish` of every step.
pub async fn follow(log: Arc<dyn Log>, view: Arc<View>, publish: impl Publish, stop: CancellationToken) {
    let mut doorbell = log.doorbell();
    let (mut looks, mut failed) = (Looks::default(), false);
    loop {
        let step = tokio::select! {
            () = stop.cancelled() => return,
            step = catch_up(&*log, &view, &publish, &mut looks) => step,
        };
        if step.is_ok() && std::mem::take(&mut failed) {
            tracing::info!("the log can be read again");
        }
        let pause = match step {
            Ok(ControlFlow::Continue(())) => continue,
            Ok(ControlFlow::Break(())) => POLL,
            Err(error) => {
                failed = true;
                view.unread.store(true, Ordering::Release);
                tracing::warn!(%error, "the view can't follow the log; serving from memory");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = doorbell.changed(), if pause == POLL => {}
            () = view.behind.notified(), if pause == POLL => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Applies what this process remembers to have written, then one page of what the store holds. Breaks when the view stands at
/// the head.
async fn catch_up(
    log: &dyn Log,
    view: &View,
    publish: &impl Publish,
    looks: &mut Looks,
) -> Result<ControlFlow<()>, StoreError> {
    // It is told at once, and confirms nothing: others may have written since, or the store may be gone.
    let own = log.remembered_after(&view.state().token(), PAGE)?;
    apply(view, publish, own);
    verify_if_doubted(log, view, publish, looks).await;
    let (state, asked) = (view.state(), Instant::now());
    let page = match log.changes_after(&state.token(), PAGE).await {
        Ok(_) if view.state_is_damaged() => {
            let detail = view.damage().unwrap_or_default();
            return look_again(log, view, publish, looks, detail).await;
        }
        Ok(page) => {
            looks.damaged = None;
            page
        }
        Err(StoreError::Damaged(detail)) => return look_again(log, view, publish, looks, detail).await,
        Err(error) => return Err(error),
    };
    match page {
        LogPage::Batches(batches) if batches.is_empty() => {
            view.confirm(asked);
            Ok(ControlFlow::Break(()))
        }
        LogPage::Batches(batches) => {
            // A page that is not full was the last one; what was committed while it was read has rung. After a full one more
            // may be there that is older than the question, so that nothing is confirmed yet.
            if apply(view, publish, batches) >= PAGE {
                return Ok(ControlFlow::Continue(()));
            }
            view.confirm(asked);
            Ok(ControlFlow::Break(()))
        }
        LogPage::Compacted { floor } => {
            tracing::error!(revision = %state.revision, %floor, "the log was compacted past the view; building it anew");
            rebuild(log, view, publish).await.map(ControlFlow::Continue)
        }
        LogPage::OtherLife { epoch } => {
            tracing::error!(revision = %state.revision, %epoch, "the store has begun another life; building the view anew");
            rebuild(log, view, publish).await.map(ControlFlow::Continue)
        }
        LogPage::Diverged { revision } => {
            tracing::error!(revision = %state.revision, found = %revision, "the store has lost commits: it begins a new life");
            if let Some(detail) = begin_life(log, state.epoch).await? {
                refuse(view, &detail);
                return Ok(ControlFlow::Break(()));
            }
            rebuild(log, view, publish).await.map(ControlFlow::Continue)
        }
    }
}

/// The first to find that commits are lost begins a new life, so that every token of the old one is noticed from now on,
/// whatever is written over the lost revisions. Answers with what is wrong if the store was edited: no new life makes that
/// good.
async fn begin_life(log: &dyn Log, lost: Epoch) -> Result<Option<String>, StoreError> {
    match log.begin_life(lost).await {
        Ok(epoch) => tracing::warn!(%epoch, "the store is in a new life; every stream begins anew"),
        Err(StoreError::Damaged(detail)) => return Ok(Some(detail)),
        Err(error) => return Err(error),
    }
    Ok(None)
}

/// Looks at all that the store holds, if somebody doubts it and that was not just done: the log can be followed over rows that
/// somebody edited, and a replica that starts on them would refuse what this one takes.
async fn verify_if_doubted(log: &dyn Log, view: &View, publish: &impl Publish, looks: &mut Looks) {
    let due = looks.doubted.is_none_or(|at| at.elapsed() >= VERIFY_EVERY);
    if view.damage().is_some() || !due || !view.doubted.swap(false, Ordering::AcqRel) {
        return;
    }
    let asked = Instant::now();
    looks.doubted = Some(asked);
    let mut snapshot = match log.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(StoreError::Damaged(what)) => return admit(view, looks, what),
        Err(error) => {
            // It goes on being followed meanwhile, and is looked at by and by.
            tracing::warn!(%error, "the store is doubted, and can't be looked at now");
            view.doubted.store(true, Ordering::Release);
            return;
        }
    };
    if let Some(what) = snapshot.defect.take() {
        return admit(view, looks, what);
    }
    let (shown, found) = (view.state(), State::from_snapshot(snapshot));
    if found.token() == shown.token() && found.digest != shown.digest {
        tracing::error!(revision = %found.revision, "the view is not what the store holds; building it anew");
        let state = view.begin_anew(found);
        publish.rebuilt(&state);
        view.confirm(asked);
    }
}

/// The rows of the state are damaged, although the log goes on. What was read before goes on being shown.
fn admit(view: &View, looks: &mut Looks, damage: String) {
    tracing::error!(
        damage,
        revision = %view.state().revision,
        "the store is damaged: what was read before goes on being served; run `signalbox doctor`"
    );
    looks.damaged = Some(Instant::now());
    view.admit(damage);
}

/// Looks at all that a damaged store holds, unless that was just done.
async fn look_again(
    log: &dyn Log,
    view: &View,
    publish: &impl Publish,
    looks: &mut Looks,
    detail: String,
) -> Result<ControlFlow<()>, StoreError> {
    if looks.damaged.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
        looks.damaged = Some(Instant::now());
        look_anew(log, view, publish, detail).await?;
    }
    Ok(ControlFlow::Break(()))
}

/// The log can't be followed from the view. If the store is whole all the same, it was the view or a row that is not part of
/// the state: the view is built anew. If not, what it holds is not shown.
async fn look_anew(
    log: &dyn Log,
    view: &View,
    publish: &impl Publish,
    detail: String,
) -> Result<(), StoreError> {
    let asked = Instant::now();
    match log.snapshot().await {
        Ok(snapshot) if snapshot.defect.is_none() => {
            tracing::error!(detail, "the log can't be followed; building the view anew");
            show_anew(view, publish, snapshot, asked);
        }
        Ok(snapshot) => refuse(view, &snapshot.defect.unwrap_or(detail)),
        Err(StoreError::Damaged(worse)) => refuse(view, &worse),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Leaves the state that is shown as it is, unconfirmed: whatever the store holds now, it is not what was written.
fn refuse(view: &View, damage: &str) {
    if view.refuse(damage.to_owned()) {
        tracing::error!(
            damage,
            revision = %view.state().revision,
            "the store is damaged: what was read before goes on being served; run `signalbox doctor`"
        );
    }
}

/// Takes revisions into the view, one after the other, and tells of each. How many rows of the log they were.
fn apply(view: &View, publish: &impl Publish, batches: Vec<RevisionBatch>) -> usize {
    let mut rows = 0;
    for batch in batches {
        rows += batch.changes.len() + batch.revocations.len();
        let state = view.advance(&batch);
        publish.batch(batch, &state);
    }
    rows
}

async fn rebuild(log: &dyn Log, view: &View, publish: &impl Publish) -> Result<(), StoreError> {
    let asked = Instant::now();
    let snapshot = log.snapshot().await?;
    show_anew(view, publish, snapshot, asked);
    Ok(())
}

fn show_anew(view: &View, publish: &impl Publish, mut snapshot: StateSnapshot, asked: Instant) {
    let defect = snapshot.defect.take();
    let state = view.begin_anew(State::from_snapshot(snapshot));
    publish.rebuilt(&state);
    match defect {
        None => view.confirm(asked),
        Some(defect) => {
            tracing::error!(defect, "the state is not what the log says; run `signalbox doctor`");
            view.admit(defect);
        }
    }
}
