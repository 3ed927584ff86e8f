//! How long tasks have to wait for sinks or the state store, while they wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// The waits of all tasks.
#[derive(Debug, Default)]
pub struct Waits(Mutex<Waited>);

#[derive(Debug, Default)]
struct Waited {
    over: Duration,
    since: BTreeMap<u64, Instant>,
    begun: u64,
}

/// A task waits, until this is dropped.
#[derive(Debug)]
pub struct Wait {
    waits: Arc<Waits>,
    number: u64,
}

impl Waits {
    /// A task waits from here on.
    pub fn begin(self: &Arc<Self>) -> Wait {
        let mut waited = self.waited();
        waited.begun += 1;
        let number = waited.begun;
        waited.since.insert(number, Instant::now());
        Wait { waits: self.clone(), number }
    }

    /// How long all of them have waited until now: it never falls.
    pub fn sum(&self) -> Duration {
        let waited = self.waited();
        waited.since.values().fold(waited.over, |sum, since| sum + since.elapsed())
    }

    fn waited(&self) -> MutexGuard<'_, Waited> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waited = self.waits.waited();
        if let Some(since) = waited.since.remove(&self.number) {
            waited.over += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_counts_while_it_lasts() {
        let waits = Arc::new(Waits::default());
        let sum_after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            waits.sum().as_secs()
        };
        let first = waits.begin();
        let mut sums = vec![sum_after(3).await];
        let second = waits.begin();
        sums.push(sum_after(1).await);
        drop(first);
        sums.push(sum_after(1).await);
        drop(second);
        sums.push(sum_after(9).await);
        assert_eq!(sums, [3, 5, 6, 6]);
    }
}
