//! Declared columns being filled row by row: a row goes in as a whole, or is rejected with the reason.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use pipeline_stage::{
    Column, ColumnFrom, ColumnType, Decoded, FormatContext, Meta, RawRows, Result, StageError, Zone, schema_of,
};

use super::time::DayReader;
use super::value::{Found, Value, expected, value_of_field};

/// Decodes payloads with a function that reads one of them.
pub(super) struct Table {
    schema: SchemaRef,
    row: Row,
}

/// The values of one row while it is read. They go into the columns together, once all of them are good.
pub(super) struct Row {
    columns: Vec<Column>,
    /// Those that come from beside the payload.
    metas: Vec<(usize, Meta)>,
    zone: Zone,
    days: DayReader,
    values: Vec<Kept>,
    /// The texts of the row, one behind the other; kept over rows to save its memory.
    texts: String,
}

/// A value of the row; none where the payload has none.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Missing,
    Null,
    /// From where to where it stands in `texts`.
    Text(usize, usize),
    /// From where to where it stands in the payload, which is UTF-8 there.
    PayloadText(usize, usize),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(i64),
}

impl Table {
    /// Checks the declared columns.
    ///
    /// # Errors
    /// Of kind `Config` when there is none, or one that comes from beside the payload has another type than that.
    pub fn new(context: FormatContext) -> Result<Self> {
        if context.columns.is_empty() {
            return Err(StageError::config("`schema` declares no column, it must have at least one"));
        }
        for column in &context.columns {
            check_meta(column)?;
        }
        let values = vec![Kept::Missing; context.columns.len()];
        let schema = schema_of(&context.columns);
        let metas = context.columns.iter().enumerate().filter_map(|(idx, column)| match column.from {
            ColumnFrom::Meta(meta) => Some((idx, meta)),
            ColumnFrom::Field(_) => None,
        });
        let metas = metas.collect();
        let FormatContext { columns, zone } = context;
        Ok(Table {
            schema,
            row: Row { columns, metas, zone, days: DayReader::default(), values, texts: String::new() },
        })
    }

    /// The declared columns.
    pub fn columns(&self) -> &[Column] {
        &self.row.columns
    }

    /// The row, to be filled alone.
    #[cfg(test)]
    pub fn row(&mut self) -> &mut Row {
        self.row.clear();
        &mut self.row
    }

    /// Reads each payload with `read`, which sets the values that it finds.
    pub fn decode(
        &mut self,
        raw: &RawRows,
        offsets: &[u64],
        mut read: impl FnMut(&[u8], &mut Row) -> Result<(), String>,
    ) -> Result<Decoded> {
        let n_rows = raw.payloads.len();
        let mut builders: Vec<Builder> = self.row.columns.iter().map(|column| Builder::new(column, n_rows)).collect();
        let (mut good, mut rejected) = (Vec::with_capacity(n_rows), Vec::new());
        for idx in 0..n_rows {
            self.row.clear();
            let payload = payload_of(raw, idx);
            let filled = payload
                .map_err(str::to_owned)
                .and_then(|payload| read(payload, &mut self.row))
                .and_then(|()| self.row.set_meta(raw, offsets, idx))
                .and_then(|()| self.row.is_complete());
            match filled {
                Ok(()) => {
                    for (builder, value) in builders.iter_mut().zip(&self.row.values) {
                        builder.append(*value, self.row.texts.as_bytes(), payload.unwrap_or_default());
                    }
                    good.push(idx as u32);
                }
                Err(why) => rejected.push((idx as u32, why)),
            }
        }
        let columns = builders.into_iter().map(Builder::finish).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Decoded { batch, rows: (!rejected.is_empty()).then_some(good), rejected })
    }
}

fn payload_of(raw: &RawRows, idx: usize) -> Result<&[u8], &'static str> {
    match raw.payloads.is_null(idx) {
        true => Err("it has no payload (a tombstone)"),
        false => Ok(raw.payloads.value(idx)),
    }
}

/// The payload as text.
pub(super) fn text_of(payload: &[u8]) -> Result<&str, String> {
    if payload.trim_ascii().is_empty() {
        return Err("the payload is empty".into());
    }
    std::str::from_utf8(payload).map_err(|error| format!("the payload is not UTF-8 at byte {}", error.valid_up_to()))
}

impl Row {
    /// Forgets what was set.
    pub fn clear(&mut self) {
        self.values.fill(Kept::Missing);
        self.texts.clear();
    }

    /// Whether a column holds text.
    pub fn is_text(&self, column: usize) -> bool {
        self.columns[column].column_type == ColumnType::String
    }

    /// Sets a column to what the payload holds in its place.
    pub fn set_found(&mut self, column: usize, found: Found<'_>) -> Result<(), String> {
        let value = found.as_value(self.columns[column].column_type, self.zone);
        let value = value.map_err(|why| format!("{} {why}", describe(&self.columns[column])))?;
        self.set(column, value);
        Ok(())
    }

    /// Sets a column to a text that stands in the payload from `start` to `end`, and is UTF-8 there. None when the column
    /// cannot take it.
    pub fn set_payload_text(&mut self, column: usize, payload: &[u8], start: usize, end: usize) -> Option<()> {
        self.values[column] = match self.columns[column].column_type {
            ColumnType::String => Kept::PayloadText(start, end),
            ColumnType::Timestamp => Kept::Time(self.days.time(&payload[start..end], self.zone).ok()?),
            _ => return None,
        };
        Some(())
    }

    /// Sets a column to a text without a type.
    pub fn set_field(&mut self, column: usize, field: &str) -> Result<(), String> {
        let value = value_of_field(field, self.columns[column].column_type, self.zone);
        let value = value.map_err(|why| format!("{} {why}", describe(&self.columns[column])))?;
        self.set(column, value);
        Ok(())
    }

    /// Sets a column.
    pub fn set(&mut self, column: usize, value: Value<'_>) {
        self.values[column] = match value {
            Value::Null => Kept::Null,
            Value::Text(text) => {
                let start = self.texts.len();
                self.texts.push_str(text);
                Kept::Text(start, self.texts.len())
            }
            Value::Integer(number) => Kept::Integer(number),
            Value::Float(number) => Kept::Float(number),
            Value::Boolean(is_true) => Kept::Boolean(is_true),
            Value::Time(micros) => Kept::Time(micros),
        };
    }

    /// Sets the columns that come from beside the payload.
    fn set_meta(&mut self, raw: &RawRows, offsets: &[u64], idx: usize) -> Result<(), String> {
        for (column, meta) in self.metas.clone() {
            let value = match meta {
                Meta::Topic => Value::Text(&raw.topic),
                Meta::Partition => Value::Integer(i64::from(raw.partition)),
                Meta::Offset => Value::Integer(offsets[idx] as i64),
                Meta::Key => match raw.keys.as_ref().filter(|keys| keys.is_valid(idx)) {
                    Some(keys) => Value::Text(std::str::from_utf8(keys.value(idx)).map_err(|error| {
                        format!("{} is not UTF-8 at byte {}", describe(&self.columns[column]), error.valid_up_to())
                    })?),
                    None => Value::Null,
                },
                Meta::Time => match raw.times.as_ref().filter(|times| times.is_valid(idx)) {
                    Some(times) => Value::Time(times.value(idx)),
                    None => Value::Null,
                },
            };
            self.set(column, value);
        }
        Ok(())
    }

    /// Whether all columns that must have a value have one.
    fn is_complete(&self) -> Result<(), String> {
        for (column, value) in self.columns.iter().zip(&self.values) {
            let problem = match value {
                Kept::Missing => "is missing",
                Kept::Null => "is null",
                _ => continue,
            };
            if !column.nullable {
                let wanted = expected(column.column_type);
                return Err(format!("{} {problem}, it must be {wanted} (or `nullable: true`)", describe(column)));
            }
        }
        Ok(())
    }
}

/// ``column `value` ``, and where it comes from if that has another name.
pub(super) fn describe(column: &Column) -> String {
    match &column.from {
        ColumnFrom::Field(path) if path.len() == 1 && path[0] == column.name => format!("column `{}`", column.name),
        ColumnFrom::Field(path) => format!("column `{}` (from `{}`)", column.name, path.join(".")),
        ColumnFrom::Meta(meta) => format!("column `{}` (from {})", column.name, about(*meta).0),
    }
}

/// What it is, and the type that it has.
fn about(meta: Meta) -> (&'static str, ColumnType) {
    match meta {
        Meta::Topic => ("the topic or file", ColumnType::String),
        Meta::Partition => ("the partition's number", ColumnType::Integer),
        Meta::Offset => ("the row's offset", ColumnType::Integer),
        Meta::Key => ("the message's key", ColumnType::String),
        Meta::Time => ("the time at which it was written", ColumnType::Timestamp),
    }
}

fn check_meta(column: &Column) -> Result<()> {
    let ColumnFrom::Meta(meta) = column.from else { return Ok(()) };
    let (what, column_type) = about(meta);
    if column.column_type == column_type {
        return Ok(());
    }
    let (name, found, right) = (&column.name, column.column_type.name(), column_type.name());
    let message = format!("column `{name}` is declared as {found}, {what} needs {right}");
    Err(StageError::config(message).at_option(format!("schema.{name}")))
}

/// Builds one column.
enum Builder {
    Text(Texts),
    Integer(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(column: &Column, rows: usize) -> Self {
        match column.column_type {
            ColumnType::String => Builder::Text(Texts::with_capacity(rows)),
            ColumnType::Integer => Builder::Integer(Int64Builder::with_capacity(rows)),
            ColumnType::Float => Builder::Float(Float64Builder::with_capacity(rows)),
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Timestamp => Builder::Time(TimestampMicrosecondBuilder::with_capacity(rows)),
        }
    }

    fn append(&mut self, value: Kept, texts: &[u8], payload: &[u8]) {
        match (self, value) {
            (Builder::Text(column), Kept::Text(start, end)) => column.append(texts, start, end),
            (Builder::Text(column), Kept::PayloadText(start, end)) => column.append(payload, start, end),
            (Builder::Integer(column), Kept::Integer(number)) => column.append_value(number),
            (Builder::Float(column), Kept::Float(number)) => column.append_value(number),
            (Builder::Boolean(column), Kept::Boolean(is_true)) => column.append_value(is_true),
            (Builder::Time(column), Kept::Time(micros)) => column.append_value(micros),
            // The types agree: what is left is null and missing.
            (Builder::Text(column), _) => column.append_null(),
            (Builder::Integer(column), _) => column.append_null(),
            (Builder::Float(column), _) => column.append_null(),
            (Builder::Boolean(column), _) => column.append_null(),
            (Builder::Time(column), _) => column.append_null(),
        }
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Builder::Text(column) => Arc::new(column.finish()?),
            Builder::Integer(mut column) => Arc::new(column.finish()),
            Builder::Float(mut column) => Arc::new(column.finish()),
            Builder::Boolean(mut column) => Arc::new(column.finish()),
            Builder::Time(mut column) => Arc::new(column.finish().with_timezone("UTC")),
        })
    }
}

/// Texts in the making. That they are UTF-8 is checked once for all of them, at the end.
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// Most texts of sensors are not longer, in bytes.
const SHORT: usize = 16;

impl Texts {
    fn with_capacity(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        // Sensor ids, units: a dozen bytes; longer texts make it grow.
        Texts { bytes: Vec::with_capacity(12 * rows + SHORT), ends, nulls: NullBufferBuilder::new(rows) }
    }

    fn append(&mut self, source: &[u8], start: usize, end: usize) {
        match source.get(start..start + SHORT) {
            // A copy of a known size needs no call; what is too much is taken back.
            Some(more) if end - start <= SHORT => {
                let length = self.bytes.len() + (end - start);
                self.bytes.extend_from_slice(more);
                self.bytes.truncate(length);
            }
            _ => self.bytes.extend_from_slice(&source[start..end]),
        }
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_non_null();
    }

    fn append_null(&mut self) {
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_null();
    }

    fn finish(mut self) -> Result<StringArray> {
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(StageError::fatal("a batch has more than 2 GiB of text in one column"));
        }
        let ends = OffsetBuffer::new(self.ends.into());
        Ok(StringArray::try_new(ends, self.bytes.into(), self.nulls.finish())?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, TimestampMicrosecondArray};

    use super::*;
    use crate::formats::fixtures::{column, context, meta, raw_rows, row_of};

    fn beside_the_payload() -> Vec<Column> {
        vec![
            meta("topic", ColumnType::String, Meta::Topic),
            meta("partition", ColumnType::Integer, Meta::Partition),
            meta("offset", ColumnType::Integer, Meta::Offset),
            meta("key", ColumnType::String, Meta::Key),
            meta("time", ColumnType::Timestamp, Meta::Time),
        ]
    }

    #[test]
    fn columns_may_come_from_beside_the_payload() {
        let mut raw = raw_rows(&[Some(&b"x"[..]); 4]);
        raw.keys = Some(BinaryArray::from_iter([Some(&b"a"[..]), None, Some(b"\xff"), Some(b"d")]));
        raw.times = Some(TimestampMicrosecondArray::from(vec![Some(0), Some(0), Some(0), None]));
        let mut table = Table::new(context(beside_the_payload())).unwrap();
        let decoded = table.decode(&raw, &[10, 11, 12, 13], |_, _| Ok(())).unwrap();
        assert_eq!(row_of(&decoded.batch, 0), "readings 3 10 a 1970-01-01T00:00:00Z");
        let why: Vec<&str> = decoded.rejected.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(
            why,
            [
                "column `key` (from the message's key) is null, it must be text (or `nullable: true`)",
                "column `key` (from the message's key) is not UTF-8 at byte 0",
                "column `time` (from the time at which it was written) is null, it must be a time like \
                 `2025-07-20T08:19:16Z`, or seconds or milliseconds since 1970 (or `nullable: true`)",
            ]
        );
    }

    #[test]
    fn refuses_columns_of_the_wrong_type() {
        let wrong = vec![column("id", ColumnType::String), meta("n", ColumnType::String, Meta::Offset)];
        let error = Table::new(context(wrong)).err().unwrap();
        assert_eq!(error.to_string(), "column `n` is declared as string, the row's offset needs integer");
        assert_eq!(error.option(), Some("schema.n"));
        assert!(Table::new(context(vec![])).is_err());
    }
}
