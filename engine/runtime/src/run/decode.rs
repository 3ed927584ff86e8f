//! What a reader hands over becomes rows of the source's columns.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use pipeline_stage::keyed::KeyColumns;
use pipeline_stage::{
    Format, Origins, RawRows, Result, Rows, SourceBatch, SourceRows, StageError, Timestamp, timestamp_type,
};

use crate::fixed_hash::fixed_hash;
use crate::store::{Beside, StoredRow};

/// Decodes the batches of one source for one task.
pub struct Decode {
    format: Option<Box<dyn Format>>,
    /// `source/partition`.
    place: Arc<str>,
    share: Option<Share>,
}

/// Which of a source's rows are this task's, when the source has no partitions of its own.
pub struct Share {
    /// This task's number.
    pub task: u32,
    /// How many there are.
    pub tasks: u32,
    /// The key whose hash decides.
    pub key: KeyColumns,
}

/// A batch after decoding.
pub struct DecodedRows {
    /// The good rows.
    pub rows: Rows,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// A payload that could not be decoded.
pub struct Rejected {
    /// Its offset.
    pub offset: u64,
    /// Why.
    pub reason: String,
    /// Its bytes; none for a tombstone.
    pub bytes: Option<Vec<u8>>,
    /// What stood beside it.
    pub beside: Beside,
}

impl Decode {
    /// `place` is `source/partition`.
    pub fn new(format: Option<Box<dyn Format>>, place: Arc<str>, share: Option<Share>) -> Self {
        Decode { format, place, share }
    }

    /// Decodes a batch and keeps this task's share.
    pub fn decode(&mut self, batch: SourceBatch) -> Result<DecodedRows> {
        let decoded = self.decode_all(batch)?;
        match &self.share {
            Some(share) => share.keep(decoded),
            None => Ok(decoded),
        }
    }

    fn decode_all(&mut self, batch: SourceBatch) -> Result<DecodedRows> {
        let raw = match batch.rows {
            SourceRows::Columns(rows) => return Ok(self.all_good(rows, batch.offsets.into())),
            SourceRows::Raw(raw) => raw,
        };
        let format =
            self.format.as_mut().ok_or_else(|| StageError::fatal("the source gives payloads, but has no format"))?;
        let decoded = format.decode(&raw, &batch.offsets)?;
        let rejected = decoded.rejected.into_iter().map(|(row, reason)| Rejected {
            offset: batch.offsets[row as usize],
            reason,
            bytes: value(&raw.payloads, row as usize),
            beside: beside(&raw, row as usize),
        });
        let rejected = rejected.collect();
        let offsets = match decoded.rows {
            Some(rows) => rows.into_iter().map(|row| batch.offsets[row as usize]).collect(),
            None => batch.offsets.into(),
        };
        let DecodedRows { rows, .. } = self.all_good(decoded.batch, offsets);
        Ok(DecodedRows { rows, rejected })
    }

    fn all_good(&self, batch: RecordBatch, offsets: Arc<[u64]>) -> DecodedRows {
        let origins = Origins::new(self.place.clone(), offsets);
        DecodedRows { rows: Rows { batch, origins }, rejected: Vec::new() }
    }

    /// Decodes a payload that was kept, as if it had been read at its first place.
    ///
    /// # Errors
    /// `Fatal` when this source gives no payloads, or the format cannot decode any with that header.
    pub fn decode_again(&mut self, row: &StoredRow) -> Result<DecodedRows> {
        let beside = row.beside.as_ref();
        let beside = beside.ok_or_else(|| StageError::fatal("it is a row with columns, a source takes payloads"))?;
        let time =
            beside.time.map(|time| TimestampMicrosecondArray::from(vec![time.0]).with_data_type(timestamp_type()));
        let raw = RawRows {
            payloads: BinaryArray::from_opt_vec(vec![row.bytes.as_deref()]),
            keys: beside.key.as_deref().map(|key| BinaryArray::from_vec(vec![key])),
            times: time,
            header: beside.header.as_deref().map(Arc::from),
            topic: beside.topic.as_str().into(),
            partition: beside.partition,
        };
        let mut decoded = self.decode_all(SourceBatch { rows: SourceRows::Raw(raw), offsets: vec![row.offset] })?;
        decoded.rows.origins.place = row.place.as_str().into();
        Ok(decoded)
    }
}

fn value(of: &BinaryArray, row: usize) -> Option<Vec<u8>> {
    of.is_valid(row).then(|| of.value(row).to_vec())
}

fn beside(raw: &RawRows, row: usize) -> Beside {
    let time = raw.times.as_ref().filter(|times| times.is_valid(row)).map(|times| Timestamp(times.value(row)));
    Beside {
        topic: raw.topic.to_string(),
        partition: raw.partition,
        key: raw.keys.as_ref().and_then(|keys| value(keys, row)),
        time,
        header: raw.header.as_deref().map(<[u8]>::to_vec),
    }
}

impl Share {
    fn keep(&self, decoded: DecodedRows) -> Result<DecodedRows> {
        let Rows { batch, origins } = decoded.rows;
        let keys = self.key.keys(&batch);
        let mine: BooleanArray = (0..keys.len()).map(|row| Some(self.is_mine(keys.key(row)))).collect();
        let origins = origins.take(&mine.values().set_indices().collect::<Vec<_>>());
        let rows = Rows { batch: filter_record_batch(&batch, &mine)?, origins };
        // What cannot be decoded has no key: its offset decides.
        let rejected = decoded.rejected.into_iter();
        let rejected = rejected.filter(|rejected| self.is_mine(&rejected.offset.to_le_bytes())).collect();
        Ok(DecodedRows { rows, rejected })
    }

    /// The same for ever: the hash of a key decides which task has its state.
    fn is_mine(&self, key: &[u8]) -> bool {
        fixed_hash(key) % u64::from(self.tasks) == u64::from(self.task)
    }
}
