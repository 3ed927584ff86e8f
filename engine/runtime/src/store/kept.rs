//! Rows of sources that cannot be read again: kept in the epoch log, as they came, until a checkpoint includes them.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BinaryBuilder, RecordBatch, TimestampMicrosecondArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use pipeline_stage::{RawRows, Result, SourceBatch, SourceRows, StageError, timestamp_type};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A batch as its source gave it, before decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBatch {
    /// The rows' offsets: each run is its first, and how many follow one another.
    runs: Vec<(u64, u64)>,
    rows: KeptRows,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum KeptRows {
    Raw(KeptPayloads),
    /// A stream of Arrow IPC.
    Columns(ByteBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptPayloads {
    payloads: Texts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Texts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<Vec<Option<i64>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<ByteBuf>,
    topic: String,
    partition: u32,
}

/// Byte strings one behind the other, and how long each is; none for null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Texts {
    bytes: ByteBuf,
    lengths: Vec<Option<u32>>,
}

impl KeptBatch {
    /// Copies a batch.
    pub fn new(batch: &SourceBatch) -> Result<Self> {
        let rows = match &batch.rows {
            SourceRows::Raw(raw) => KeptRows::Raw(KeptPayloads::new(raw)),
            SourceRows::Columns(rows) => KeptRows::Columns(ByteBuf::from(write_columns(rows)?)),
        };
        Ok(KeptBatch { runs: runs(&batch.offsets), rows })
    }

    /// About how many bytes it takes in the log.
    pub fn bytes(&self) -> usize {
        let rows = match &self.rows {
            KeptRows::Raw(raw) => raw.payloads.size() + raw.keys.as_ref().map_or(0, Texts::size),
            KeptRows::Columns(bytes) => bytes.len(),
        };
        rows + self.runs.len() * size_of::<(u64, u64)>()
    }

    /// The batch as it was.
    ///
    /// # Errors
    /// `Fatal` when a disk has spoilt it.
    pub fn batch(&self) -> Result<SourceBatch> {
        let rows = match &self.rows {
            KeptRows::Raw(raw) => SourceRows::Raw(raw.rows()?),
            KeptRows::Columns(bytes) => SourceRows::Columns(read_columns(bytes)?),
        };
        let n_rows = match &rows {
            SourceRows::Raw(raw) => raw.payloads.len(),
            SourceRows::Columns(rows) => rows.num_rows(),
        };
        // Counted before they are made: a number that was spoilt must not fill the memory.
        let counted = self.runs.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
        if counted != Some(n_rows as u64) {
            return Err(spoilt("it has another number of rows than of offsets"));
        }
        let offsets = self.runs.iter().flat_map(|(first, count)| (0..*count).map(|nth| first.wrapping_add(nth)));
        Ok(SourceBatch { rows, offsets: offsets.collect() })
    }
}

fn runs(offsets: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(*offset) => *count += 1,
            _ => runs.push((*offset, 1)),
        }
    }
    runs
}

impl KeptPayloads {
    fn new(raw: &RawRows) -> Self {
        KeptPayloads {
            payloads: Texts::new(&raw.payloads),
            keys: raw.keys.as_ref().map(Texts::new),
            times: raw.times.as_ref().map(|times| times.iter().collect()),
            header: raw.header.as_deref().map(ByteBuf::from),
            topic: raw.topic.to_string(),
            partition: raw.partition,
        }
    }

    fn rows(&self) -> Result<RawRows> {
        let times = self.times.clone();
        Ok(RawRows {
            payloads: self.payloads.array()?,
            keys: self.keys.as_ref().map(Texts::array).transpose()?,
            times: times.map(|times| TimestampMicrosecondArray::from(times).with_data_type(timestamp_type())),
            header: self.header.as_ref().map(|header| Arc::from(header.as_slice())),
            topic: self.topic.as_str().into(),
            partition: self.partition,
        })
    }
}

impl Texts {
    fn new(array: &BinaryArray) -> Self {
        let mut bytes = Vec::with_capacity(array.value_data().len());
        let lengths = array.iter().map(|text| {
            let text = text?;
            bytes.extend_from_slice(text);
            // An array of this type holds less than 2 GiB.
            Some(text.len() as u32)
        });
        let lengths = lengths.collect();
        Texts { bytes: ByteBuf::from(bytes), lengths }
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.lengths.len()
    }

    fn array(&self) -> Result<BinaryArray> {
        let mut array = BinaryBuilder::with_capacity(self.lengths.len(), self.bytes.len());
        let mut rest = self.bytes.as_slice();
        for length in &self.lengths {
            let Some(length) = length else {
                array.append_null();
                continue;
            };
            let (text, behind) = rest.split_at_checked(*length as usize).ok_or_else(|| spoilt("it is cut off"))?;
            array.append_value(text);
            rest = behind;
        }
        Ok(array.finish())
    }
}

fn write_columns(rows: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

fn read_columns(bytes: &[u8]) -> Result<RecordBatch> {
    let mut batches = StreamReader::try_new(bytes, None).map_err(spoilt)?;
    batches.next().ok_or_else(|| spoilt("it is empty"))?.map_err(spoilt)
}

fn spoilt(why: impl ToString) -> StageError {
    StageError::fatal(format!("a batch that the epoch log kept cannot be read: {}", why.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;
    use pipeline_stage::{decode, encode};

    use super::*;

    fn through_the_log(batch: &SourceBatch) -> SourceBatch {
        let mut bytes = Vec::new();
        encode(&KeptBatch::new(batch).unwrap(), &mut bytes).unwrap();
        decode::<KeptBatch>(&bytes).unwrap().batch().unwrap()
    }

    #[test]
    fn payloads_come_back_with_all_that_stood_beside_them() {
        let payloads = BinaryArray::from_opt_vec(vec![Some(b"\xffone".as_slice()), None, Some(b"")]);
        let raw = RawRows {
            payloads: payloads.slice(0, 3),
            keys: Some(BinaryArray::from_opt_vec(vec![None, Some(b"key".as_slice()), None])),
            times: Some(TimestampMicrosecondArray::from(vec![Some(5), None, Some(-7)]).with_timezone("UTC")),
            header: Some(Arc::from(b"a,b".as_slice())),
            topic: "plant/7".into(),
            partition: 3,
        };
        let offsets = vec![7, 8, u64::MAX];
        let kept = through_the_log(&SourceBatch { rows: SourceRows::Raw(raw.clone()), offsets: offsets.clone() });
        assert_eq!(kept.offsets, offsets);
        let SourceRows::Raw(found) = kept.rows else { panic!("payloads became columns") };
        assert_eq!((found.payloads, found.keys, found.times), (raw.payloads, raw.keys, raw.times));
        assert_eq!((found.header, found.topic, found.partition), (raw.header, raw.topic, raw.partition));
    }

    #[test]
    fn a_slice_keeps_its_own_rows_only() {
        let all = BinaryArray::from_vec((0..100).map(|_| b"0123456789".as_slice()).collect());
        let raw = RawRows { payloads: all.slice(40, 2), ..RawRows::of_payloads(Vec::<&[u8]>::new()) };
        let kept = KeptBatch::new(&SourceBatch { rows: SourceRows::Raw(raw), offsets: vec![1, 2] }).unwrap();
        assert!(kept.bytes() < 50, "{}", kept.bytes());
    }

    #[test]
    fn columns_come_back() {
        let column = Arc::new(Float64Array::from(vec![Some(1.5), None]));
        let rows = RecordBatch::try_from_iter([("value", column as Arc<dyn Array>)]).unwrap();
        let batch = SourceBatch { rows: SourceRows::Columns(rows.clone()), offsets: vec![3, 9] };
        let kept = through_the_log(&batch);
        assert_eq!(kept.offsets, [3, 9]);
        let SourceRows::Columns(found) = kept.rows else { panic!("columns became payloads") };
        assert_eq!(found, rows);
    }

    #[test]
    fn what_a_disk_has_spoilt_is_an_error() {
        let rows = RawRows::of_payloads(vec!["one", "two"]);
        let kept = KeptBatch::new(&SourceBatch { rows: SourceRows::Raw(rows), offsets: vec![1, 2] }).unwrap();
        let other_count = KeptBatch { runs: vec![(1, u64::MAX), (2, 7)], ..kept.clone() };
        assert!(other_count.batch().unwrap_err().to_string().contains("number of rows"));
        let KeptRows::Raw(mut payloads) = kept.rows else { panic!("payloads became columns") };
        payloads.payloads.bytes.truncate(4);
        let cut_off = KeptBatch { runs: kept.runs.clone(), rows: KeptRows::Raw(payloads) };
        assert!(cut_off.batch().unwrap_err().to_string().contains("cut off"));
        let no_columns = KeptBatch { runs: kept.runs, rows: KeptRows::Columns(ByteBuf::from(vec![1, 2])) };
        assert!(no_columns.batch().is_err());
    }
}
