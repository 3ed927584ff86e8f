//! The epoch that a task is reading.

use pipeline_stage::Position;
use tokio::time::Instant;
use tracing::Span;

use crate::store::{KeptBatch, Segment, StoredRow};

/// More rows than this end an epoch before its time.
const MAX_EPOCH_ROWS: u64 = 50_000;

/// More bytes than this end it too: large messages must not fill the memory while a sink is down.
const MAX_EPOCH_BYTES: usize = 64 << 20;

/// More bytes than this of rows that are kept in the log end it too: they are one value of one row of the state store,
/// which has to be written within a commit.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// What was read since the last epoch ended.
#[derive(Default)]
pub struct Epoch {
    /// By source, in the order of reading.
    pub segments: Vec<Segment>,
    /// The number of rows read.
    pub rows: u64,
    /// About how much memory they take.
    pub bytes: usize,
    /// Of all stages, the most rows that were made of them, and the most bytes: a transform may make many of one.
    pub most_made: (u64, usize),
    /// About how many bytes of them are kept in the log.
    pub kept_bytes: usize,
    /// Of their positions and the order of sources.
    pub hash: u64,
    /// Dead letters that are processed again, by number.
    pub replayed: Vec<i64>,
    /// The same as rows.
    pub stored: Vec<StoredRow>,
    /// When rows were read, and how many.
    pub reads: Vec<(Instant, u64)>,
    /// From the first row to the commit, for traces.
    pub span: Option<Span>,
    /// When the first row was read.
    pub began: Option<Instant>,
}

impl Epoch {
    /// Adds rows that were read.
    pub fn add(&mut self, source: &str, offsets: &[u64], until: Position) {
        let now = Instant::now();
        self.began.get_or_insert(now);
        let rows = offsets.len() as u64;
        self.reads.push((now, rows));
        self.rows += rows;
        match self.segments.last_mut() {
            Some(segment) if segment.source == source => {
                segment.rows += rows;
                segment.until = until;
            }
            _ => {
                // The hash covers where one source's rows end and another's begin.
                self.hash = mix(self.hash, u64::MAX);
                self.segments.push(Segment { source: source.into(), until, rows, kept: Vec::new() });
            }
        }
        for offset in offsets {
            self.hash = mix(self.hash, *offset);
        }
    }

    /// Keeps the rows that were added last, because their source cannot be read again.
    pub fn keep(&mut self, batch: KeptBatch) {
        self.kept_bytes += batch.bytes();
        self.segments.last_mut().expect("their segment was just added to").kept.push(batch);
    }

    /// Whether it must end before more is read. Dead letters that are processed again are an epoch of their own, so that
    /// all of them are taken before the sources are over.
    pub fn is_full(&self) -> bool {
        let (made_rows, made_bytes) = self.most_made;
        let is_large = MAX_EPOCH_BYTES <= self.bytes.max(made_bytes) || MAX_KEPT_BYTES <= self.kept_bytes;
        MAX_EPOCH_ROWS <= self.rows.max(made_rows) || is_large || !self.stored.is_empty()
    }

    /// True when nothing was read or replayed.
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.stored.is_empty()
    }
}

/// One step of a hash that depends on order: multiplication by an odd constant (2^64 divided by the golden ratio) after
/// an exclusive or, then a rotation so that high bits come down.
fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{RawRows, SourceBatch, SourceRows};

    use super::*;

    fn hash(parts: &[(&str, &[u64])]) -> u64 {
        let mut epoch = Epoch::default();
        parts.iter().for_each(|(source, offsets)| epoch.add(source, offsets, Position::at(0)));
        epoch.hash
    }

    #[test]
    fn the_hash_tells_rows_orders_and_sources_apart_but_not_batches() {
        let whole = hash(&[("a", &[1, 2, 3])]);
        assert_eq!(whole, hash(&[("a", &[1]), ("a", &[2, 3])]));
        for other in [hash(&[("a", &[1, 3, 2])]), hash(&[("a", &[1, 2])]), hash(&[("a", &[1]), ("b", &[2, 3])])] {
            assert_ne!(whole, other);
        }
    }

    #[test]
    fn what_is_made_of_rows_ends_an_epoch_too() {
        for (most_made, is_full) in [((49_999, 0), false), ((50_000, 0), true), ((2, 64 << 20), true)] {
            assert_eq!(Epoch { rows: 2, most_made, ..Epoch::default() }.is_full(), is_full, "{most_made:?}");
        }
    }

    #[test]
    fn rows_that_are_kept_in_the_log_end_an_epoch_by_their_bytes() {
        let mut epoch = Epoch::default();
        let batch =
            SourceBatch { rows: SourceRows::Raw(RawRows::of_payloads(vec![vec![0; 3 << 20]])), offsets: vec![1] };
        for is_full in [false, false, true] {
            epoch.add("a", &batch.offsets, Position::at(2));
            epoch.keep(KeptBatch::new(&batch).expect("payloads can be kept"));
            assert_eq!(epoch.is_full(), is_full);
        }
        assert_eq!(epoch.segments[0].kept.len(), 3);
    }
}
