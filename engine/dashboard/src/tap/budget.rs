//! What all taps of a dashboard may have together: rows as text cost more than most stages, so nobody may make the pipeline's
//! machine write all of them, nor may many who each want a little.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// More taps would leave no connections to other requests.
const MAX_TAPS: usize = 100;
/// Of all taps together, a second. Divided by as many as there may be, it is the rate of a tap that does not name one.
const MAX_RATE: Amount = Amount { rows: 10_000, bytes: 4 << 20 };
/// One event has no more than this: a page takes it in one piece.
const MAX_EVENT_BYTES: u64 = 64 << 10;

/// So much of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Rows.
    pub rows: u64,
    /// Bytes of their text.
    pub bytes: u64,
}

impl Amount {
    fn least(self, other: Amount) -> Amount {
        Amount { rows: self.rows.min(other.rows), bytes: self.bytes.min(other.bytes) }
    }
}

/// What all taps may have.
#[derive(Default)]
pub struct Budget(Mutex<Shares>);

#[derive(Default)]
struct Shares {
    taps: usize,
    /// What is left to all, which is not more than a second's.
    left: Option<Bucket>,
}

impl Budget {
    /// What a tap may have that wants so many rows a second, 0 for as many as it may; none when there are too many taps.
    pub fn allowance(self: &Arc<Self>, rate: u32) -> Option<Allowance> {
        let mut shares = self.shares();
        if MAX_TAPS <= shares.taps {
            return None;
        }
        shares.taps += 1;
        let rows = if rate == 0 { MAX_RATE.rows } else { MAX_RATE.rows.min(rate.into()) };
        let rate = Amount { rows, ..MAX_RATE };
        Some(Allowance { budget: self.clone(), rate, left: Bucket::full(rate) })
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// What one tap may have. It gives its share back when it is dropped.
pub struct Allowance {
    budget: Arc<Budget>,
    /// What it wants.
    rate: Amount,
    left: Bucket,
}

impl Allowance {
    /// What it may show now.
    pub fn left(&mut self) -> Amount {
        let mut shares = self.budget.shares();
        let taps = shares.taps.max(1) as u64;
        let share = Amount { rows: MAX_RATE.rows / taps, bytes: MAX_RATE.bytes / taps };
        let left = self.left.fill(self.rate.least(share));
        let left_to_all = shares.left.get_or_insert_with(|| Bucket::full(MAX_RATE)).fill(MAX_RATE);
        left.least(left_to_all).least(Amount { rows: u64::MAX, bytes: MAX_EVENT_BYTES })
    }

    /// It has shown this.
    pub fn use_up(&mut self, amount: Amount) {
        self.left.take(amount);
        if let Some(left) = &mut self.budget.shares().left {
            left.take(amount);
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.budget.shares().taps -= 1;
    }
}

/// Is filled as time passes, with what is allowed in a second at most.
struct Bucket {
    rows: f64,
    bytes: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Amount) -> Self {
        Bucket { rows: rate.rows as f64, bytes: rate.bytes as f64, at: Instant::now() }
    }

    fn fill(&mut self, rate: Amount) -> Amount {
        let seconds = self.at.elapsed().min(Duration::from_secs(1)).as_secs_f64();
        self.at = Instant::now();
        self.rows = (self.rows + seconds * rate.rows as f64).min(rate.rows as f64);
        self.bytes = (self.bytes + seconds * rate.bytes as f64).min(rate.bytes as f64);
        Amount { rows: self.rows as u64, bytes: self.bytes as u64 }
    }

    fn take(&mut self, amount: Amount) {
        self.rows -= amount.rows as f64;
        self.bytes -= amount.bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What taps show in some seconds, if each is offered more than it may show, of rows with so many bytes.
    async fn shown(taps: &mut [Allowance], seconds: u32, bytes: u64) -> Vec<u64> {
        let mut shown = vec![0; taps.len()];
        for _ in 0..seconds * 100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            for (tap, shown) in taps.iter_mut().zip(&mut shown) {
                let left = tap.left();
                let rows = left.rows.min(left.bytes / bytes);
                tap.use_up(Amount { rows, bytes: rows * bytes });
                *shown += rows;
            }
        }
        shown
    }

    fn taps(budget: &Arc<Budget>, count: usize, rate: u32) -> Vec<Allowance> {
        (0..count).map(|_| budget.allowance(rate).expect("room")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_taps_together_have_no_more_than_one() {
        for (count, bytes, most) in [(1, 10, 10_000), (100, 10, 10_000), (1, 4_096, 1_024), (100, 4_096, 1_024)] {
            let budget = Arc::new(Budget::default());
            let sum: u64 = shown(&mut taps(&budget, count, 0), 10, bytes).await.iter().sum();
            // What was saved up, and ten seconds.
            assert!(9 * most < sum && sum <= 11 * most, "{count} taps with rows of {bytes} bytes: {sum} rows");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wants_all_leaves_the_others_theirs() {
        let budget = Arc::new(Budget::default());
        let mut taps: Vec<Allowance> = taps(&budget, 50, 0).into_iter().chain(taps(&budget, 50, 50)).collect();
        let shown = shown(&mut taps, 20, 10).await;
        let least = shown[50..].iter().min().expect("fifty");
        assert!(950 <= *least, "{shown:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_again_and_again_gets_no_more() {
        let budget = Arc::new(Budget::default());
        let mut sum = 0;
        for _ in 0..50 {
            sum += shown(&mut taps(&budget, 1, 0), 1, 1).await[0];
        }
        assert!(sum <= 51 * MAX_RATE.rows, "{sum}");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many_taps_and_no_event_is_large() {
        let budget = Arc::new(Budget::default());
        let mut all = taps(&budget, MAX_TAPS, 0);
        assert!(budget.allowance(1).is_none());
        all.truncate(1);
        assert!(budget.allowance(1).is_some(), "those that are gone have given their places back");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(all[0].left().bytes, MAX_EVENT_BYTES);
    }
}
