//! Rows made from the schema of a source: readings of so many series in random order, a hundredth of them spikes.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use fastrand::Rng;
use pipeline_stage::{ColumnFrom, Format, Meta, Result, SourceRows, StageError, timestamp_type};

use super::BATCH_ROWS;
use crate::plan::Plan;

/// The most rows that are made; more are these again.
const MAX_MADE: u64 = 1 << 21;

/// Times begin at 2025-06-01T00:00:00Z, and a row comes each millisecond.
const FIRST_MICROS: i64 = 1_748_736_000_000_000;

/// How many values the columns of a key but the first have: metrics of a sensor, say.
const METRICS: u64 = 3;

/// Makes rows.
pub(super) struct Made {
    schema: SchemaRef,
    id: String,
    /// For each column its place in the key, if it has one.
    in_key: Vec<Option<usize>>,
    n_key_columns: usize,
    /// For each column what it is of beside the payload, if it comes from there.
    metas: Vec<Option<Meta>>,
    /// Columns that are parts of a key: which part, 1 is the first.
    parts_of_keys: Vec<(usize, usize)>,
    series: u64,
    random: Rng,
    n_made: u64,
}

impl Made {
    /// Rows of a source, of so many series.
    pub fn new(plan: &Plan, source: usize, series: u64) -> Self {
        let stage = &plan.stages[source];
        let place = |field: &FieldRef| plan.settings.key.iter().position(|name| name == field.name());
        let in_key = stage.schema.fields().iter().map(place).collect();
        let declared = stage.source.iter().flat_map(|source| &source.columns);
        let parts = declared.clone().enumerate().filter_map(|(idx, column)| match column.from {
            ColumnFrom::Part(Meta::Key, part) => Some((idx, part)),
            _ => None,
        });
        let parts_of_keys = parts.collect();
        let metas = declared.map(|column| match column.from {
            ColumnFrom::Meta(meta) => Some(meta),
            ColumnFrom::Field(_) | ColumnFrom::Part(..) => None,
        });
        Made {
            schema: stage.schema.clone(),
            id: stage.id.clone(),
            in_key,
            n_key_columns: plan.settings.key.len(),
            metas: metas.collect(),
            parts_of_keys,
            series: series.max(1),
            // The same rows in every run.
            random: Rng::with_seed(0x5eed),
            n_made: 0,
        }
    }

    /// Batches of so many rows together, at most; as payloads if the source has a format.
    pub fn batches(mut self, rows: u64, format: Option<&dyn Format>) -> Result<Vec<SourceRows>> {
        let n_batches = rows.clamp(1, MAX_MADE).div_ceil(BATCH_ROWS as u64);
        (0..n_batches).map(|_| self.batch(format)).collect()
    }

    fn batch(&mut self, format: Option<&dyn Format>) -> Result<SourceRows> {
        let series: Vec<u64> = (0..BATCH_ROWS).map(|_| self.random.u64(0..self.series)).collect();
        let fields = self.schema.fields().clone();
        let places = self.in_key.clone();
        let columns = fields.iter().zip(places).map(|(field, place)| self.column(field, place, &series)).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.n_made += BATCH_ROWS as u64;
        let Some(format) = format else { return Ok(SourceRows::Columns(batch)) };
        let payloads = format.encode(&batch)?;
        let mut payloads = payloads.ok_or_else(|| {
            let message = format!("the format of `{}` can only read: rows must come from a file", self.id);
            StageError::config(message)
        })?;
        for (meta, column) in self.metas.iter().zip(batch.columns()) {
            match meta {
                Some(Meta::Key) => {
                    payloads.keys = Some(column.as_string::<i32>().iter().map(|key| key.map(str::as_bytes)).collect());
                }
                Some(Meta::Time) => payloads.times = Some(column.as_primitive().clone()),
                _ => {}
            }
        }
        if !self.parts_of_keys.is_empty() {
            payloads.keys = Some(self.keys_of_parts(&batch)?);
        }
        Ok(SourceRows::Raw(payloads))
    }

    /// Keys whose parts are what the columns hold.
    fn keys_of_parts(&self, batch: &RecordBatch) -> Result<BinaryArray> {
        let n_parts = self.parts_of_keys.iter().map(|(_, part)| *part).max().unwrap_or(0);
        let options = FormatOptions::default();
        let mut parts: Vec<Option<ArrayFormatter<'_>>> = (0..n_parts).map(|_| None).collect();
        for (column, part) in &self.parts_of_keys {
            parts[part - 1] = Some(ArrayFormatter::try_new(batch.column(*column), &options)?);
        }
        let key = |row: usize| {
            let text =
                |part: &Option<ArrayFormatter<'_>>| part.as_ref().map_or("-".into(), |of| of.value(row).to_string());
            parts.iter().map(text).collect::<Vec<String>>().join("/")
        };
        Ok(BinaryArray::from_iter_values((0..batch.num_rows()).map(key)))
    }

    /// The values of a column. `place` is its place in the key.
    fn column(&mut self, field: &FieldRef, place: Option<usize>, series: &[u64]) -> ArrayRef {
        let numbers: Vec<u64> = match place {
            Some(0) if 1 < self.n_key_columns => series.iter().map(|series| series / METRICS).collect(),
            Some(0) => series.to_vec(),
            Some(_) => series.iter().map(|series| series % METRICS).collect(),
            None => series.iter().map(|_| self.random.u64(0..1_000)).collect(),
        };
        let times = (self.n_made as i64..).map(|row| FIRST_MICROS + row * 1_000);
        match field.data_type() {
            DataType::Utf8 => {
                let texts = numbers.iter().map(|number| format!("{}_{number:04}", field.name()));
                Arc::new(StringArray::from_iter_values(texts))
            }
            DataType::Float64 if place.is_none() => {
                Arc::new(Float64Array::from_iter_values(series.iter().map(|series| self.reading(*series))))
            }
            DataType::Float64 => Arc::new(Float64Array::from_iter_values(numbers.iter().map(|number| *number as f64))),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(numbers.iter().map(|number| *number as i64))),
            DataType::Boolean => Arc::new(BooleanArray::from_iter(numbers.iter().map(|number| Some(number % 2 == 1)))),
            _ => {
                let times = TimestampMicrosecondArray::from_iter_values(times.take(series.len()));
                Arc::new(times.with_data_type(timestamp_type()))
            }
        }
    }

    /// A reading in hundredths, around the level of its series.
    fn reading(&mut self, series: u64) -> f64 {
        let noise = self.random.i64(-80..=80) + self.random.i64(-80..=80);
        let spike = if self.random.u8(..) < 3 { 2_000 } else { 0 };
        (2_200 + (series % 100) as i64 + noise + spike) as f64 / 100.0
    }
}
