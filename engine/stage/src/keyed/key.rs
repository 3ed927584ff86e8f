//! The columns of a key as bytes.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
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
        let arrays: Vec<KeyArray<'_>> = self.arrays(batch).map(KeyArray::new).collect();
        let size: usize = arrays.iter().map(|array| array.size(batch.num_rows())).sum();
        let mut keys =
            KeyBytes { bytes: vec![0; size + HEAD + SHORT], starts: Vec::with_capacity(batch.num_rows() + 1) };
        let mut at = 0;
        keys.starts.push(at);
        for row in 0..batch.num_rows() {
            for array in &arrays {
                at += array.put(row, &mut keys.bytes[at..]);
            }
            keys.starts.push(at);
        }
        keys
    }
}

/// The keys of the rows of a batch, as bytes: for each column its null flag, and its value in a form that has one reading
/// only.
#[derive(Debug)]
pub struct KeyBytes {
    /// One behind the other, and some room.
    bytes: Vec<u8>,
    /// Where each begins, and where the last one ends.
    starts: Vec<usize>,
}

impl KeyBytes {
    /// The key of a row.
    #[inline]
    pub fn key(&self, row: usize) -> &[u8] {
        &self.bytes[self.starts[row]..self.starts[row + 1]]
    }

    /// How many rows they are of.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
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
    Text(&'a StringArray),
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
            DataType::Utf8 => KeyValues::Text(array.as_string::<i32>()),
            DataType::Int64 => KeyValues::Integers(array.as_primitive::<Int64Type>()),
            DataType::Float64 => KeyValues::Floats(array.as_primitive::<Float64Type>()),
            DataType::Boolean => KeyValues::Booleans(array.as_boolean()),
            _ => KeyValues::Times(array.as_primitive::<TimestampMicrosecondType>()),
        };
        KeyArray { nulls: array.nulls(), values }
    }

    /// How many bytes its part of all keys takes at most.
    fn size(&self, n_rows: usize) -> usize {
        match self.values {
            KeyValues::Text(texts) => {
                let offsets = texts.value_offsets();
                n_rows * HEAD + (offsets[n_rows] - offsets[0]) as usize
            }
            _ => n_rows * NUMBER,
        }
    }

    /// Writes its part of a key, and gives how many bytes that is; more may be written over.
    #[inline]
    fn put(&self, row: usize, room: &mut [u8]) -> usize {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            room[0] = 0;
            return 1;
        }
        let bits = match self.values {
            KeyValues::Text(texts) => {
                let offsets = texts.value_offsets();
                return put_text(texts.value_data(), offsets[row] as usize..offsets[row + 1] as usize, room);
            }
            KeyValues::Integers(values) => values.value(row) as u64,
            // -0.0 + 0.0 is 0.0: one series for both zeros.
            KeyValues::Floats(values) => (values.value(row) + 0.0).to_bits(),
            KeyValues::Booleans(values) => u64::from(values.value(row)),
            KeyValues::Times(values) => values.value(row) as u64,
        };
        room[0] = 1;
        room[1..NUMBER].copy_from_slice(&bits.to_le_bytes());
        NUMBER
    }
}

#[inline]
fn put_text(source: &[u8], part: Range<usize>, room: &mut [u8]) -> usize {
    let length = part.len();
    room[0] = 1;
    room[1..HEAD].copy_from_slice(&(length as u32).to_le_bytes());
    match (room.get_mut(HEAD..HEAD + SHORT), source.get(part.start..part.start + SHORT)) {
        (Some(room), Some(text)) if length <= SHORT => room.copy_from_slice(text),
        _ => room[HEAD..HEAD + length].copy_from_slice(&source[part]),
    }
    HEAD + length
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

    use arrow_schema::Field;

    use super::*;

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
}
