//! What the audit trail does when the store does not take its events.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::domain::{Role, SystemClock};

/// A store for audit events only, which is away for so many attempts.
#[derive(Default)]
struct Book {
    away: AtomicUsize,
    written: Mutex<Vec<AuditEvent>>,
}

#[async_trait]
impl AuditLog for Book {
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        let less = |left: usize| left.checked_sub(1);
        if self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(StoreError::Unavailable("away".into()));
        }
        self.written.lock().extend(events);
        Ok(())
    }
}

fn book(away: usize) -> (Arc<Book>, AuditTrail, AuditWriter) {
    let book = Arc::new(Book { away: away.into(), ..Book::default() });
    let (trail, writer) = AuditTrail::new(book.clone(), Arc::new(SystemClock));
    (book, trail, writer)
}

fn caller() -> Principal {
    Principal {
        subject: "w".into(),
        issuer: "signalbox".into(),
        role: Role::Worker,
        grants: Vec::new(),
        reads_secrets: true,
        grants_secrets: false,
        token_id: None,
        issued_at: None,
        expires_at: SystemClock.now(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_must_not_happen_and_is_not_written_later() {
    let (book, trail, writer) = book(1);
    let writing = tokio::spawn(writer.run());
    let refused = trail.require(&caller(), "secret_read", "first".into()).await;
    assert!(matches!(refused, Err(Error::Unavailable { reason: "STORE_UNAVAILABLE", .. })), "{refused:?}");
    trail.require(&caller(), "secret_read", "second".into()).await.expect("the store is back");
    let written =
        |book: &Book| book.written.lock().iter().map(|event| event.detail.clone()).collect::<Vec<_>>();
    assert_eq!(written(&book), ["second"], "it is written when the call returns");
    drop(trail);
    writing.await.unwrap();
    assert_eq!(written(&book), ["second"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_writer_nothing_is_let_through() {
    let (_book, trail, _writer) = book(0);
    let refused = trail.require(&caller(), "secret_read", String::new()).await;
    assert!(matches!(refused, Err(Error::Unavailable { reason: "STORE_UNAVAILABLE", .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_found_no_room_leaves_a_gap_that_is_marked_once() {
    let (book, trail, writer) = book(3);
    for _ in 0..BUFFER + 3 {
        trail.note(&caller(), "secrets_watch_ended", String::new());
    }
    drop(trail);
    writer.run().await;
    let written = book.written.lock();
    let gaps: Vec<&AuditEvent> = written.iter().filter(|event| event.event == "audit_gap").collect();
    assert_eq!((written.len(), gaps.len()), (BUFFER + 1, 1));
    assert!(gaps[0].detail.starts_with("3 events are missing"), "{}", gaps[0].detail);
}
