//! SQLite: a copy of the file from before, put back.

use std::fs;

use signalbox::{
    domain::Revision,
    store::{Log as _, LogPage, Store as _},
};

use crate::{
    fixture::{DEADLINE, Place as _, apply, create, position},
    sqlite::Directory,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_was_put_back_is_noticed_by_who_saw_more() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "kept")).await;
    store.close(DEADLINE).await;
    let saved = fs::read(place.path()).unwrap();
    let store = place.open().await;
    apply(&*store, create("settings/b", "lost")).await;
    apply(&*store, create("settings/c", "lost")).await;
    let seen = [position(&*store, Revision(2)).await, position(&*store, Revision(3)).await];
    let kept = position(&*store, Revision(1)).await;
    store.close(DEADLINE).await;
    fs::write(place.path(), saved).unwrap();

    let store = place.open().await;
    for at in seen {
        let page = store.changes_after(&at, 9).await.unwrap();
        assert!(matches!(page, LogPage::Diverged { revision: Revision(1) }), "{page:?}");
    }
    assert!(
        matches!(store.changes_after(&kept, 9).await.unwrap(), LogPage::Batches(page) if page.is_empty())
    );
    // Written over: from memory as from the file it is another log.
    for at in ["settings/x", "settings/y", "settings/z"] {
        apply(&*store, create(at, "other")).await;
    }
    for at in seen {
        let page = store.changes_after(&at, 9).await.unwrap();
        assert!(matches!(page, LogPage::Diverged { revision: Revision(4) }), "{page:?}");
    }
    let epoch = store.begin_life(kept.epoch).await.unwrap();
    for at in [kept, seen[0]] {
        let page = store.changes_after(&at, 9).await.unwrap();
        assert!(matches!(page, LogPage::OtherLife { epoch: now } if now == epoch), "{page:?}");
    }
    apply(&*store, create("settings/w", "x")).await;
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}
