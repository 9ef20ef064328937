//! What every store must do, whatever database it stands on. Each function is one rule, given a fresh [`Place`].

mod cluster;
mod compaction;
mod fleet;
mod history;
mod lives;
mod log;
mod observations;
mod requests;
mod together;
mod writes;

pub use self::{
    cluster::*, compaction::*, fleet::*, history::*, lives::*, log::*, observations::*, requests::*,
    together::*, writes::*,
};
use crate::fixture::Place;

/// Makes a test of every rule, each on a place of its own.
macro_rules! conformance {
    ($place:expr) => {
        $crate::conformance::conformance!($place;
            an_empty_store_stands_at_zero
            a_write_is_state_and_log
            updates_and_deletions_tell_what_was_before
            a_batch_is_one_revision
            reads_that_no_longer_hold_are_stale
            creations_beneath_a_prefix_are_seen
            changes_beneath_a_prefix_are_seen
            whatever_was_written_is_seen
            what_was_read_of_the_past_has_to_be_there_still
            what_comes_back_goes_on_counting
            a_request_is_done_once
            requests_survive_reopening_and_expire
            a_write_that_changes_nothing_is_remembered
            a_write_that_breaks_the_rules_is_a_defect_and_leaves_no_trace
            one_bad_write_does_not_take_the_others_along
            a_caller_that_goes_away_does_not_stop_its_write
            revocations_are_no_resources
            pages_hold_whole_revisions
            changes_of_a_kind_are_found_between_revisions
            sixty_four_writers_leave_no_gap
            writers_of_one_resource_conflict
            the_doorbell_rings
            state_survives_reopening
            the_past_can_be_read
            a_history_is_told_newest_first
            a_history_is_found_by_the_names_that_are_asked_for
            a_compacted_history_says_where_it_begins
            revisions_are_found_by_time
            compaction_keeps_what_the_floor_needs
            compaction_forgets_secrets_that_nothing_refers_to
            compaction_and_writes_go_together
            an_untouched_store_verifies
            anchors_tell_a_rolled_back_store
            a_closed_store_takes_nothing
            a_position_that_is_not_in_the_log_is_noticed
            a_life_is_begun_once
            a_view_that_lost_its_ground_is_built_anew
            a_replica_is_told_of_as_it_told
            a_binary_below_the_level_is_refused_and_the_level_never_falls
            a_lease_is_renewed_by_its_holder
            the_first_secret_that_is_offered_is_everybody_s
            workers_are_told_of_as_they_were_told
            reports_of_a_session_merge_whoever_writes_them
            what_is_over_is_forgotten
            what_is_seen_by_a_clock_that_is_ahead_gives_way
            what_nobody_of_us_wrote_is_passed_over
            random_histories_match_a_model
        );
    };
    ($place:expr; $($rule:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            $crate::conformance::$rule(&$place).await;
        })*
    };
}
pub(crate) use conformance;

/// Random writes, replays, compactions and reopenings, against a map and a list.
pub async fn random_histories_match_a_model(place: &impl Place) {
    for seed in 0..4 {
        crate::model::run(place, seed).await;
    }
}
