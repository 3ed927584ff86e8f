//! Everything around a detector: which rows make a series, and what becomes of its scores.

mod key;
mod key_text;
mod options;
mod table;

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

pub use key::{KeyArray, KeyColumns, find_column, write_key};
pub use key_text::read_key;
pub use options::KeyedOptions;
use table::Table;

use crate::context::StageContext;
use crate::detector::{Detector, Reading, Score};
use crate::error::{Result, StageError};
use crate::position::Timestamp;
use crate::rows::ColumnType;
use crate::state::{SavedState, StateWriter};
use crate::transform::{Origin, Output, Transform};

/// The columns that every detector adds before its own statistic. `score` is 1.0 at the threshold; all but
/// `is_anomaly` are null while the detector has nothing to say; `lower` and `upper` also where nothing is too low or high.
pub const SCORE_COLUMNS: [&str; 5] = ["score", "is_anomaly", "expected", "lower", "upper"];

/// A detector for each series, as a transform: gives every row it takes, with the score columns added.
pub struct Keyed<D: Detector> {
    detector: D,
    key: KeyColumns,
    value: usize,
    time: Option<usize>,
    expire_after_micros: Option<i64>,
    schema: SchemaRef,
    table: Table<D::Series>,
    buffer: Vec<u8>,
}

impl<D: Detector> Keyed<D> {
    /// Checks the options against the columns that come in and restores the series.
    ///
    /// # Errors
    /// Of kind `Config` for options that do not fit the columns, `Fatal` for state that cannot be read.
    pub fn new(
        detector: D,
        options: KeyedOptions,
        context: &StageContext,
        inputs: &[SchemaRef],
        state: SavedState,
    ) -> Result<Self> {
        let input = inputs.first().ok_or_else(|| StageError::config("it has no input"))?;
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
        Ok(Keyed {
            key,
            value,
            time,
            expire_after_micros: options.expire_after.map(|span| span.0.as_micros().min(i64::MAX as u128) as i64),
            schema: with_scores(input, &options.prefix, detector.statistic())?,
            table: Table::restore(&state, detector.state_version(), options.max_series as usize, |series| {
                detector.adopt(series)
            })?,
            buffer: Vec::new(),
            detector,
        })
    }

    fn score(&mut self, keys: &[KeyArray<'_>], row: usize, reading: &Reading) -> Option<Score> {
        write_key(keys, row, &mut self.buffer);
        let slot = self.table.touch(&self.buffer, || self.detector.start());
        if is_expired(slot.last_at, reading.at, self.expire_after_micros) {
            slot.series = self.detector.start();
        }
        slot.last_at = reading.at;
        self.detector.observe(&mut slot.series, reading)
    }
}

impl<D: Detector> Transform for Keyed<D> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let key = self.key.clone();
        let keys = key.of(rows);
        let values = as_floats(rows.column(self.value));
        let times = self.time.map(|column| rows.column(column).as_primitive::<TimestampMicrosecondType>());
        let mut scores = ScoreColumns::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let at = times.and_then(|times| times.is_valid(row).then(|| Timestamp(times.value(row))));
            let score = match values(row) {
                Some(value) => self.score(&keys, row, &Reading { at, value }),
                None => None,
            };
            scores.push(score);
        }
        self.detector.check()?;
        let columns = rows.columns().iter().cloned().chain(scores.finish()).collect();
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Same);
        Ok(())
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        self.table.save(changes)
    }

    fn bytes_per_series(&self) -> Option<usize> {
        Some(self.detector.bytes_per_series())
    }
}

/// A series starts anew when the gap before its reading is longer than `expire_after`. Only its own readings count:
/// one reading with a time in the far future must not expire the others.
fn is_expired(last_at: Option<Timestamp>, at: Option<Timestamp>, expire_after_micros: Option<i64>) -> bool {
    match (last_at, at, expire_after_micros) {
        (Some(last_at), Some(at), Some(limit)) => limit < at.0.saturating_sub(last_at.0),
        _ => false,
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

fn with_scores(input: &Schema, prefix: &str, statistic: &str) -> Result<SchemaRef> {
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

/// The values of a numeric column as floats; none for null and for what is not finite.
fn as_floats(array: &ArrayRef) -> Box<dyn Fn(usize) -> Option<f64> + '_> {
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            Box::new(|row| values.is_valid(row).then(|| values.value(row) as f64))
        }
        _ => {
            let values = array.as_primitive::<Float64Type>();
            Box::new(|row| (values.is_valid(row) && values.value(row).is_finite()).then(|| values.value(row)))
        }
    }
}

/// Builds the columns a detector adds.
struct ScoreColumns {
    is_anomaly: BooleanBuilder,
    /// score, expected, lower, upper, statistic
    numbers: [Float64Builder; 5],
}

impl ScoreColumns {
    fn with_capacity(rows: usize) -> Self {
        ScoreColumns {
            is_anomaly: BooleanBuilder::with_capacity(rows),
            numbers: std::array::from_fn(|_| Float64Builder::with_capacity(rows)),
        }
    }

    fn push(&mut self, score: Option<Score>) {
        self.is_anomaly.append_value(score.is_some_and(|score| score.is_anomaly));
        let values = score.map(|s| [s.score, s.expected, s.lower, s.upper, s.statistic]);
        for (i, builder) in self.numbers.iter_mut().enumerate() {
            builder.append_option(values.map(|values| values[i]).filter(|value| value.is_finite()));
        }
    }

    fn finish(self) -> Vec<ArrayRef> {
        let ScoreColumns { mut is_anomaly, numbers } = self;
        let [score, expected, lower, upper, statistic] =
            numbers.map(|mut builder| -> ArrayRef { Arc::new(builder.finish()) });
        vec![score, Arc::new(is_anomaly.finish()), expected, lower, upper, statistic]
    }
}
