//! The active provider and the keys in use on PostgreSQL, through two replicas in turn: see `support::active` and
//! `support::keys` for the walks.

use crate::{
    cluster::{Cluster, Member},
    support::{
        active::{self, Callers},
        keys, narrowing, rotation,
    },
};

/// Two replicas, and who asks them in turn, over so many connections.
async fn together(connections: usize) -> ([Member; 2], Callers) {
    let cluster = Cluster::new().await;
    let (left, right) = tokio::join!(cluster.start(), cluster.start());
    let token = cluster.first_token().await;
    let both = [left.caller(&token), right.caller(&token)];
    let callers = (0..connections).map(|number| both[number % 2].reconnected());
    ([left, right], Callers::new(callers.collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_provider_is_switched_and_switched_back() {
    let (_members, callers) = together(2).await;
    active::switches_and_switches_back(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_provider_stays() {
    let (_members, callers) = together(2).await;
    active::what_is_active_stays(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_full_order_drops_its_last() {
    let (_members, callers) = together(2).await;
    active::regression_a_full_order_drops_its_last(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_has_its_default() {
    let (_members, callers) = together(2).await;
    active::each_type_has_its_default(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_switches_never_leave_a_disabled_or_missing_provider_active() {
    let (_members, callers) = together(6).await;
    active::race(&callers, 15, async || (), async |()| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_at_once_build_on_each_other() {
    let (_members, callers) = together(5).await;
    active::switches_at_once_build_on_each_other(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_key_follows_the_rule_and_is_rotated() {
    let (_members, callers) = together(2).await;
    keys::the_key_to_use_follows_the_rule(&callers).await;
    let (_others, callers) = together(2).await;
    keys::a_key_is_rotated(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_before_is_kept_while_a_key_is_rotated() {
    let (_members, callers) = together(2).await;
    let worker = rotation::reader(&callers.next()).await;
    rotation::the_value_before_is_kept_until_it_is_retired(&callers, &worker).await;
    let (_others, callers) = together(2).await;
    rotation::what_makes_no_rotation_is_refused(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_before_goes_at_its_time() {
    let (_members, callers) = together(2).await;
    let worker = rotation::reader(&callers.next()).await;
    rotation::the_value_before_goes_at_its_time(&callers, &worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_before_goes_once_every_worker_has_the_new_one() {
    let (_members, callers) = together(2).await;
    let worker = rotation::reader(&callers.next()).await;
    rotation::the_value_before_goes_once_every_worker_has_the_new_one(&callers, &worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_says_is_waited_for_until_the_time_is_over() {
    let (_members, callers) = together(2).await;
    let worker = rotation::reader(&callers.next()).await;
    rotation::who_never_says_is_waited_for_until_the_time_is_over(&callers, &worker).await;
}

/// Whoever looks after a rotation may die over it: another replica goes on from what stands in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_brought_to_its_end_by_another_replica() {
    let cluster = Cluster::new().await;
    let mut first = cluster.start().await;
    let token = cluster.first_token().await;
    let callers = Callers::new(vec![first.caller(&token)]);
    let reader = rotation::reader(&callers.next()).await;
    rotation::begin_with_a_silent_worker(&callers, &reader).await;
    let second = cluster.start().await;
    first.kill().await;
    rotation::is_brought_to_its_end(&second.caller(&token)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_of_keys_that_one_replica_was_told_shows_on_all() {
    let (_members, callers) = together(2).await;
    keys::use_is_told_and_makes_no_revision(&callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_racing_writers_do_not_narrow_what_a_template_uses_together() {
    let (_members, callers) = together(2).await;
    narrowing::race(&callers.next(), &callers.next(), 20).await;
}
