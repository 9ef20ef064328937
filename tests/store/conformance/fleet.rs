//! Who runs what: sessions and reports, as replicas write them for each other.

use std::time::Duration;

use signalbox::{
    domain::{Epoch, Rejection, ReplicaId, Report, Revision, Session, SessionId},
    store::{Cluster as _, Fleet as _, Keep, Member, News, Store as _},
};

use super::heartbeat;
use crate::fixture::{DEADLINE, Place};

fn session(id: &str, replica: &str) -> Session {
    Session {
        id: SessionId(id.into()),
        replica: ReplicaId(replica.into()),
        epoch: Epoch(7),
        subject: "ci".into(),
        worker: format!("worker \u{e4} {id}"),
        labels: [("zone".to_owned(), "b \"quoted\"".to_owned())].into(),
        client_version: "1".into(),
        view: r#"[{"pattern":"*"}]"#.into(),
        secrets: true,
        silent: false,
    }
}

fn report(session: &str, applied: u64, rejected: Option<u64>) -> Report {
    let rejection = rejected.map(|revision| Rejection {
        revision: Revision(revision),
        reason: format!("{revision} is\nno good"),
        names: vec![format!("settings/s{revision}")],
    });
    Report { session: SessionId(session.into()), applied: Revision(applied), rejection, left: false }
}

fn open(session: Session) -> News {
    News { open: vec![(session, Duration::from_secs(5))], ..News::default() }
}

fn reports(reports: Vec<Report>) -> News {
    News { reports, ..News::default() }
}

fn own() -> ReplicaId {
    ReplicaId("a".into())
}

pub async fn workers_are_told_of_as_they_were_told(place: &impl Place) {
    let store = place.open().await;
    store.beat(&heartbeat("a", 1)).await.unwrap();
    store.tell(News::default()).await.unwrap();
    let news = News { reports: vec![report("two", 3, Some(4))], ..open(session("two", "a")) };
    store.tell(news).await.unwrap();
    store.tell(open(session("one", "a"))).await.unwrap();
    let members = store.fleet(&own()).await.unwrap();
    assert_eq!(members.len(), 2);
    let [one, two] = [&members[0], &members[1]];
    assert_eq!((&one.session, &one.report, one.ended), (&session("one", "a"), &None, None));
    assert_eq!((&two.session, &two.report), (&session("two", "a"), &Some(report("two", 3, Some(4)))));
    assert!(
        one.age >= Duration::from_secs(5) && one.age < Duration::from_secs(5) + DEADLINE,
        "{:?}",
        one.age
    );
    store.tell(News { ended: vec![SessionId("one".into())], ..News::default() }).await.unwrap();
    let ended = |members: Vec<Member>| members[0].ended.is_some();
    assert!(ended(store.fleet(&own()).await.unwrap()));
    store.tell(open(session("one", "a"))).await.unwrap();
    assert!(!ended(store.fleet(&own()).await.unwrap()), "whoever serves it knows better");
    store.leave(&own()).await.unwrap();
    store.close(DEADLINE).await;
}

pub async fn reports_of_a_session_merge_whoever_writes_them(place: &impl Place) {
    let store = place.open().await;
    store.tell(open(session("s", "a"))).await.unwrap();
    for told in [report("s", 5, Some(9)), report("s", 7, None), report("s", 6, Some(8)), report("s", 1, None)]
    {
        store.tell(reports(vec![told])).await.unwrap();
    }
    store.tell(reports(vec![Report::leaving(SessionId("s".into()))])).await.unwrap();
    let members = store.fleet(&own()).await.unwrap();
    let merged = Report { left: true, ..report("s", 7, Some(9)) };
    assert_eq!(members[0].report, Some(merged));
    store.close(DEADLINE).await;
}

pub async fn what_is_over_is_forgotten(place: &impl Place) {
    let store = place.open().await;
    store.beat(&heartbeat("a", 1)).await.unwrap();
    for id in ["kept", "ended", "left"] {
        let news = News { reports: vec![report(id, 1, None)], ..open(session(id, "a")) };
        store.tell(news).await.unwrap();
    }
    // Of a replica that lives no more, and of no session at all.
    store.tell(open(session("orphan", "dead"))).await.unwrap();
    store.tell(reports(vec![report("none", 1, None)])).await.unwrap();
    store.tell(News { ended: vec![SessionId("ended".into())], ..News::default() }).await.unwrap();
    store.tell(reports(vec![Report::leaving(SessionId("left".into()))])).await.unwrap();
    let found = async |what| {
        let members = store.fleet(&own()).await.unwrap();
        let words = members.iter().map(|member| {
            let ended = if member.ended.is_some() { " has ended" } else { "" };
            format!("{}{ended}", member.session.id)
        });
        let words: Vec<_> = words.collect();
        assert_eq!(words.join(", "), what);
    };
    found("ended has ended, kept, left, orphan has ended").await;
    let keep = |ended| Keep { ended, orphaned: ended };
    store.tidy_fleet(&own(), keep(DEADLINE)).await.unwrap();
    found("ended has ended, kept, left, orphan has ended").await;
    // Times of the databases are not finer than a millisecond.
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.tidy_fleet(&own(), keep(Duration::ZERO)).await.unwrap();
    found("kept").await;
    store.tell(open(session("none", "a"))).await.unwrap();
    let members = store.fleet(&own()).await.unwrap();
    assert_eq!(members[1].report, None, "it was forgotten too");
    store.leave(&own()).await.unwrap();
    store.close(DEADLINE).await;
}
