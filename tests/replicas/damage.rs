//! What replicas do about a store that was edited while they run, and what rows that are not theirs may cost them.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{CompactLogRequest, DeleteResourceRequest, ListWorkersRequest};
use tonic::Code;

use crate::{
    cluster::{Cluster, agree, create, request},
    harness::{PATIENCE, calls::refusal, until_answered, within},
    postgres,
    support::{caller::Caller, resources::setting},
};

/// A replica that is not kept busy by rows of others answers in milliseconds; the rest is a busy machine.
const ANSWERED: Duration = Duration::from_secs(5);
/// Length of a row of nobody's.
const ROW: u64 = 64_000_000;

/// No client can tell which replica it reached: stale, damaged, and writes are refused.
async fn all_find_it_damaged(callers: &[Caller]) {
    for (index, caller) in callers.iter().enumerate() {
        until_answered(PATIENCE, "it is found damaged", async || {
            let status = caller.status().await;
            status.stale && status.warnings.iter().any(|told| told.contains("the store is damaged"))
        })
        .await;
        let write = request(setting(&format!("settings/refused_{index}"), "x"));
        let refused = caller.config().create_resource(write).await;
        assert_eq!(refusal(refused), (Code::FailedPrecondition, "STORE_DAMAGED".into()));
    }
}

/// Found by an attack: whoever started on it refused all writes, while those that ran took them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_replicas_that_run_find_the_damage_that_one_that_starts_finds() {
    let cluster = Cluster::new().await;
    let members = [cluster.start().await, cluster.start().await];
    let token = cluster.first_token().await;
    let mut callers: Vec<Caller> = members.iter().map(|member| member.caller(&token)).collect();
    let edited = create(&callers[0], setting("settings/edited", "before")).await;
    agree(&[callers[0].clone(), callers[1].clone()], edited).await;
    let edit = |from: &str, to: &str| {
        format!(
            "UPDATE resources SET spec_text = replace(spec_text, '{from}', '{to}') WHERE name = 'settings/edited'"
        )
    };
    postgres::run(cluster.url(), &edit("before", "behind")).await;
    let third = cluster.start().await;
    callers.push(third.caller(&token));
    all_find_it_damaged(&callers).await;

    postgres::run(cluster.url(), &edit("behind", "before")).await;
    for caller in &callers {
        until_answered(PATIENCE * 2, "it heals", async || !caller.status().await.stale).await;
    }
    create(&callers[1], setting("settings/after", "x")).await;
}

/// Found by an attack: the history was gone for everybody, and nobody said a word but the doctor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_floor_that_no_compaction_raised_is_found_by_every_replica() {
    let cluster = Cluster::new().await;
    let members = [cluster.start().await, cluster.start().await];
    let token = cluster.first_token().await;
    let mut callers: Vec<Caller> = members.iter().map(|member| member.caller(&token)).collect();
    let mut newest = 0;
    for index in 0..6 {
        newest = create(&callers[0], setting(&format!("settings/s{index}"), "x")).await;
    }
    // One that was raised in order is none.
    let compact = CompactLogRequest { revision: 2 };
    callers[0].admin().compact_log(compact).await.expect("it is compacted");
    agree(&[callers[0].clone(), callers[1].clone()], newest).await;
    let forge = "UPDATE head SET floor = revision - 2, floor_hash = \
        (SELECT log.hash FROM log WHERE log.revision = head.revision - 2 ORDER BY ordinal DESC LIMIT 1)";
    postgres::run(cluster.url(), forge).await;
    all_find_it_damaged(&callers).await;
    let third = cluster.start().await;
    callers.push(third.caller(&token));
    all_find_it_damaged(&callers).await;

    let back = "SET LOCAL session_replication_role = replica; UPDATE head SET floor = checkpoints.floor, \
        floor_hash = checkpoints.hash FROM checkpoints";
    postgres::run(cluster.url(), back).await;
    for caller in &callers {
        until_answered(PATIENCE * 2, "it heals", async || !caller.status().await.stale).await;
    }
    create(&callers[1], setting("settings/after", "x")).await;
}

/// Found by an attack: writes to other names went on, and no other replica heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_damage_that_a_write_meets_is_found_by_every_replica() {
    let cluster = Cluster::new().await;
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    let at = create(&callers[0], setting("settings/gone", "x")).await;
    agree(&callers, at).await;
    postgres::run(cluster.url(), "DELETE FROM resources WHERE name = 'settings/gone'").await;
    let delete = DeleteResourceRequest { name: "settings/gone".into(), ..DeleteResourceRequest::default() };
    let refused = callers[0].config().delete_resource(delete).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "STORE_DAMAGED".into()));
    all_find_it_damaged(&callers).await;
}

/// Found by an attack: all of them were sorted with their texts, for seconds, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_thousands_of_wide_rows_of_workers_are_tidied_away_while_workers_are_listed() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    // Random, so that nothing makes the texts small; of a replica that does not live.
    let forge = "INSERT INTO worker_sessions (id, replica, epoch, subject, worker, labels, client_version, view, secrets, \
        silent, began) SELECT 'forged' || i, 'gone', '0000000000000007', 's', 'w' || i, '{}', '', \
        '[\"' || (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 400) AS j) || '\"]', false, false, now() \
        FROM generate_series(1, 5000) AS i";
    postgres::run(cluster.url(), forge).await;
    let left = "SELECT count(*) FROM worker_sessions WHERE id LIKE 'forged%' AND ended IS NULL";
    until_answered(PATIENCE, "they are ended", async || postgres::count(cluster.url(), left).await == 0)
        .await;
    let listed =
        within(ANSWERED, "the workers", caller.fleet().list_workers(ListWorkersRequest::default())).await;
    listed.expect("they are listed");
}

/// Found by an attack: each write on each replica read the row as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_large_row_above_the_head_is_not_read_by_writes() {
    let cluster = Cluster::new().await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/a", "x")).await;
    let forge = format!(
        "INSERT INTO log SELECT (jsonb_populate_record(log, jsonb_build_object('revision', revision + 5, 'ordinal', 0, \
        'change_type', 'created', 'previous_labels', NULL, 'previous_revision', NULL, 'create_revision', 1, \
        'spec', repeat('x', {ROW})))).* FROM log ORDER BY revision DESC LIMIT 1"
    );
    postgres::run(cluster.url(), &forge).await;
    let (begin, before) = (Instant::now(), member.peak_memory());
    let write = request(setting("settings/b", "x"));
    let refused = caller.config().create_resource(write).await.expect_err("its log has a row of nobody's");
    let took = begin.elapsed();
    assert!(took < ANSWERED, "{took:?}");
    assert!(refused.message().contains("rows above its head"), "it says why: {refused:?}");
    let more = member.peak_memory() - before;
    assert!(more < ROW / 2048, "{more} KiB for a row of {ROW} bytes");
}
