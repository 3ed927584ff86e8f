//! `heartbeat`: a column in another unit.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Float64Array, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use pipeline_stage::{
    Origin, Output, Result, SavedState, StageContext, StageError, StageOptions, StageType, Transform, TransformOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

pipeline_abi::export_plugin!([StageType::transform::<HeartbeatOptions>()]);

/// Gives every row on with one of its columns in another unit: `value × factor + offset`.
///
/// What is null stays null; a result that no number can hold becomes null.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatOptions {
    /// The column, a float.
    pub column: String,
    /// What its values are multiplied with.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// What is added afterwards.
    #[serde(default)]
    pub offset: f64,
}

fn default_factor() -> f64 {
    1.0
}

impl StageOptions for HeartbeatOptions {
    const NAME: &'static str = "heartbeat";
    const EXAMPLE: &'static str = "
fahrenheit:
  type: heartbeat
  inputs: [readings]
  column: value
  factor: 1.8
  offset: 32
";
}

impl TransformOptions for HeartbeatOptions {
    fn build(self, _: &StageContext, inputs: &[SchemaRef], _: SavedState) -> Result<Box<dyn Transform>> {
        for (option, value) in [("factor", self.factor), ("offset", self.offset)] {
            if !value.is_finite() {
                let message = format!("`{option}` is {value}, it must be finite");
                return Err(StageError::config(message).at_option(option));
            }
        }
        let columns = inputs.first().ok_or_else(|| StageError::config("it has no input"))?;
        let column = find_float(columns, &self.column).map_err(|error| error.at_option("column"))?;
        Ok(Box::new(Converter { schema: with_nulls(columns, column), column, options: self }))
    }
}

/// The number of a column that holds floats.
fn find_float(columns: &Schema, name: &str) -> Result<usize> {
    let Ok(column) = columns.index_of(name) else {
        return Err(StageError::config(format!("there is no column `{name}`")));
    };
    match columns.field(column).data_type() {
        DataType::Float64 => Ok(column),
        other => Err(StageError::config(format!("column `{name}` is {other}, it must be a float"))),
    }
}

/// The columns that it gives: those it takes, of which one may be null now.
fn with_nulls(columns: &Schema, column: usize) -> SchemaRef {
    let mut fields = columns.fields().to_vec();
    fields[column] = Arc::new(columns.field(column).clone().with_nullable(true));
    Arc::new(Schema::new(fields))
}

struct Converter {
    options: HeartbeatOptions,
    column: usize,
    schema: SchemaRef,
}

impl Transform for Converter {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let convert = |value: f64| value * self.options.factor + self.options.offset;
        let values = rows.column(self.column).as_primitive::<Float64Type>();
        let converted: Float64Array =
            values.iter().map(|value| value.map(convert).filter(|value| value.is_finite())).collect();
        let mut columns = rows.columns().to_vec();
        columns[self.column] = Arc::new(converted);
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Same);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Field;
    use pipeline_stage::NoConsole;

    use super::*;

    fn context() -> StageContext {
        StageContext {
            pipeline: "test".into(),
            id: "stage".into(),
            directory: ".".into(),
            key: Vec::new(),
            once: false,
            cold_start: false,
            console: Arc::new(NoConsole),
        }
    }

    fn columns() -> SchemaRef {
        let fields = vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Float64, false)];
        Arc::new(Schema::new(fields))
    }

    fn build(column: &str, factor: f64) -> Result<Box<dyn Transform>> {
        let options = HeartbeatOptions { column: column.into(), factor, offset: 32.0 };
        options.build(&context(), &[columns()], SavedState::default())
    }

    #[test]
    fn values_are_converted_and_nulls_stay() {
        let fields = vec![Field::new("value", DataType::Float64, true)];
        let rows = [Some(0.0), None, Some(100.0), Some(f64::MAX)].into_iter().collect::<Float64Array>();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(rows)]).expect("one column");
        let options = HeartbeatOptions { column: "value".into(), factor: 1.8, offset: 32.0 };
        let mut stage = options.build(&context(), &[rows.schema()], SavedState::default()).expect("good options");
        let mut out = Output::default();
        stage.process(0, &rows, &mut out).expect("it works");
        let (given, origin) = out.take().emitted.remove(0);
        let values: Vec<Option<f64>> = given.column(0).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(32.0), None, Some(212.0), None]);
        assert_eq!(origin, Origin::Same);
    }

    #[test]
    fn refuses_bad_options() {
        for (column, factor, message) in [
            ("valeu", 1.0, "there is no column `valeu`"),
            ("name", 1.0, "column `name` is Utf8, it must be a float"),
            ("value", f64::INFINITY, "`factor` is inf, it must be finite"),
        ] {
            assert_eq!(build(column, factor).err().expect("bad options").to_string(), message);
        }
        assert!(build("value", 1.8).is_ok());
    }
}
