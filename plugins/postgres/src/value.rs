//! Values of Arrow arrays in PostgreSQL's binary form, each with its length before it, as COPY and arrays take them.

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_stage::{ColumnType, EpochRows, Refused, Result, StageError, Timestamp};
use pipeline_tables::Place;

use crate::numeric;
use crate::target::{Form, Target};

/// PostgreSQL counts time from 2000 on.
const MICROS_1970_TO_2000: i64 = 946_684_800_000_000;
/// The first moment PostgreSQL has: 4714-11-24 BC, in microseconds from 2000. Its last one, in the year 294276, is
/// later than any that a row can have.
pub const FIRST_TIME: i64 = -211_813_488_000_000_000;
/// Up to here every whole number is a floating-point number of 64 bits.
const EXACT_IN_FLOAT8: u64 = 1 << 53;
/// The version of the binary form of jsonb.
const JSONB_VERSION: u8 = 1;
/// The length of a value that is not there.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// The columns of all batches of a commit, ready to be written row by row or column by column.
pub struct Values<'a> {
    /// By epoch, batch and target.
    fields: Vec<Vec<Vec<Field<'a>>>>,
}

impl<'a> Values<'a> {
    /// Looks at the batches as the targets take them.
    ///
    /// # Errors
    /// Of kind `Fatal` when a batch has other columns than the sink was built for.
    pub fn new(epochs: &'a [EpochRows], targets: &'a [Target]) -> Result<Self> {
        let mut fields = Vec::with_capacity(epochs.len());
        for epoch in epochs {
            let batches =
                epoch.batches().map(|(batch, _)| targets.iter().map(|target| Field::new(batch, target)).collect());
            fields.push(batches.collect::<Result<Vec<Vec<_>>>>()?);
        }
        Ok(Values { fields })
    }

    /// Takes the rows out that have no form in which the table would take them.
    pub fn take_refused(&self, rows: &mut Vec<Place>) -> Vec<Refused> {
        let mut refused = Vec::new();
        rows.retain(|place| match self.refusal(*place) {
            Some(why) => {
                refused.push(place.refused(why));
                false
            }
            None => true,
        });
        refused
    }

    /// Why a row can never be written; none when it can.
    fn refusal(&self, place: Place) -> Option<String> {
        self.row(place).iter().find_map(|field| field.refusal(place.row()))
    }

    /// Appends all values of a row that has no refusal.
    pub fn put_row(&self, place: Place, out: &mut Vec<u8>) {
        for field in self.row(place) {
            field.put(place.row(), out);
        }
    }

    /// Appends the value of one target in a row that has no refusal.
    pub fn put_value(&self, place: Place, target: usize, out: &mut Vec<u8>) {
        self.row(place)[target].put(place.row(), out);
    }

    fn row(&self, place: Place) -> &[Field<'a>] {
        &self.fields[place.epoch()][place.batch()]
    }
}

/// A column of a batch and how it is written.
struct Field<'a> {
    column: Column<'a>,
    target: &'a Target,
    /// Whether any text of the column holds a NUL; found in one go, because it is so rare.
    has_nul: bool,
}

enum Column<'a> {
    Text(&'a StringArray),
    Integer(&'a Int64Array),
    Float(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Time(&'a TimestampMicrosecondArray),
}

impl<'a> Field<'a> {
    fn new(batch: &'a RecordBatch, target: &'a Target) -> Result<Self> {
        let array = batch.column(target.position);
        let column = match ColumnType::of(array.data_type()) {
            Some(ColumnType::String) => Column::Text(array.as_string()),
            Some(ColumnType::Integer) => Column::Integer(array.as_primitive::<Int64Type>()),
            Some(ColumnType::Float) => Column::Float(array.as_primitive::<Float64Type>()),
            Some(ColumnType::Boolean) => Column::Boolean(array.as_boolean()),
            Some(ColumnType::Timestamp) => Column::Time(array.as_primitive::<TimestampMicrosecondType>()),
            None => return Err(StageError::fatal(format!("column `{}` came as {}", target.name, array.data_type()))),
        };
        let has_nul = matches!(&column, Column::Text(texts) if holds_nul(texts));
        Ok(Field { column, target, has_nul })
    }

    fn is_null(&self, row: usize) -> bool {
        match &self.column {
            Column::Text(values) => values.is_null(row),
            Column::Integer(values) => values.is_null(row),
            Column::Float(values) => values.is_null(row),
            Column::Boolean(values) => values.is_null(row),
            Column::Time(values) => values.is_null(row),
        }
    }

    fn refusal(&self, row: usize) -> Option<String> {
        let Target { name, form, .. } = self.target;
        if self.is_null(row) {
            return self.target.is_not_null.then(|| format!("column `{name}` must have a value and the row has none"));
        }
        match (&self.column, form) {
            (Column::Text(values), _) => self.text_refusal(values.value(row)),
            (Column::Integer(values), form) => {
                let value = values.value(row);
                let is_held = match form {
                    Form::Int2 => i16::try_from(value).is_ok(),
                    Form::Int4 => i32::try_from(value).is_ok(),
                    Form::Float8 => value.unsigned_abs() <= EXACT_IN_FLOAT8,
                    _ => true,
                };
                (!is_held).then(|| format!("column `{name}` of the table is too small for {value}"))
            }
            (Column::Float(values), form) => {
                let value = values.value(row);
                let is_held = match form {
                    Form::Float4 => is_held_by_float4(value),
                    Form::Numeric => !value.is_infinite(),
                    _ => true,
                };
                (!is_held).then(|| format!("column `{name}` of the table cannot hold {value:e}"))
            }
            (Column::Boolean(_), _) => None,
            (Column::Time(values), _) => {
                let micros = values.value(row);
                let is_held = since_2000(micros).is_some_and(|time| FIRST_TIME <= time);
                (!is_held).then(|| format!("column `{name}`: {} is before PostgreSQL's first day", Timestamp(micros)))
            }
        }
    }

    fn text_refusal(&self, text: &str) -> Option<String> {
        let name = &self.target.name;
        if self.has_nul && text.contains('\0') {
            return Some(format!("column `{name}`: the text holds a NUL character, which PostgreSQL cannot store"));
        }
        let Form::Text { limit: Some(limit) } = self.target.form else { return None };
        // A text has at least as many bytes as characters.
        let is_short = text.len() <= limit || text.chars().count() <= limit;
        (!is_short).then(|| {
            format!("column `{name}` of the table takes {limit} characters, the text has {}", text.chars().count())
        })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend(NULL);
            return;
        }
        match &self.column {
            Column::Text(values) => put_text(values.value(row), self.target.form, out),
            Column::Integer(values) => put_integer(values.value(row), self.target.form, out),
            Column::Float(values) => put_float(values.value(row), self.target.form, out),
            Column::Boolean(values) => put_sized(&[u8::from(values.value(row))], out),
            Column::Time(values) => {
                put_sized(&since_2000(values.value(row)).unwrap_or_default().to_be_bytes(), out);
            }
        }
    }
}

fn holds_nul(texts: &StringArray) -> bool {
    let offsets = texts.value_offsets();
    let (start, end) = (offsets[0] as usize, offsets[texts.len()] as usize);
    texts.value_data()[start..end].contains(&0)
}

/// PostgreSQL's number for a time; none for one before all that it has.
pub fn since_2000(micros_since_1970: i64) -> Option<i64> {
    micros_since_1970.checked_sub(MICROS_1970_TO_2000)
}

/// The other way round; its infinities are the last times of a row.
pub fn since_1970(micros_since_2000: i64) -> i64 {
    match micros_since_2000 {
        i64::MIN => i64::MIN,
        micros => micros.saturating_add(MICROS_1970_TO_2000),
    }
}

/// Digits are lost, as that type does; but no number becomes infinite or zero.
fn is_held_by_float4(value: f64) -> bool {
    let short = value as f32;
    short.is_infinite() == value.is_infinite() && (short == 0.0) == (value == 0.0)
}

fn put_text(text: &str, form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Jsonb => {
            out.extend((text.len() as i32 + 1).to_be_bytes());
            out.push(JSONB_VERSION);
            out.extend_from_slice(text.as_bytes());
        }
        _ => put_sized(text.as_bytes(), out),
    }
}

fn put_integer(value: i64, form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Int2 => put_sized(&(value as i16).to_be_bytes(), out),
        Form::Int4 => put_sized(&(value as i32).to_be_bytes(), out),
        Form::Float8 => put_sized(&(value as f64).to_be_bytes(), out),
        Form::Numeric => put_later_sized(out, |out| numeric::put_integer(value, out)),
        _ => put_sized(&value.to_be_bytes(), out),
    }
}

fn put_float(value: f64, form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Float4 => put_sized(&(value as f32).to_be_bytes(), out),
        Form::Numeric => put_later_sized(out, |out| numeric::put_float(value, out)),
        _ => put_sized(&value.to_be_bytes(), out),
    }
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_later_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    put(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
