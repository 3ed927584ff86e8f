//! Durations, counted by size.

use std::time::Duration;

/// Upper limits in seconds: from a millisecond, below which a commit cannot be, to a minute, above which something is down.
pub const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How often durations of each size occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Histogram {
    /// For each limit of [`BUCKETS`], how many were at most that long and longer than the limit before.
    pub counts: [u64; BUCKETS.len()],
    /// How many there were at all.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Something took so long, `times` times.
    pub fn observe(&mut self, took: Duration, times: u64) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|limit| seconds <= *limit) {
            self.counts[bucket] += times;
        }
        self.count += times;
        self.sum += seconds * times as f64;
    }

    /// The duration that a share of all did not exceed, between the limits by a straight line as Prometheus does it; none
    /// when nothing was observed. Above the last limit, that limit.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = share * self.count as f64;
        let (mut below, mut lower) = (0, 0.0);
        if self.count == 0 {
            return None;
        }
        for (count, limit) in self.counts.iter().zip(BUCKETS) {
            if 0 < *count && rank <= (below + count) as f64 {
                return Some(lower + (limit - lower) * ((rank - below as f64) / *count as f64).max(0.0));
            }
            (below, lower) = (below + count, limit);
        }
        Some(lower)
    }

    /// What was observed since an earlier look.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut counts = self.counts;
        counts.iter_mut().zip(earlier.counts).for_each(|(now, then)| *now = now.saturating_sub(then));
        Histogram { counts, count: self.count.saturating_sub(earlier.count), sum: self.sum - earlier.sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        millis.iter().for_each(|millis| histogram.observe(Duration::from_millis(*millis), 1));
        histogram
    }

    #[test]
    fn durations_are_counted_once_and_those_above_all_limits_too() {
        let histogram = of(&[1, 2, 2, 70_000]);
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.count), (1, 2, 4));
        assert_eq!(histogram.counts.iter().sum::<u64>(), 3);
        assert!((histogram.sum - 70.005).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_between_the_limits_of_their_bucket() {
        assert_eq!(Histogram::default().quantile(0.95), None);
        let histogram = of(&[20; 100]);
        let median = histogram.quantile(0.5).unwrap();
        assert!((median - 0.0175).abs() < 1e-9, "{median}");
        assert_eq!(of(&[90_000]).quantile(0.5), Some(60.0));
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let early = of(&[3, 3]);
        let mut late = early;
        late.observe(Duration::from_secs(2), 7);
        let since = late.since(&early);
        assert_eq!((since.count, since.counts[10]), (7, 7));
    }
}
