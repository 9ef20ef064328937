//! Why the last write was not taken, for who has nothing to write: it must not know SQL.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::failure::Failure;

/// How long a write that was not taken is told of without another one: who has nothing to write would never hear that it would be
/// taken now.
const TOLD: Duration = Duration::from_secs(300);

/// What became of the last write, as far as it has to be told. Cheap to share.
#[derive(Clone, Default)]
pub struct Refusal(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    last: Option<Refused>,
    /// Whether the log could not be read when that was last tried.
    unread: bool,
    /// When it could be read again.
    heard: Option<Instant>,
}

struct Refused {
    began: Instant,
    ended: Instant,
    why: &'static str,
    /// Whether it was because nobody answered.
    away: bool,
}

impl Refusal {
    /// Takes note of what became of a write that began at a time.
    pub fn note<T>(&self, began: Instant, done: &Result<T, Failure>) {
        let why = match done {
            Err(Failure::Unavailable(why)) => Some(*why),
            Err(Failure::Damaged(_)) => {
                Some("rows of its log were changed by another program: run `signalbox doctor`")
            }
            _ => None,
        };
        let away = done.as_ref().is_err_and(Failure::is_away);
        self.0.lock().last = why.map(|why| Refused { began, ended: Instant::now(), why, away });
    }

    /// Takes note of what became of reading the log. A database that was away for reads as well is back for both.
    pub fn note_read<T>(&self, done: &Result<T, Failure>) {
        let mut known = self.0.lock();
        match done {
            Err(Failure::Unavailable(_)) => known.unread = true,
            Ok(_) if std::mem::take(&mut known.unread) => known.heard = Some(Instant::now()),
            _ => {}
        }
    }

    /// Why the last write was not taken, if that still holds.
    pub fn told(&self) -> Option<&'static str> {
        let Known { last, heard, .. } = &*self.0.lock();
        let last = last.as_ref().filter(|last| last.ended.elapsed() < TOLD)?;
        let is_back = last.away && heard.is_some_and(|heard| heard > last.began);
        (!is_back).then_some(last.why)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::store::failure::UNREACHABLE;

    const AWAY: Failure = Failure::Unavailable(UNREACHABLE);
    const FULL: Failure = Failure::Unavailable("it is full");
    const READ: Result<(), Failure> = Ok(());

    /// Of a write that took a second.
    async fn note(refusal: &Refusal, failure: Failure) {
        let began = Instant::now();
        advance(Duration::from_secs(1)).await;
        refusal.note::<()>(began, &Err(failure));
    }

    /// A minute's outage of the database left a replica that has nothing to write degraded for days.
    #[tokio::test(start_paused = true)]
    async fn regression_a_write_that_was_not_taken_is_not_told_for_ever() {
        let refusal = Refusal::default();
        note(&refusal, AWAY).await;
        advance(TOLD / 2).await;
        assert_eq!(refusal.told(), Some(UNREACHABLE));
        note(&refusal, FULL).await;
        advance(TOLD / 2).await;
        assert_eq!(refusal.told(), Some("it is full"));
        advance(TOLD / 2).await;
        assert_eq!(refusal.told(), None);
        note(&refusal, FULL).await;
        refusal.note(Instant::now(), &READ);
        assert_eq!(refusal.told(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn regression_a_write_that_an_outage_refused_is_not_told_after_it() {
        let refusal = Refusal::default();
        note(&refusal, AWAY).await;
        refusal.note_read(&READ);
        assert_eq!(refusal.told(), Some(UNREACHABLE), "reads never failed: it is not what is told");
        refusal.note_read::<()>(&Err(AWAY));
        assert_eq!(refusal.told(), Some(UNREACHABLE));
        refusal.note_read(&READ);
        assert_eq!(refusal.told(), None);

        // One that began before the end, and was given up after it.
        refusal.note_read::<()>(&Err(AWAY));
        let began = Instant::now();
        advance(Duration::from_secs(1)).await;
        refusal.note_read(&READ);
        refusal.note::<()>(began, &Err(AWAY));
        assert_eq!(refusal.told(), None);
        note(&refusal, AWAY).await;
        assert_eq!(refusal.told(), Some(UNREACHABLE), "another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_told_of_however_often_the_log_is_read() {
        let refusal = Refusal::default();
        refusal.note_read::<()>(&Err(AWAY));
        note(&refusal, FULL).await;
        refusal.note_read(&READ);
        assert_eq!(refusal.told(), Some("it is full"));
    }
}
