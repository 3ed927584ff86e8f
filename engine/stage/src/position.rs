//! Where a row stands in its source: partitions, positions, times and the ids made from them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One partition of a source; the engine runs one task for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    /// Stable over restarts and unique in the source: it names the task and its state. `iot-data-stream/3`.
    pub name: Arc<str>,
    /// What the pipeline's other sources are asked for when several sources feed one task.
    pub number: u32,
}

impl Partition {
    /// The partition of a source that has no partitions of its own: `0`, `1`, …
    pub fn numbered(number: u32) -> Self {
        Partition { name: number.to_string().into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A place between two rows of a partition: reading goes on with the first row whose offset is at least `offset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Orders the rows of a partition: a Kafka offset, a byte in a file, a count. Gaps are allowed.
    pub offset: u64,
    /// What else the source needs to find the place again, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Position {
    /// A position that is no more than its offset.
    pub fn at(offset: u64) -> Self {
        Position { offset, detail: None }
    }
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// `2025-07-20T08:19:16Z`, with as many decimals as it has; the bare number for years that no calendar has.
    pub fn to_rfc3339(self) -> String {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
            None => self.0.to_string(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Which rows of the input the rows of a batch came from. Place, offset and branch name a row of a stage for ever.
#[derive(Debug, Clone)]
pub struct Origins {
    /// The partition they were read from, as `source/partition`; of rows that a stage has made, `stage/partition`.
    pub place: Arc<str>,
    /// For each row of the batch the offset of its input row; of rows that a stage has made, the epoch.
    pub offsets: Arc<[u64]>,
    /// What tells rows apart that came from one input row.
    pub branches: Branches,
}

/// By which stages rows came, as numbers: the same row scored by two detectors is two rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Branches {
    /// All by the same stages, each of which gave one row for one; 0 is straight from the source.
    All(u64),
    /// A stage has given several rows for one: a number for each row.
    Each(Arc<[u64]>),
}

impl Branches {
    /// The branch of a row that a stage gives, the `nth` of those it gives for one row of `branch`.
    pub fn below(branch: u64, stage: &str, nth: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(branch.to_le_bytes());
        hash.update(nth.to_le_bytes());
        hash.update(stage.as_bytes());
        let digest = hash.finalize();
        u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
    }
}

impl Origins {
    /// Of rows straight from a source.
    pub fn new(place: Arc<str>, offsets: Arc<[u64]>) -> Self {
        Origins { place, offsets, branches: Branches::All(0) }
    }

    /// The branch of a row.
    pub fn branch(&self, row: usize) -> u64 {
        match &self.branches {
            Branches::All(branch) => *branch,
            Branches::Each(branches) => branches[row],
        }
    }

    /// Of these rows of the batch, in this order. They must be there.
    pub fn take(&self, rows: &[usize]) -> Self {
        let branches = match &self.branches {
            Branches::All(branch) => Branches::All(*branch),
            Branches::Each(branches) => Branches::Each(rows.iter().map(|row| branches[*row]).collect()),
        };
        Origins { place: self.place.clone(), offsets: rows.iter().map(|row| self.offsets[*row]).collect(), branches }
    }

    /// The id of a row: the same for the same row of the same stage, whenever and however often it is processed, and
    /// in whichever sinks it ends.
    ///
    /// Sixteen hexadecimal digits in four groups, the start of the SHA-256 of pipeline, place, offset and branch.
    pub fn row_id(&self, pipeline: &str, row: usize) -> String {
        let mut hash = Sha256::new();
        for part in [pipeline.as_bytes(), self.place.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(self.offsets[row].to_le_bytes());
        hash.update(self.branch(row).to_le_bytes());
        let digest = hash.finalize();
        let group = |i: usize| u16::from_be_bytes([digest[2 * i], digest[2 * i + 1]]);
        format!("{:04x}-{:04x}-{:04x}-{:04x}", group(0), group(1), group(2), group(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_pipeline_place_offset_and_branch_only() {
        let origins = |place: &str, offset, branch| Origins {
            branches: Branches::All(branch),
            ..Origins::new(place.into(), Arc::from([offset]))
        };
        let id = origins("readings/0", 7, 1).row_id("iot", 0);
        assert_eq!(id, origins("readings/0", 7, 1).row_id("iot", 0));
        assert_eq!(id.len(), 19);
        for (pipeline, place, offset, branch) in [
            ("iot", "readings/0", 8, 1),
            ("iot", "readings/1", 7, 1),
            ("iot", "readings/0", 7, 0),
            ("io", "treadings/0", 7, 1),
        ] {
            let other = origins(place, offset, branch).row_id(pipeline, 0);
            assert_ne!(id, other, "{pipeline} {place} {offset} {branch}");
        }
    }

    #[test]
    fn branches_differ_by_stage_by_number_and_by_where_the_number_was_given() {
        let first = Branches::below(0, "one", 0);
        let all = [
            first,
            Branches::below(0, "one", 1),
            Branches::below(0, "two", 0),
            Branches::below(first, "two", 0),
            Branches::below(first, "two", 1),
            Branches::below(Branches::below(0, "one", 1), "two", 0),
        ];
        let different: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn taken_rows_keep_their_origin() {
        let all = Origins::new("readings/0".into(), Arc::from([3, 6, 9]));
        let each = Origins { branches: Branches::Each(Arc::from([10, 11, 12])), ..all.clone() };
        let taken = each.take(&[2, 0]);
        assert_eq!((&*taken.offsets, taken.branch(0), taken.branch(1)), (&[9, 3][..], 12, 10));
        assert_eq!(all.take(&[1]).branches, Branches::All(0));
    }

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(Timestamp(1_752_999_556_412_000).to_string(), "2025-07-20T08:19:16.412Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), i64::MAX.to_string());
    }
}
