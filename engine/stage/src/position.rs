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

/// Which rows of the input the rows of a batch came from.
#[derive(Debug, Clone)]
pub struct Origins {
    /// The partition they were read from, as `source/partition`: with an offset, it names a row for ever.
    pub place: Arc<str>,
    /// For each row of the batch the offset of its input row.
    pub offsets: Arc<[u64]>,
}

impl Origins {
    /// The id of a row: the same for the same input row, whenever and however often it is processed.
    ///
    /// Sixteen hexadecimal digits in four groups, the start of the SHA-256 of pipeline, place and offset.
    pub fn row_id(&self, pipeline: &str, row: usize) -> String {
        let mut hash = Sha256::new();
        for part in [pipeline.as_bytes(), self.place.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(self.offsets[row].to_le_bytes());
        let digest = hash.finalize();
        let group = |i: usize| u16::from_be_bytes([digest[2 * i], digest[2 * i + 1]]);
        format!("{:04x}-{:04x}-{:04x}-{:04x}", group(0), group(1), group(2), group(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_pipeline_place_and_offset_only() {
        let origins = |place: &str, offset| Origins { place: place.into(), offsets: Arc::from([offset]) };
        let id = origins("readings/0", 7).row_id("iot", 0);
        assert_eq!(id, origins("readings/0", 7).row_id("iot", 0));
        assert_eq!(id.len(), 19);
        for (pipeline, place, offset) in [("iot", "readings/0", 8), ("iot", "readings/1", 7), ("io", "treadings/0", 7)]
        {
            assert_ne!(id, origins(place, offset).row_id(pipeline, 0), "{pipeline} {place} {offset}");
        }
    }

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(Timestamp(1_752_999_556_412_000).to_string(), "2025-07-20T08:19:16.412Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), i64::MAX.to_string());
    }
}
