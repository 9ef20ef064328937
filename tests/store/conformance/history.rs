//! What the log tells of names, newest first.

use chrono::TimeDelta;
use signalbox::{
    domain::{PlannedChange, Revision},
    store::{HistoryCursor, HistoryPage, HistoryQuery, Names, Store},
};

use crate::fixture::{Place, apply, create, noon, put, record, removal, update, write};

fn all() -> HistoryQuery {
    HistoryQuery {
        names: vec![Names::All],
        after: HistoryCursor::newest(),
        actor: String::new(),
        action: String::new(),
        since: None,
        until: None,
        limit: 100,
    }
}

fn of(names: &[Names]) -> HistoryQuery {
    HistoryQuery { names: names.to_vec(), ..all() }
}

async fn told(store: &dyn Store, query: HistoryQuery) -> Vec<String> {
    shown(&store.history(query).await.unwrap())
}

fn shown(page: &HistoryPage) -> Vec<String> {
    page.rows
        .iter()
        .map(|row| format!("{} {} {}", row.revision, row.change.name, row.change.action))
        .collect()
}

pub async fn a_history_is_told_newest_first(place: &impl Place) {
    let store = place.open().await;
    let puts = ["settings/b", "settings/a"].map(|at| PlannedChange::Put(Box::new(put(at, 1, "one"))));
    apply(&*store, write(puts.into())).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    apply(&*store, removal(&record(&*store, "settings/b").await)).await;
    let page = store.history(all()).await.unwrap();
    let expected =
        ["3 settings/b deleted", "2 settings/a updated", "1 settings/a created", "1 settings/b created"];
    assert_eq!(shown(&page), expected);
    assert!(!page.more && page.floor == Revision::ZERO);
    let [gone, changed, made, _] = &page.rows[..] else { panic!("{page:?}") };
    assert!(gone.change.record.is_none() && gone.before.as_ref().is_some_and(|before| before.version == 1));
    assert_eq!(changed.before, made.change.record, "what it was before");
    assert!(made.before.is_none());
    assert_eq!((gone.version, changed.version, &changed.uid), (1, 2, &made.uid));
    assert_eq!((made.time, made.change.actor.is_empty()), (noon(), false));

    // In pages of every size it is the same.
    for size in 1..5 {
        let (mut rows, mut after) = (Vec::new(), HistoryCursor::newest());
        loop {
            let page = store.history(HistoryQuery { after, limit: size, ..all() }).await.unwrap();
            let Some(last) = page.rows.last() else { break };
            assert!(page.rows.len() <= size);
            after = HistoryCursor { revision: last.revision, name: last.change.name.to_string() };
            rows.extend(shown(&page));
            if !page.more {
                break;
            }
        }
        assert_eq!(rows, expected, "in pages of {size}");
    }
}

pub async fn a_history_is_found_by_the_names_that_are_asked_for(place: &impl Place) {
    let store = place.open().await;
    for (at, minutes) in [("settings/a", 0), ("settings/a2", 1), ("users/a/settings/a", 2)] {
        let mut write = create(at, "one");
        (write.time, write.actor) = (noon() + TimeDelta::minutes(minutes), format!("actor{minutes}"));
        apply(&*store, write).await;
    }
    let one = |name: &str| Names::One(name.to_owned());
    let beneath = |prefix: &str| Names::Beneath(prefix.to_owned());
    assert_eq!(told(&*store, of(&[one("settings/a")])).await, ["1 settings/a created"]);
    assert_eq!(
        told(&*store, of(&[beneath("settings/")])).await,
        ["2 settings/a2 created", "1 settings/a created"]
    );
    assert_eq!(
        told(&*store, of(&[one("settings/a"), beneath("users/")])).await,
        ["3 users/a/settings/a created", "1 settings/a created"]
    );
    assert_eq!(told(&*store, of(&[one("settings/none")])).await, [""; 0]);
    let only = HistoryQuery { actor: "actor1".into(), ..all() };
    assert_eq!(told(&*store, only).await, ["2 settings/a2 created"]);
    assert_eq!(told(&*store, HistoryQuery { action: "deleted".into(), ..all() }).await, [""; 0]);
    let at = |minutes| Some(noon() + TimeDelta::minutes(minutes));
    let within = HistoryQuery { since: at(1), until: at(2), ..all() };
    assert_eq!(told(&*store, within).await, ["2 settings/a2 created"]);
}

pub async fn a_compacted_history_says_where_it_begins(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "three")).await;
    store.compact(Revision(2)).await.unwrap();
    let page = store.history(all()).await.unwrap();
    assert_eq!(shown(&page), ["3 settings/a updated", "2 settings/a updated"]);
    assert_eq!(page.floor, Revision(2));
    assert!(page.rows[0].before.is_some() && page.rows[1].before.is_none(), "as far as it is there");
}
