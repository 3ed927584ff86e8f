//! The columns of a detector's input that matter to it, checked once and read for every batch.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::key::{KeyColumns, find_column};
use super::{KeyedOptions, SCORE_COLUMNS};
use crate::context::StageContext;
use crate::error::{Result, StageError};
use crate::position::Timestamp;
use crate::rows::ColumnType;

/// Where key, value and time stand, and when a series starts anew.
#[derive(Debug, Clone)]
pub(super) struct SeriesColumns {
    /// What makes the key of a row.
    pub key: KeyColumns,
    value: usize,
    time: Option<usize>,
    expire_after_micros: Option<i64>,
}

/// The same columns of one batch.
pub(super) struct SeriesArrays<'a> {
    /// The value of each row; not finite where there is none.
    values: Cow<'a, [f64]>,
    times: Option<&'a TimestampMicrosecondArray>,
}

impl SeriesColumns {
    /// Checks the options against the columns that come in.
    ///
    /// # Errors
    /// Of kind `Config`.
    pub fn new(options: &KeyedOptions, context: &StageContext, input: &Schema) -> Result<Self> {
        let key = KeyColumns::new(options.key.as_ref().unwrap_or(&context.key), input, "key")?;
        let value = numeric_column(input, &options.value)?;
        let time = options.time.as_deref().map(|name| time_column(input, name)).transpose()?;
        if options.expire_after.is_some() && time.is_none() {
            let message = "`expire_after` counts event time: it needs `time`, the column that holds it";
            return Err(StageError::config(message).at_option("expire_after"));
        }
        if options.expire_after.is_some_and(|span| span.0.is_zero()) {
            let message = "`expire_after` is 0, it must be above 0: every series would start anew at each reading";
            return Err(StageError::config(message).at_option("expire_after"));
        }
        let expire_after_micros = options.expire_after.map(|span| span.0.as_micros().min(i64::MAX as u128) as i64);
        Ok(SeriesColumns { key, value, time, expire_after_micros })
    }

    /// Whether the rows have event times.
    pub fn has_times(&self) -> bool {
        self.time.is_some()
    }

    /// The arrays of a batch.
    pub fn of<'a>(&self, rows: &'a RecordBatch) -> SeriesArrays<'a> {
        SeriesArrays {
            values: as_floats(rows.column(self.value)),
            times: self.time.map(|column| rows.column(column).as_primitive::<TimestampMicrosecondType>()),
        }
    }

    /// A series starts anew when the gap before its reading is longer than `expire_after`. Only its own readings count:
    /// one reading with a time in the far future must not expire the others.
    #[inline]
    pub fn is_expired(&self, last_at: Option<Timestamp>, at: Option<Timestamp>) -> bool {
        match (last_at, at, self.expire_after_micros) {
            (Some(last_at), Some(at), Some(limit)) => limit < at.0.saturating_sub(last_at.0),
            _ => false,
        }
    }
}

impl SeriesArrays<'_> {
    /// The value of a row; none for null and for what is not finite.
    #[inline]
    pub fn value(&self, row: usize) -> Option<f64> {
        Some(self.values[row]).filter(|value| value.is_finite())
    }

    /// The event time of a row, if it has one.
    #[inline]
    pub fn at(&self, row: usize) -> Option<Timestamp> {
        self.times.and_then(|times| times.is_valid(row).then(|| Timestamp(times.value(row))))
    }
}

fn numeric_column(schema: &Schema, name: &str) -> Result<usize> {
    let column = find_column(schema, name).map_err(|error| error.at_option("value"))?;
    match schema.field(column).data_type() {
        DataType::Float64 | DataType::Int64 => Ok(column),
        other => Err(wrong_type(name, other, "a float or an integer").at_option("value")),
    }
}

fn time_column(schema: &Schema, name: &str) -> Result<usize> {
    let column = find_column(schema, name).map_err(|error| error.at_option("time"))?;
    match ColumnType::of(schema.field(column).data_type()) {
        Some(ColumnType::Timestamp) => Ok(column),
        _ => Err(wrong_type(name, schema.field(column).data_type(), "a timestamp").at_option("time")),
    }
}

fn wrong_type(name: &str, found: &DataType, expected: &str) -> StageError {
    let found = ColumnType::of(found).map_or_else(|| found.to_string(), |column_type| column_type.name().into());
    StageError::config(format!("column `{name}` is a {found}, it must be {expected}"))
}

/// The columns that come in and those that the detector adds.
pub(super) fn with_scores(input: &Schema, prefix: &str, statistic: &str) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = input.fields().iter().map(|field| field.as_ref().clone()).collect();
    for name in SCORE_COLUMNS.into_iter().chain([statistic]) {
        let name = format!("{prefix}{name}");
        if input.index_of(&name).is_ok() {
            let message =
                format!("there is a column `{name}` already; with `prefix: second_` the new one is `second_{name}`");
            return Err(StageError::config(message).at_option("prefix"));
        }
        fields.push(match name.ends_with("is_anomaly") {
            true => Field::new(name, DataType::Boolean, false),
            false => Field::new(name, DataType::Float64, true),
        });
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The values of a numeric column as floats; NaN for null.
fn as_floats(array: &ArrayRef) -> Cow<'_, [f64]> {
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            Cow::Owned(values.iter().map(|value| value.map_or(f64::NAN, |value| value as f64)).collect())
        }
        _ => {
            let values = array.as_primitive::<Float64Type>();
            match values.null_count() {
                0 => Cow::Borrowed(values.values()),
                _ => Cow::Owned(values.iter().map(|value| value.unwrap_or(f64::NAN)).collect()),
            }
        }
    }
}
