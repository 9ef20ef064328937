//! Figures, on request: `cargo test --release --test store measure -- --ignored --nocapture --test-threads 1`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox::{
    domain::{PlannedChange, Read, Revision},
    store::{Log as _, Store},
};
use tokio::task::JoinSet;

use crate::{
    fixture::{Place, apply, create, name, put, write},
    postgres::{Database, server::Server},
    sqlite::Directory,
};

/// Writes a second that so many writers get done, each waiting for its answer before the next.
async fn rate<S: Store>(store: &Arc<S>, writers: usize, round: &str) -> f64 {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (store, round) = (Arc::clone(store), round.to_owned());
        tasks.spawn(async move {
            // Made once: encoding a spec costs more than a write in a group.
            let model = create("settings/model", &"x".repeat(300));
            let mut done = 0_u32;
            while begin.elapsed() < Duration::from_secs(3) {
                let at = name(&format!("settings/{round}w{writer}i{done}"));
                let mut write = model.clone();
                write.request.id = at.to_string();
                write.reads = vec![Read::Absent { name: at.clone() }];
                let [PlannedChange::Put(put)] = &mut write.changes[..] else { panic!() };
                put.name = at;
                apply(&*store, write).await;
                done += 1;
            }
            done
        });
    }
    let done: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(done) / begin.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and says nothing in a debug build"]
async fn many_writers_share_a_commit() {
    compare_writers(&Directory::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and says nothing in a debug build"]
async fn many_writers_share_a_commit_on_postgres() {
    let server = Server::start(&["fsync=on"]);
    compare_writers(&Database(server.database().await)).await;
}

async fn compare_writers(place: &impl Place) {
    let store = place.open().await;
    let one = rate(&store, 1, "a").await;
    let many = rate(&store, 64, "b").await;
    println!("1 writer {one:.0}/s, 64 writers {many:.0}/s: {:.1} times", many / one);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and says nothing in a debug build"]
async fn a_large_state_is_read_at_once() {
    read_a_large_state(&Directory::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and says nothing in a debug build"]
async fn a_large_state_is_read_at_once_on_postgres() {
    let server = Server::start(&["fsync=on"]);
    read_a_large_state(&Database(server.database().await)).await;
}

async fn read_a_large_state(place: &impl Place) {
    let store = place.open().await;
    for batch in 0..10 {
        let puts = (0..10_000).map(|index| put(&format!("settings/b{batch}i{index}"), 1, &"x".repeat(300)));
        let write = write(puts.map(|put| PlannedChange::Put(Box::new(put))).collect());
        let begin = Instant::now();
        apply(&*store, write).await;
        println!("10,000 changes in one revision: {:?}", begin.elapsed());
    }
    for _ in 0..3 {
        let begin = Instant::now();
        let snapshot = store.snapshot().await.unwrap();
        assert_eq!((snapshot.records.len(), &snapshot.defect), (100_000, &None));
        println!("snapshot of 100,000: {:?}", begin.elapsed());
    }
    let begin = Instant::now();
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    println!("verification of 100,000 rows: {:?}", begin.elapsed());
    let begin = Instant::now();
    store.compact(Revision(10)).await.unwrap();
    println!("compaction that keeps 100,000 rows: {:?}", begin.elapsed());
}
