//! Waiting for something to become true, and names that nobody else uses.

use std::panic::resume_unwind;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Short enough that a test loses no time, long enough that the polling is no load.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` is true; panics after `timeout`, saying that `what` did not come true.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(database: pipeline_services::Database) {
/// pipeline_services::eventually(Duration::from_secs(30), "37,828 rows in sensor_data", async || {
///     database.count("SELECT count(*) FROM sensor_data").await == 37_828
/// })
/// .await;
/// # }
/// ```
pub async fn eventually(timeout: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() <= timeout, "waited {timeout:?} in vain for: {what}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Polls `condition`; false means that it was not true within `timeout`.
///
/// Unlike that of [`eventually`] its future is `Send` whatever the condition borrows.
pub(crate) async fn becomes_true(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if timeout < start.elapsed() {
            return false;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    true
}

/// A name that no other test and no other run uses: `prefix_` and lower-case hexadecimal digits.
///
/// It is a valid name of a Kafka topic, a consumer group, a database and a table, as long as `prefix` is one.
pub fn unique_name(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{prefix}_{:x}_{:x}_{count:x}", since_1970.as_millis(), process::id())
}

/// Runs something that blocks on a thread of its own, so that the test's other tasks go on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => panic!("the test's runtime has ended: {cancelled}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_the_condition_is_true() {
        let mut calls = 0;
        eventually(Duration::from_secs(5), "three calls", async || {
            calls += 1;
            calls == 3
        })
        .await;
        assert_eq!(calls, 3);
    }

    #[tokio::test]
    async fn says_what_it_waited_for_in_vain() {
        let waiting = tokio::spawn(eventually(Duration::ZERO, "the moon", async || false));
        let panic = waiting.await.expect_err("never true").into_panic();
        assert_eq!(panic.downcast_ref::<String>().expect("words"), "waited 0ns in vain for: the moon");
    }

    #[test]
    fn names_are_unique() {
        assert_ne!(unique_name("a"), unique_name("a"));
    }
}
