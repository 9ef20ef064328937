//! How tests wait: for conditions, and never for longer than anything takes.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// Far more than anything takes on a busy machine, so that only what never comes runs into it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has to come in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    timeout(limit, future).await.unwrap_or_else(|_| panic!("{what}: did not come within {limit:?}"))
}

/// Waits for something that has to come.
#[track_caller]
pub fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { within(PATIENCE, &format!("what is awaited at {place}"), future).await }
}

/// Waits until a condition holds.
pub async fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        pause(deadline, limit, what).await;
    }
}

/// Waits until a condition holds that somebody has to be asked for.
pub async fn until_answered(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        pause(deadline, limit, what).await;
    }
}

async fn pause(deadline: Instant, limit: Duration, what: &str) {
    assert!(Instant::now() < deadline, "{what}: does not hold after {limit:?}");
    sleep(Duration::from_millis(5)).await;
}
