//! What was seen of resources, beside the log.

use chrono::{DateTime, TimeDelta, Utc};
use signalbox::{
    domain::{Clock as _, Matter, Observation, SystemClock, Uid},
    store::{Observations as _, Store as _},
};

use crate::fixture::{DEADLINE, Place};

const UID: &str = "seen";

fn seen(value: &str, time: DateTime<Utc>) -> Observation {
    Observation { uid: Uid(UID.into()), what: Matter::TEST, value_json: format!("{value:?}"), time }
}

/// A clock that was ahead kept all that was really seen later from being told, for as long as it had been ahead.
pub async fn what_is_seen_by_a_clock_that_is_ahead_gives_way(place: &impl Place) {
    let store = place.open().await;
    let value = async || {
        let found = store.observed(vec![Uid(UID.into())]).await.unwrap();
        found.into_iter().map(|seen| seen.value_json.trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let now = SystemClock.now();
    store.observe(vec![seen("first", now - TimeDelta::minutes(2))]).await.unwrap();
    store.observe(vec![seen("older", now - TimeDelta::minutes(3))]).await.unwrap();
    assert_eq!(value().await, ["first"], "the newer one stays");
    store.observe(vec![seen("ahead", now + TimeDelta::days(400))]).await.unwrap();
    assert_eq!(value().await, ["ahead"]);
    store.observe(vec![seen("now", SystemClock.now())]).await.unwrap();
    assert_eq!(value().await, ["now"]);
    store.close(DEADLINE).await;
}

/// The table is open to whoever may write to the database, and all that is read goes into one answer.
pub async fn what_nobody_of_us_wrote_is_passed_over(place: &impl Place) {
    let store = place.open().await;
    store.observe(vec![seen(&"x".repeat(1 << 20), SystemClock.now())]).await.unwrap();
    assert_eq!(store.observed(vec![Uid(UID.into())]).await.unwrap(), []);
    store.close(DEADLINE).await;
}
