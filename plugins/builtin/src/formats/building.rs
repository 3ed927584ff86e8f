//! Columns in the making: a value at the end is added, or taken back when its row turns out to be no good.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer};
use pipeline_stage::{ColumnType, Result, StageError, extend_from_first, extend_from_part, timestamp_type};

use super::value::Value;

/// One column in the making.
pub(crate) enum Building {
    Text(Texts),
    Integer(Values<i64>),
    Float(Values<f64>),
    Boolean(Booleans),
    /// Microseconds since 1970.
    Time(Values<i64>),
}

impl Building {
    /// One that is empty, with room for so many rows, and for so many bytes if it is of text.
    pub fn new(column_type: ColumnType, rows: usize, bytes: usize) -> Self {
        match column_type {
            ColumnType::String => Building::Text(Texts::with_capacity(rows, bytes)),
            ColumnType::Integer => Building::Integer(Values::with_capacity(rows)),
            ColumnType::Float => Building::Float(Values::with_capacity(rows)),
            ColumnType::Boolean => Building::Boolean(Booleans::with_capacity(rows)),
            ColumnType::Timestamp => Building::Time(Values::with_capacity(rows)),
        }
    }

    /// Adds a value of the column's type; what is none is null.
    pub fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Building::Text(texts), Value::Text(text)) => texts.push(text.as_bytes(), 0, text.len()),
            (Building::Integer(values), Value::Integer(number)) => values.push(number),
            (Building::Float(values), Value::Float(number)) => values.push(number),
            (Building::Boolean(values), Value::Boolean(is_true)) => values.push(is_true),
            (Building::Time(values), Value::Time(micros)) => values.push(micros),
            (building, _) => building.push_null(),
        }
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        match self {
            Building::Text(column) => column.push_null(),
            Building::Integer(column) | Building::Time(column) => column.push_null(),
            Building::Float(column) => column.push_null(),
            Building::Boolean(column) => column.push_null(),
        }
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Building::Text(column) => column.ends.len() - 1,
            Building::Integer(column) | Building::Time(column) => column.values.len(),
            Building::Float(column) => column.values.len(),
            Building::Boolean(column) => column.values.len(),
        }
    }

    /// How many bytes of text it has.
    pub fn n_bytes(&self) -> usize {
        match self {
            Building::Text(column) => column.bytes.len(),
            _ => 0,
        }
    }

    /// Takes back all but so many rows.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Building::Text(column) => column.truncate(rows),
            Building::Integer(column) | Building::Time(column) => column.truncate(rows),
            Building::Float(column) => column.truncate(rows),
            Building::Boolean(column) => column.truncate(rows),
        }
    }

    /// The column.
    ///
    /// # Errors
    /// `Fatal` for more text than one column of a batch can hold.
    pub fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Building::Text(column) => Arc::new(column.finish()?),
            Building::Integer(column) => {
                let nulls = column.nulls.finish(column.values.len());
                Arc::new(Int64Array::new(column.values.into(), nulls))
            }
            Building::Float(column) => {
                let nulls = column.nulls.finish(column.values.len());
                Arc::new(Float64Array::new(column.values.into(), nulls))
            }
            Building::Time(column) => {
                let nulls = column.nulls.finish(column.values.len());
                let times = TimestampMicrosecondArray::new(column.values.into(), nulls);
                Arc::new(times.with_data_type(timestamp_type()))
            }
            Building::Boolean(mut column) => {
                let nulls = column.nulls.finish(column.values.len());
                Arc::new(BooleanArray::new(column.values.finish(), nulls))
            }
        })
    }
}

/// Which rows of a column are null: most columns have none, and a value costs nothing here.
#[derive(Default)]
struct Nulls(Vec<usize>);

impl Nulls {
    fn push(&mut self, row: usize) {
        self.0.push(row);
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(self.0.partition_point(|row| *row < rows));
    }

    fn finish(self, rows: usize) -> Option<NullBuffer> {
        if self.0.is_empty() {
            return None;
        }
        let mut are_valid = BooleanBufferBuilder::new(rows);
        are_valid.append_n(rows, true);
        self.0.iter().for_each(|row| are_valid.set_bit(*row, false));
        Some(NullBuffer::new(are_valid.finish()))
    }
}

/// Numbers.
pub(crate) struct Values<T> {
    values: Vec<T>,
    nulls: Nulls,
}

impl<T: Default> Values<T> {
    fn with_capacity(rows: usize) -> Self {
        Values { values: Vec::with_capacity(rows), nulls: Nulls::default() }
    }

    #[inline]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
    }

    fn push_null(&mut self) {
        self.nulls.push(self.values.len());
        self.values.push(T::default());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
}

/// Booleans.
pub(crate) struct Booleans {
    values: BooleanBufferBuilder,
    nulls: Nulls,
}

impl Booleans {
    fn with_capacity(rows: usize) -> Self {
        Booleans { values: BooleanBufferBuilder::new(rows), nulls: Nulls::default() }
    }

    pub fn push(&mut self, value: bool) {
        self.values.append(value);
    }

    fn push_null(&mut self) {
        self.nulls.push(self.values.len());
        self.values.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
}

/// Texts up to this many bytes are copied as if they had as many.
pub(crate) const SHORT: usize = 32;

/// Texts. That they are UTF-8 is checked once for all of them, at the end.
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, after a 0.
    ends: Vec<i32>,
    nulls: Nulls,
}

impl Texts {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Texts { bytes: Vec::with_capacity(bytes), ends, nulls: Nulls::default() }
    }

    /// Adds the text that stands in `source` from `start` to `end`.
    #[inline]
    pub fn push(&mut self, source: &[u8], start: usize, end: usize) {
        extend_from_part(&mut self.bytes, source, start..end);
        self.ends.push(self.bytes.len() as i32);
    }

    /// Adds the text that the first bytes are, so many of them.
    #[inline]
    pub fn push_short(&mut self, bytes: &[u8; SHORT], length: usize) {
        extend_from_first(&mut self.bytes, bytes, length);
        self.ends.push(self.bytes.len() as i32);
    }

    fn push_null(&mut self) {
        self.nulls.push(self.ends.len() - 1);
        self.ends.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(&end) = self.ends.get(rows) {
            self.bytes.truncate(end as usize);
            self.ends.truncate(rows + 1);
            self.nulls.truncate(rows);
        }
    }

    fn finish(self) -> Result<StringArray> {
        let Texts { bytes, ends, nulls } = self;
        if i32::try_from(bytes.len()).is_err() {
            return Err(StageError::fatal("a batch has more than 2 GiB of text in one column"));
        }
        let nulls = nulls.finish(ends.len() - 1);
        Ok(StringArray::try_new(OffsetBuffer::new(ends.into()), bytes.into(), nulls)?)
    }
}
