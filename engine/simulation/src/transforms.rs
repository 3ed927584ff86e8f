//! Two transforms: one that says by which version of the file a row was computed, one that shows every tick.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::{
    Origin, Output, Result, SavedState, StageContext, StageError, StageOptions, StateWriter, Times, Transform,
    TransformOptions, decode, encode, timestamp_type,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds the version of the pipeline file; before version 1 it rejects rows of flawed series.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StampOptions {
    /// Of the pipeline file.
    pub version: u32,
}

impl StageOptions for StampOptions {
    const NAME: &'static str = "stamp";
    const EXAMPLE: &'static str = "stamp:\n  type: stamp\n  inputs: [readings]\n  version: 0\n";
}

impl TransformOptions for StampOptions {
    fn build(self, _: &StageContext, inputs: &[SchemaRef], _: SavedState) -> Result<Box<dyn Transform>> {
        let mut fields: Vec<_> = inputs[0].fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("version", DataType::Int64, false)));
        Ok(Box::new(Stamp { version: self.version, schema: Arc::new(Schema::new(fields)) }))
    }
}

struct Stamp {
    version: u32,
    schema: SchemaRef,
}

impl Transform for Stamp {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let series = rows.column(0).as_string::<i32>();
        let mut kept = Vec::new();
        for row in 0..rows.num_rows() {
            match self.version == 0 && series.value(row).starts_with("flawed") {
                true => out.reject(row, "it is flawed"),
                false => kept.push(row as u32),
            }
        }
        let batch = take_record_batch(rows, &UInt32Array::from(kept.clone()))?;
        let versions: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(self.version); kept.len()]));
        let columns = batch.columns().iter().cloned().chain([versions]).collect();
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Rows(kept));
        Ok(())
    }
}

/// Gives one row at every tick: its times, the rows since the last one, and the rows since ever.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PulseOptions {}

impl StageOptions for PulseOptions {
    const NAME: &'static str = "pulse";
    const EXAMPLE: &'static str = "pulse:\n  type: pulse\n  inputs: [readings]\n";
}

impl TransformOptions for PulseOptions {
    fn build(self, _: &StageContext, _: &[SchemaRef], state: SavedState) -> Result<Box<dyn Transform>> {
        let schema = Schema::new(vec![
            Field::new("now", timestamp_type(), false),
            Field::new("watermark", timestamp_type(), true),
            Field::new("rows", DataType::Int64, false),
            Field::new("total", DataType::Int64, false),
        ]);
        let counted = state.entries.first().map(|(_, value)| decode(value)).transpose()?.unwrap_or_default();
        Ok(Box::new(Pulse { schema: Arc::new(schema), counted }))
    }
}

struct Pulse {
    schema: SchemaRef,
    counted: Counted,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counted {
    rows: i64,
    total: i64,
}

impl Transform for Pulse {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        self.counted.rows += rows.num_rows() as i64;
        out.filtered(rows.num_rows() as u64);
        Ok(())
    }

    fn tick(&mut self, at: Times, out: &mut Output) -> Result<()> {
        self.counted.total += self.counted.rows;
        let watermark = at.watermark.map(|watermark| watermark.0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![at.now.0]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![watermark]).with_timezone("UTC")),
            Arc::new(Int64Array::from(vec![self.counted.rows])),
            Arc::new(Int64Array::from(vec![self.counted.total])),
        ];
        self.counted.rows = 0;
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Created);
        out.created(1);
        Ok(())
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        let mut bytes = Vec::new();
        encode(&self.counted, &mut bytes).map_err(|error| StageError::fatal(error.chain()))?;
        changes.put(b"counted", &bytes);
        Ok(())
    }
}
