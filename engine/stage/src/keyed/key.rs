//! The columns of a key as bytes.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Schema};

use crate::error::{Result, StageError};
use crate::rows::ColumnType;
use crate::short_copy::SHORT;

/// The columns whose values make a series.
#[derive(Debug, Clone)]
pub struct KeyColumns {
    columns: Vec<usize>,
}

impl KeyColumns {
    /// Looks up the columns.
    ///
    /// # Errors
    /// Of kind `Config` when there is no such column or it has a type that no column has.
    pub fn new(names: &[String], schema: &Schema, option: &str) -> Result<Self> {
        let mut columns = Vec::new();
        for name in names {
            let column = find_column(schema, name).map_err(|error| error.at_option(option))?;
            let data_type = schema.field(column).data_type();
            if ColumnType::of(data_type).is_none() {
                return Err(StageError::config(format!(
                    "column `{name}` is {data_type}, which cannot be part of a key"
                ))
                .at_option(option));
            }
            columns.push(column);
        }
        Ok(KeyColumns { columns })
    }

    /// The columns of a batch that make its keys.
    pub(super) fn arrays<'a>(&self, batch: &'a RecordBatch) -> impl Iterator<Item = &'a ArrayRef> {
        self.columns.iter().map(|&column| batch.column(column))
    }

    /// The keys of the rows of a batch.
    pub fn keys(&self, batch: &RecordBatch) -> KeyBytes {
        let mut keys = KeyBytes::default();
        self.write_keys(batch, &mut keys);
        keys
    }

    /// Writes the keys of the rows of a batch where those of another one stand.
    pub(super) fn write_keys(&self, batch: &RecordBatch, keys: &mut KeyBytes) {
        let arrays: Vec<KeyArray<'_>> = self.arrays(batch).map(KeyArray::new).collect();
        let n_rows = batch.num_rows();
        // Most keys are of one text or two: in a loop of its own nothing is asked of each row.
        if !keys.write_texts::<1>(&arrays, n_rows) && !keys.write_texts::<2>(&arrays, n_rows) {
            keys.write(&arrays, n_rows, |row, bytes| {
                arrays.iter().fold(0, |end, array| end + array.put(row, &mut bytes[end..]))
            });
        }
    }
}

/// The keys of the rows of a batch, as bytes: for each column its null flag, and its value in a form that has one reading
/// only.
#[derive(Debug, Default)]
pub struct KeyBytes {
    /// One behind the other, and behind them anything.
    bytes: Vec<u8>,
    /// Where each begins, and where the last one ends.
    starts: Vec<usize>,
}

impl KeyBytes {
    /// Writes those of so many rows. `put` writes one and gives how many bytes it takes; what it leaves behind them is
    /// written over.
    #[inline(always)]
    fn write(&mut self, arrays: &[KeyArray<'_>], n_rows: usize, mut put: impl FnMut(usize, &mut [u8]) -> usize) {
        // Room for all of them, so that nothing is asked for each; with what the last short text may be written over its end.
        let size = arrays.iter().map(|array| array.size(n_rows)).sum::<usize>() + SHORT;
        if self.bytes.capacity() < size {
            // An allocator keeps memory of each size: there should be few. What is too small is given back before.
            self.bytes = Vec::new();
            self.bytes.reserve_exact(size.next_power_of_two());
        }
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        let (bytes, mut end) = (&mut self.bytes[..], 0);
        self.starts.clear();
        self.starts.push(0);
        self.starts.extend((0..n_rows).map(|row| {
            end += put(row, &mut bytes[end..]);
            end
        }));
    }

    /// Writes the keys of so many rows if they are of this number of texts, none of them null.
    fn write_texts<const N: usize>(&mut self, arrays: &[KeyArray<'_>], n_rows: usize) -> bool {
        let texts = arrays.iter().map(|array| match array {
            KeyArray { nulls: None, values: KeyValues::Text { ends, texts } } => Some((*ends, *texts)),
            _ => None,
        });
        let texts: Option<Vec<(&[i32], &[u8])>> = texts.collect();
        let Some(texts) = texts.and_then(|texts| <[_; N]>::try_from(texts).ok()) else { return false };
        self.write(arrays, n_rows, |row, bytes| {
            texts.iter().fold(0, |end, texts| end + put_text(*texts, row, &mut bytes[end..]))
        });
        true
    }

    /// The key of a row.
    #[inline]
    pub fn key(&self, row: usize) -> &[u8] {
        &self.bytes[self.starts[row]..self.starts[row + 1]]
    }

    /// How many rows they are of.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether they are of no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One column of the keys of a batch.
struct KeyArray<'a> {
    nulls: Option<&'a NullBuffer>,
    values: KeyValues<'a>,
}

enum KeyValues<'a> {
    Text { ends: &'a [i32], texts: &'a [u8] },
    Integers(&'a Int64Array),
    Floats(&'a Float64Array),
    Booleans(&'a BooleanArray),
    Times(&'a TimestampMicrosecondArray),
}

/// What stands before a text: that it is not null, and its length.
const HEAD: usize = 1 + size_of::<u32>();

/// A flag and a value that is no text.
const NUMBER: usize = 1 + size_of::<u64>();

impl<'a> KeyArray<'a> {
    fn new(array: &'a ArrayRef) -> Self {
        let values = match array.data_type() {
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                KeyValues::Text { ends: texts.value_offsets(), texts: texts.value_data() }
            }
            DataType::Int64 => KeyValues::Integers(array.as_primitive::<Int64Type>()),
            DataType::Float64 => KeyValues::Floats(array.as_primitive::<Float64Type>()),
            DataType::Boolean => KeyValues::Booleans(array.as_boolean()),
            _ => KeyValues::Times(array.as_primitive::<TimestampMicrosecondType>()),
        };
        KeyArray { nulls: array.nulls(), values }
    }

    /// How many bytes its part of the keys of all its rows takes at most.
    fn size(&self, n_rows: usize) -> usize {
        match self.values {
            KeyValues::Text { ends, .. } => n_rows * HEAD + (ends[n_rows] - ends[0]) as usize,
            _ => n_rows * NUMBER,
        }
    }

    /// Writes its part of a key, and gives how many bytes that takes; behind them anything may stand then.
    #[inline]
    fn put(&self, row: usize, bytes: &mut [u8]) -> usize {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            bytes[0] = 0;
            return 1;
        }
        let bits = match self.values {
            KeyValues::Text { ends, texts } => return put_text((ends, texts), row, bytes),
            KeyValues::Integers(values) => values.value(row) as u64,
            // -0.0 + 0.0 is 0.0: one series for both zeros.
            KeyValues::Floats(values) => (values.value(row) + 0.0).to_bits(),
            KeyValues::Booleans(values) => u64::from(values.value(row)),
            KeyValues::Times(values) => values.value(row) as u64,
        };
        bytes[0] = 1;
        bytes[1..NUMBER].copy_from_slice(&bits.to_le_bytes());
        NUMBER
    }
}

#[inline]
fn put_text((ends, texts): (&[i32], &[u8]), row: usize, bytes: &mut [u8]) -> usize {
    let part = ends[row] as usize..ends[row + 1] as usize;
    let (length, near) = (part.len(), texts.get(part.start..).and_then(<[u8]>::first_chunk::<SHORT>));
    match (near, bytes.first_chunk_mut::<{ HEAD + SHORT }>()) {
        // Of a known size: that needs no call.
        (Some(near), Some(bytes)) if length <= SHORT => {
            bytes[..HEAD].copy_from_slice(&head(length));
            bytes[HEAD..].copy_from_slice(near);
        }
        _ => put_long(&texts[part], bytes),
    }
    HEAD + length
}

#[inline(never)]
fn put_long(text: &[u8], bytes: &mut [u8]) {
    bytes[..HEAD].copy_from_slice(&head(text.len()));
    bytes[HEAD..HEAD + text.len()].copy_from_slice(text);
}

#[inline]
fn head(length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [1, a, b, c, d]
}

/// The position of a column.
///
/// # Errors
/// Of kind `Config`, with the columns there are, when there is none of that name.
pub fn find_column(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let columns: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| match ColumnType::of(field.data_type()) {
                Some(column_type) => format!("{} ({})", field.name(), column_type.name()),
                None => format!("{} ({})", field.name(), field.data_type()),
            })
            .collect();
        StageError::config(format!("there is no column `{name}`; there is {}", columns.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::StringArray;
    use arrow_schema::Field;

    use super::*;

    /// What a text is in a key.
    fn part_of(word: &str) -> Vec<u8> {
        [&[1], &(word.len() as u32).to_le_bytes()[..], word.as_bytes()].concat()
    }

    #[test]
    fn different_rows_have_different_keys() {
        let a = StringArray::from(vec![Some("a"), Some("ab"), None, Some(""), Some("a")]);
        let b = StringArray::from(vec![Some("bc"), Some("c"), Some("c"), None, Some("bc")]);
        let c = Int64Array::from(vec![1, 1, 1, 1, 1]);
        let schema = Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Int64, false),
        ]);
        let names = ["a".to_string(), "b".into(), "c".into()];
        let columns = KeyColumns::new(&names, &schema, "key").unwrap();
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(b), Arc::new(c)]).unwrap();
        let keys = columns.keys(&batch);
        assert_eq!((keys.len(), keys.key(0)), (5, keys.key(4)));
        for (i, j) in [(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)] {
            assert_ne!(keys.key(i), keys.key(j), "rows {i} and {j}");
        }
    }

    #[test]
    fn no_text_is_another_key_than_an_empty_one() {
        let words = || (0..100).map(|row| (row % 3 != 0).then(|| "x".repeat(row % 2)));
        let (some, all): (ArrayRef, ArrayRef) =
            (Arc::new(StringArray::from_iter(words())), Arc::new(StringArray::from_iter_values(words().flatten())));
        let batch = RecordBatch::try_from_iter([("some", some.slice(0, all.len())), ("all", all)]).unwrap();
        let of = |names: &[&str], batch: &RecordBatch| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            KeyColumns::new(&names, &batch.schema(), "key").unwrap().keys(batch)
        };
        // Of the last slice no row is null, though others of the same array are.
        for (from, length) in [(0, 60), (5, 20), (4, 2)] {
            let batch = batch.slice(from, length);
            let (one, two) = (of(&["some"], &batch), of(&["some", "all"], &batch));
            for row in 0..length {
                let right = words().nth(from + row).unwrap().map_or(vec![0], |word| part_of(&word));
                assert_eq!((one.key(row), &two.key(row)[..right.len()]), (&right[..], &right[..]), "{from} and {row}");
            }
        }
    }

    /// A key is what it was written as before: series are found by it in what was saved.
    #[test]
    fn texts_have_their_length_before_them_however_they_are_written() {
        let words: Vec<String> = (0..200).map(|row| "sensor-".repeat(6)[..row % 37].into()).collect();
        let numbers = Int64Array::from_iter_values(0..200);
        let arrays: [ArrayRef; 3] = [
            Arc::new(StringArray::from_iter_values(&words)),
            Arc::new(StringArray::from_iter_values(words.iter().rev())),
            Arc::new(numbers),
        ];
        let fields =
            ["a", "b", "c"].iter().zip(&arrays).map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), arrays.to_vec()).unwrap();
        for n_columns in 0..=3 {
            let names: Vec<String> = ["a", "b", "c"][..n_columns].iter().map(|name| name.to_string()).collect();
            for batch in [batch.clone(), batch.slice(3, 150), batch.slice(7, 0)] {
                let first = batch.column(2).as_primitive::<Int64Type>().values().first().copied().unwrap_or(0) as usize;
                let keys = KeyColumns::new(&names, &schema, "key").unwrap().keys(&batch);
                assert_eq!(keys.len(), batch.num_rows());
                for row in 0..keys.len() {
                    let number = [&[1][..], &((first + row) as i64).to_le_bytes()].concat();
                    let parts = [part_of(&words[first + row]), part_of(&words[199 - first - row]), number];
                    assert_eq!(keys.key(row), parts[..n_columns].concat(), "row {row} of {n_columns} columns");
                }
            }
        }
    }
}
