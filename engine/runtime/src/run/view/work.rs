//! What a stage does, beside what its books say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reasons::OTHER;

/// More values of the column by which anomalies are counted are counted together.
pub const MAX_METRICS: usize = 100;

/// What a stage did in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// What came by each of its edges, before `when:`, in the order of `inputs:`; for a source, what it read.
    pub edges: Vec<EdgeWork>,
    /// How long its code ran: of a transform or detector.
    pub busy: Duration,
    /// Anomalies by the value of the last column of the series' key, if a key has several columns: of a detector.
    pub anomalies: BTreeMap<String, u64>,
    /// How many series it keeps at the end of that time: of a stage that keeps any.
    pub series: Option<u64>,
}

/// What came by an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeWork {
    /// Rows.
    pub rows: u64,
    /// Their size in memory, for a source that of the payloads it read.
    pub bytes: u64,
    /// Batches.
    pub batches: u64,
}

impl Work {
    /// Rows came by an edge.
    pub fn came(&mut self, edge: usize, rows: usize, bytes: usize) {
        if self.edges.len() <= edge {
            self.edges.resize(edge + 1, EdgeWork::default());
        }
        self.edges[edge].add(&EdgeWork { rows: rows as u64, bytes: bytes as u64, batches: 1 });
    }

    /// There were anomalies of a metric.
    pub fn anomalous(&mut self, metric: &str, count: u64) {
        let is_known = self.anomalies.contains_key(metric) || self.anomalies.len() < MAX_METRICS;
        *self.anomalies.entry(if is_known { metric.into() } else { OTHER.into() }).or_default() += count;
    }

    /// Adds what came after.
    pub fn add(&mut self, next: &Work) {
        self.edges.resize(self.edges.len().max(next.edges.len()), EdgeWork::default());
        self.edges.iter_mut().zip(&next.edges).for_each(|(edge, next)| edge.add(next));
        self.busy += next.busy;
        next.anomalies.iter().for_each(|(metric, count)| self.anomalous(metric, *count));
    }
}

impl EdgeWork {
    fn add(&mut self, next: &EdgeWork) {
        self.rows += next.rows;
        self.bytes += next.bytes;
        self.batches += next.batches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_bounded_also_when_added_up() {
        let (mut one, mut other) = (Work::default(), Work::default());
        for number in 0..MAX_METRICS {
            one.anomalous(&format!("a{number}"), 1);
            other.anomalous(&format!("b{number}"), 1);
        }
        one.add(&other);
        assert_eq!(one.anomalies.len(), MAX_METRICS + 1);
        assert_eq!(one.anomalies[OTHER], MAX_METRICS as u64);
    }

    #[test]
    fn edges_add_up() {
        let (mut one, mut other) = (Work::default(), Work::default());
        one.came(0, 10, 100);
        other.came(1, 5, 50);
        other.came(0, 1, 10);
        one.add(&other);
        let rows: Vec<_> = one.edges.iter().map(|edge| (edge.rows, edge.bytes, edge.batches)).collect();
        assert_eq!(rows, [(11, 110, 2), (5, 50, 1)]);
    }
}
