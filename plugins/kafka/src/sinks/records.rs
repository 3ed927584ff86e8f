//! Rows as Kafka records: a JSON object for each, and its key.

use std::fmt::Write;
use std::ops::Range;

use arrow::array::RecordBatch;
use pipeline_stage::{Cell, EpochRows, Refused, write_json_row};

/// What a broker adds to a record, at most: the header of a batch (61 bytes) and the lengths in front of the parts.
const OVERHEAD: usize = 128;

/// The records of several epochs of one task, in order.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    key: Option<Range<usize>>,
    payload: Range<usize>,
    /// Index into the epochs of the commit, index into that epoch's batches, row of that batch.
    place: (usize, usize, usize),
}

impl Records {
    /// Appends the rows of an epoch. `key` names the columns that make the key; none for no key.
    pub(crate) fn append(&mut self, epoch_idx: usize, epoch: &EpochRows, key: &[usize]) {
        let mut text = String::new();
        for (batch_idx, (batch, _)) in epoch.batches().enumerate() {
            for row in 0..batch.num_rows() {
                let start = self.bytes.len();
                write_json_row(batch, row, &mut self.bytes);
                let payload = start..self.bytes.len();
                let key = write_key(batch, row, key, &mut text).then(|| {
                    self.bytes.extend_from_slice(text.as_bytes());
                    payload.end..self.bytes.len()
                });
                self.records.push(Record { key, payload, place: (epoch_idx, batch_idx, row) });
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// A record's key and payload.
    pub(crate) fn get(&self, idx: usize) -> (Option<&[u8]>, &[u8]) {
        let record = &self.records[idx];
        (record.key.clone().map(|key| &self.bytes[key]), &self.bytes[record.payload.clone()])
    }

    /// Those that the topic cannot take.
    pub(crate) fn too_large(&self, max_bytes: usize) -> Vec<Refused> {
        let size = |record: &Record| record.payload.len() + record.key.as_ref().map_or(0, Range::len);
        let is_too_large = |record: &&Record| max_bytes < size(record) + OVERHEAD;
        let why = |record: &Record| {
            let bytes = size(record);
            format!("the row takes {bytes} bytes as JSON, the topic takes at most {max_bytes} (`max.message.bytes`)")
        };
        self.records.iter().filter(is_too_large).map(|record| record.refused(why(record))).collect()
    }

    /// A record that the broker has refused.
    pub(crate) fn refused(&self, idx: usize, why: String) -> Refused {
        self.records[idx].refused(why)
    }
}

impl Record {
    fn refused(&self, why: String) -> Refused {
        let (epoch, batch, row) = self.place;
        Refused { epoch, batch, row, why }
    }
}

/// The key of a row: the text of the column, or those of several, joined by `|`. False: it has none.
///
/// Several columns always make a key, so that a null in one of them does not scatter the series.
fn write_key(batch: &RecordBatch, row: usize, columns: &[usize], key: &mut String) -> bool {
    key.clear();
    for (idx, column) in columns.iter().enumerate() {
        if idx > 0 {
            key.push('|');
        }
        let written = match Cell::of(batch.column(*column), row) {
            Cell::Null if columns.len() == 1 => return false,
            Cell::Null => Ok(()),
            Cell::Text(text) => key.write_str(text),
            Cell::Integer(number) => write!(key, "{number}"),
            Cell::Float(number) => write!(key, "{number}"),
            Cell::Boolean(is_true) => write!(key, "{is_true}"),
            Cell::Time(time) => write!(key, "{time}"),
            Cell::Other(text) => key.write_str(&text),
        };
        written.expect("memory takes text");
    }
    !columns.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use pipeline_stage::{Mark, Origins, Rows};

    use super::*;

    fn epoch() -> EpochRows {
        let columns: [(&str, ArrayRef); 2] = [
            ("sensor_id", Arc::new(StringArray::from(vec![Some("a"), None, Some("a longer one")]))),
            ("count", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)));
        let origins = Origins::new("readings/0".into(), Arc::from([0, 1, 2]));
        let mark = Mark {
            pipeline: "iot".into(),
            sink: "out".into(),
            task: "0".into(),
            state_id: "s".into(),
            generation: 1,
            epoch: 1,
            positions: "{}".into(),
            detail: None,
        };
        EpochRows { mark, rows: vec![Rows { batch: batch.expect("a batch"), origins }] }
    }

    fn records(key: &[usize]) -> Vec<(Option<String>, String)> {
        let mut records = Records::default();
        records.append(0, &epoch(), key);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (0..records.len()).map(|idx| records.get(idx)).map(|(key, payload)| (key.map(text), text(payload))).collect()
    }

    #[test]
    fn keys_are_the_text_of_their_columns() {
        let payloads = [
            r#"{"sensor_id":"a","count":1}"#,
            r#"{"sensor_id":null,"count":2}"#,
            r#"{"sensor_id":"a longer one","count":3}"#,
        ];
        let cases: [(&[usize], [Option<&str>; 3]); 3] = [
            (&[], [None, None, None]),
            (&[0], [Some("a"), None, Some("a longer one")]),
            (&[0, 1], [Some("a|1"), Some("|2"), Some("a longer one|3")]),
        ];
        for (columns, keys) in cases {
            let expected: Vec<_> =
                keys.iter().zip(payloads).map(|(key, payload)| (key.map(str::to_owned), payload.to_owned())).collect();
            assert_eq!(records(columns), expected);
        }
    }

    #[test]
    fn rows_that_are_too_large_are_named() {
        let mut records = Records::default();
        records.append(4, &epoch(), &[]);
        let refused = records.too_large(OVERHEAD + 30);
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].epoch, refused[0].batch, refused[0].row), (4, 0, 2));
        assert_eq!(refused[0].why, "the row takes 38 bytes as JSON, the topic takes at most 158 (`max.message.bytes`)");
    }
}
