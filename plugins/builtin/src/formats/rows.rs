//! Declared columns being filled row by row: a row goes in as a whole, or is rejected with the reason.

use std::ops::Range;

use arrow::array::{Array, BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use pipeline_stage::{
    Column, ColumnFrom, ColumnType, Decoded, FormatContext, Meta, RawRows, Result, StageError, Zone, schema_of,
};

use super::building::{Building, SHORT};
use super::time::DayReader;
use super::value::{Found, Value, expected, value_of_field};

/// Decodes payloads with what reads them.
pub(super) struct Table {
    schema: SchemaRef,
    row: Row,
}

/// What reads payloads into rows: sets the values that it finds.
pub(super) trait ReadRows {
    /// Reads one payload. The error says why it is rejected.
    fn read(&mut self, payload: &[u8], row: &mut Row) -> Result<(), String>;

    /// Whether to try `read_run`.
    fn expects_run(&self) -> bool {
        false
    }

    /// Reads the payloads of some rows, at most [`RUN`], column by column, and gives how many: the one behind them is left to
    /// `read`, and what of it and others has got into the columns is taken back. A column that has got nothing is null.
    fn read_run(&mut self, _payloads: &BinaryArray, _rows: Range<usize>, _row: &mut Row) -> usize {
        0
    }

    /// So many rows of the last run were good.
    fn after_run(&mut self, _n_good: usize) {}
}

impl<F: FnMut(&[u8], &mut Row) -> Result<(), String>> ReadRows for F {
    fn read(&mut self, payload: &[u8], row: &mut Row) -> Result<(), String> {
        self(payload, row)
    }
}

/// How many bytes a text has as long as none was seen: sensor ids, units.
const USUAL_TEXT: usize = 12;

/// For larger ones there is no room beforehand: one of them does not mean that all are.
const LONG_TEXT: usize = 256;

/// So many rows at most are read side by side: their payloads stay near the processor.
pub(super) const RUN: usize = 64;

/// A column, and all that reading a value for it needs.
pub(super) struct Making<'r> {
    pub building: &'r mut Building,
    pub column_type: ColumnType,
    pub is_nullable: bool,
    pub days: &'r mut DayReader,
    pub zone: Zone,
}

/// The row that is being read. Its values go to the ends of the columns at once, and are taken back if it is no good.
pub(super) struct Row {
    columns: Vec<Column>,
    /// Those that come from beside the payload, and of which part of that.
    metas: Vec<(usize, Meta, Option<usize>)>,
    zone: Zone,
    days: DayReader,
    building: Vec<Building>,
    /// How many bytes a text of each column took on average in the batch before.
    text_sizes: Vec<usize>,
    /// How many rows are complete.
    n_complete: usize,
    /// How many columns have something of this row.
    n_set: usize,
    /// The first column that must have a value, and has a null.
    wrong_null: Option<usize>,
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
        let schema = schema_of(&context.columns);
        let metas = context.columns.iter().enumerate().filter_map(|(idx, column)| match column.from {
            ColumnFrom::Meta(meta) => Some((idx, meta, None)),
            ColumnFrom::Part(meta, part) => Some((idx, meta, Some(part))),
            ColumnFrom::Field(_) => None,
        });
        let metas = metas.collect();
        let FormatContext { columns, zone } = context;
        let text_sizes = vec![USUAL_TEXT; columns.len()];
        let row = Row {
            columns,
            metas,
            zone,
            days: DayReader::default(),
            building: Vec::new(),
            text_sizes,
            n_complete: 0,
            n_set: 0,
            wrong_null: None,
        };
        Ok(Table { schema, row })
    }

    /// The declared columns.
    pub fn columns(&self) -> &[Column] {
        &self.row.columns
    }

    /// The row, to be filled alone.
    #[cfg(test)]
    pub fn row(&mut self) -> &mut Row {
        self.row.start(1);
        &mut self.row
    }

    /// Reads each payload.
    pub fn decode(&mut self, raw: &RawRows, offsets: &[u64], reader: &mut impl ReadRows) -> Result<Decoded> {
        let n_rows = raw.payloads.len();
        let row = &mut self.row;
        row.start(n_rows);
        let (mut good, mut rejected) = (Vec::with_capacity(n_rows), Vec::new());
        let mut idx = 0;
        while idx < n_rows {
            if reader.expects_run() {
                let rows = idx..idx + n_with_payload(raw, idx);
                let n_read = reader.read_run(&raw.payloads, rows.clone(), row);
                let n_good = row.complete_run(raw, offsets, idx, n_read);
                reader.after_run(n_good);
                good.extend(idx as u32..(idx + n_good) as u32);
                idx += n_good;
                if 0 < n_good && idx == rows.end {
                    continue;
                }
            }
            let filled = payload_of(raw, idx)
                .and_then(|payload| reader.read(payload, row))
                .and_then(|()| if row.metas.is_empty() { Ok(()) } else { row.set_meta(raw, offsets, idx) })
                .and_then(|()| row.complete());
            match filled {
                Ok(()) => good.push(idx as u32),
                Err(why) => {
                    row.take_back();
                    rejected.push((idx as u32, why));
                }
            }
            idx += 1;
        }
        let text_size = |building: &Building| building.n_bytes().div_ceil(good.len().max(1)).min(LONG_TEXT);
        row.text_sizes = row.building.iter().map(text_size).collect();
        let columns = std::mem::take(&mut row.building).into_iter().map(Building::finish).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Decoded { batch, rows: (!rejected.is_empty()).then_some(good), rejected })
    }
}

/// How many rows from there on have a payload, one after the other; as far as [`RUN`] rows.
fn n_with_payload(raw: &RawRows, idx: usize) -> usize {
    let end = raw.payloads.len().min(idx + RUN);
    match raw.payloads.nulls() {
        Some(nulls) => (idx..end).take_while(|idx| nulls.is_valid(*idx)).count(),
        None => end - idx,
    }
}

fn payload_of(raw: &RawRows, idx: usize) -> Result<&[u8], String> {
    match raw.payloads.is_null(idx) {
        true => Err("it has no payload (a tombstone)".into()),
        false => Ok(raw.payloads.value(idx)),
    }
}

/// The payload as text.
pub(super) fn text_of(payload: &[u8]) -> Result<&str, String> {
    match payload.trim_ascii().is_empty() {
        true => Err("the payload is empty".into()),
        false => checked(payload),
    }
}

/// The payload as text; it is not empty if it holds this byte, which says something though it may be a blank.
pub(super) fn text_between(payload: &[u8], delimiter: u8) -> Result<&str, String> {
    match payload.contains(&delimiter) {
        true => checked(payload),
        false => text_of(payload),
    }
}

fn checked(payload: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(payload).map_err(|error| format!("the payload is not UTF-8 at byte {}", error.valid_up_to()))
}

impl Row {
    /// Starts a batch.
    fn start(&mut self, rows: usize) {
        let building = self.columns.iter().zip(&self.text_sizes);
        // A little more than the average, as growing by a little means copying all; and a short copy may write over the end.
        let bytes = |size: &usize| (size + size / 8 + 1) * rows + SHORT;
        let building = building.map(|(column, size)| Building::new(column.column_type, rows, bytes(size)));
        self.building = building.collect();
        self.n_complete = 0;
        self.begin();
    }

    #[inline]
    fn begin(&mut self) {
        (self.n_set, self.wrong_null) = (0, None);
    }

    /// Takes back what was set in this row.
    pub fn take_back(&mut self) {
        self.building.iter_mut().for_each(|column| column.truncate(self.n_complete));
        self.begin();
    }

    /// The row has all its values, and the next one begins.
    #[inline]
    fn complete(&mut self) -> Result<(), String> {
        if self.n_set < self.columns.len() || self.wrong_null.is_some() {
            self.fill_in()?;
        }
        self.n_complete += 1;
        self.begin();
        Ok(())
    }

    /// Completes rows that were read side by side, so many of them from a place in the batch on; gives how many are good,
    /// and takes back the rest.
    fn complete_run(&mut self, raw: &RawRows, offsets: &[u64], first: usize, len: usize) -> usize {
        let (before, after) = (self.n_complete, self.n_complete + len);
        for (column, building) in self.columns.iter().zip(&mut self.building) {
            building.truncate(after);
            if building.len() < after && matches!(column.from, ColumnFrom::Field(_)) {
                if !column.nullable {
                    self.take_back();
                    return 0;
                }
                (0..len).for_each(|_| building.push_null());
            }
        }
        for idx in first..first + len {
            if !self.metas.is_empty() && (self.set_meta(raw, offsets, idx).is_err() || self.wrong_null.is_some()) {
                break;
            }
            self.n_complete += 1;
        }
        self.take_back();
        self.n_complete - before
    }

    /// Null for each column that has nothing, if it may be.
    fn fill_in(&mut self) -> Result<(), String> {
        for (idx, column) in self.columns.iter().enumerate() {
            let is_missing = self.building[idx].len() == self.n_complete;
            let problem = match is_missing {
                true if !column.nullable => "is missing",
                false if self.wrong_null == Some(idx) => "is null",
                _ => {
                    if is_missing {
                        self.building[idx].push_null();
                    }
                    continue;
                }
            };
            let wanted = expected(column.column_type);
            return Err(format!("{} {problem}, it must be {wanted} (or `nullable: true`)", describe(column)));
        }
        Ok(())
    }

    /// Whether a column holds text.
    pub fn is_text(&self, column: usize) -> bool {
        self.columns[column].column_type == ColumnType::String
    }

    /// Sets a column to what the payload holds in its place.
    #[inline]
    pub fn set_found(&mut self, column: usize, found: Found<'_>) -> Result<(), String> {
        // The usual ones first: what they become is known.
        match (&mut self.building[column], found) {
            (Building::Float(values), Found::Float(number)) => values.push(number),
            (Building::Float(values), Found::Unsigned(number)) => values.push(number as f64),
            (Building::Text(texts), Found::Text(text)) => texts.push(text.as_bytes(), 0, text.len()),
            _ => {
                let value = found.as_value(self.columns[column].column_type, self.zone);
                let value = value.map_err(|why| format!("{} {why}", describe(&self.columns[column])))?;
                self.set(column, value);
                return Ok(());
            }
        }
        self.n_set += 1;
        Ok(())
    }

    /// Sets a column with a function that reads the payload: it adds one value to the column, or gives none when the column
    /// cannot take what it finds.
    #[inline]
    pub fn set_with<T>(&mut self, column: usize, read: impl FnOnce(Making<'_>) -> Option<T>) -> Option<T> {
        debug_assert!(self.building[column].len() == self.n_complete, "a column has one value of a row");
        let read = read(self.making(column))?;
        self.n_set += 1;
        Some(read)
    }

    /// A column, to be read for many rows.
    #[inline]
    pub fn making(&mut self, column: usize) -> Making<'_> {
        Making {
            building: &mut self.building[column],
            column_type: self.columns[column].column_type,
            is_nullable: self.columns[column].nullable,
            days: &mut self.days,
            zone: self.zone,
        }
    }

    /// Sets a column to a text without a type.
    pub fn set_field(&mut self, column: usize, field: &str) -> Result<(), String> {
        let value = value_of_field(field, self.columns[column].column_type, self.zone);
        let value = value.map_err(|why| format!("{} {why}", describe(&self.columns[column])))?;
        self.set(column, value);
        Ok(())
    }

    /// Sets a column, which has nothing of this row yet, to a value of its type.
    pub fn set(&mut self, column: usize, value: Value<'_>) {
        debug_assert!(self.building[column].len() == self.n_complete, "a column has one value of a row");
        if value == Value::Null && !self.columns[column].nullable {
            self.wrong_null = Some(self.wrong_null.map_or(column, |first| first.min(column)));
        }
        self.building[column].push(value);
        self.n_set += 1;
    }

    /// Sets the columns that come from beside the payload.
    fn set_meta(&mut self, raw: &RawRows, offsets: &[u64], idx: usize) -> Result<(), String> {
        for idx_of_meta in 0..self.metas.len() {
            let (column, meta, part) = self.metas[idx_of_meta];
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
            match (value, part) {
                (Value::Text(text), Some(part)) => self.set_part(column, text, part)?,
                (value, _) => self.set(column, value),
            }
        }
        Ok(())
    }

    /// Sets a column to a part of a text; to null when it has fewer.
    fn set_part(&mut self, column: usize, text: &str, part: usize) -> Result<(), String> {
        match text.split('/').nth(part.saturating_sub(1)) {
            Some(part) => self.set_field(column, part),
            None => {
                self.set(column, Value::Null);
                Ok(())
            }
        }
    }
}

/// ``column `value` ``, and where it comes from if that has another name.
pub(super) fn describe(column: &Column) -> String {
    match &column.from {
        ColumnFrom::Field(path) if path.len() == 1 && path[0] == column.name => format!("column `{}`", column.name),
        ColumnFrom::Field(path) => format!("column `{}` (from `{}`)", column.name, path.join(".")),
        ColumnFrom::Meta(meta) => format!("column `{}` (from {})", column.name, about(*meta).0),
        ColumnFrom::Part(meta, part) => format!("column `{}` (from part {part} of {})", column.name, about(*meta).0),
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
        let decoded = table.decode(&raw, &[10, 11, 12, 13], &mut |_: &[u8], _: &mut Row| Ok(())).unwrap();
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
    fn a_column_may_be_a_part_of_a_topic() {
        let of_key = |name: &str, column_type, part| Column {
            from: ColumnFrom::Part(Meta::Key, part),
            ..column(name, column_type)
        };
        let columns = vec![
            of_key("hall", ColumnType::String, 2),
            of_key("rack", ColumnType::Integer, 3),
            Column { nullable: true, ..of_key("place", ColumnType::Float, 4) },
            Column { from: ColumnFrom::Part(Meta::Topic, 1), ..column("source", ColumnType::String) },
        ];
        let mut raw = raw_rows(&[Some(&b"x"[..]); 4]);
        let topics =
            [Some(&b"plant/north/7/1.5"[..]), Some(b"plant/north/7"), Some(b"plant/north"), Some(b"plant/a/x")];
        raw.keys = Some(BinaryArray::from_iter(topics));
        let mut table = Table::new(context(columns)).unwrap();
        let decoded = table.decode(&raw, &[10, 11, 12, 13], &mut |_: &[u8], _: &mut Row| Ok(())).unwrap();
        assert_eq!(row_of(&decoded.batch, 0), "north 7 1.5 readings");
        assert_eq!(row_of(&decoded.batch, 1), "north 7 null readings");
        let why: Vec<&str> = decoded.rejected.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(
            why,
            [
                "column `rack` (from part 3 of the message's key) is null, it must be a whole number (or \
                 `nullable: true`)",
                "column `rack` (from part 3 of the message's key) is `x`, it must be a whole number",
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
