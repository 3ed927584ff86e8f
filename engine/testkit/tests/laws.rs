//! A check that cannot fail checks nothing: each law, and each thing a stage must say, is broken here once.

// Clippy allows it in functions with #[test] only.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, SchemaRef};
use pipeline_stage::{
    Detector, DetectorOptions, Origin, Output, Reading, Result, SavedState, Score, StageContext, StageOptions,
    StageType, StateWriter, Transform, TransformOptions, decode, encode,
};
use pipeline_testkit::{checks_out, obeys_laws, readings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Adds up all values; can be told to do it wrongly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TotalOptions {
    /// What is wrong with it.
    #[serde(default)]
    fault: Fault,
}

#[derive(Deserialize, JsonSchema, Default, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Fault {
    #[default]
    None,
    ForgetsAtBatches,
    SavesNothing,
    LosesARow,
}

impl StageOptions for TotalOptions {
    const NAME: &'static str = "total";
    const EXAMPLE: &'static str = "
sum:
  type: total
  inputs: [readings]
";
}

struct Total {
    schema: SchemaRef,
    fault: Fault,
    total: f64,
}

impl TransformOptions for TotalOptions {
    fn build(self, _: &StageContext, inputs: &[SchemaRef], state: SavedState) -> Result<Box<dyn Transform>> {
        let total = match state.entries.first() {
            Some((_, value)) => decode(value)?,
            None => 0.0,
        };
        Ok(Box::new(Total { schema: inputs[0].clone(), fault: self.fault, total }))
    }
}

impl Transform for Total {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        if self.fault == Fault::ForgetsAtBatches {
            self.total = 0.0;
        }
        let values = rows.column(2).as_primitive::<Float64Type>();
        let totals: Float64Array = values
            .iter()
            .map(|value| {
                self.total += value.filter(|value| value.abs() < 1e6).unwrap_or_default();
                Some(self.total)
            })
            .collect();
        let mut columns = rows.columns().to_vec();
        columns[2] = Arc::new(totals);
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        match self.fault {
            Fault::LosesARow => {
                out.emit(
                    batch.slice(0, batch.num_rows() - 1),
                    Origin::Rows((0..batch.num_rows() as u32 - 1).collect()),
                );
            }
            _ => out.emit(batch, Origin::Same),
        }
        Ok(())
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        if self.fault != Fault::SavesNothing {
            let mut buffer = Vec::new();
            encode(&self.total, &mut buffer)?;
            changes.put(b"total", &buffer);
        }
        Ok(())
    }
}

/// Says how far a reading is from the one before it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepOptions {
    undocumented: f64,
}

impl StageOptions for StepOptions {
    const NAME: &'static str = "step";
    const EXAMPLE: &'static str = "
steps:
  type: step
  inputs: [readings]
  value: value
  undocumented: 2.5
";
}

impl DetectorOptions for StepOptions {
    type Detector = Step;
    fn build(self) -> Result<Step> {
        Ok(Step { limit: self.undocumented })
    }
}

struct Step {
    limit: f64,
}

#[derive(Serialize, Deserialize)]
struct Last(Option<f64>);

impl Detector for Step {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "step";
    type Series = Last;
    fn start(&self) -> Last {
        Last(None)
    }
    fn observe(&self, last: &mut Last, reading: &Reading) -> Option<Score> {
        let before = last.0.replace(reading.value)?;
        let step = (reading.value - before).abs();
        Some(Score {
            score: step / self.limit,
            is_anomaly: self.limit < step,
            expected: before,
            lower: before - self.limit,
            upper: before + self.limit,
            statistic: step,
        })
    }
}

/// The words of a panic.
fn panic_of(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("it must fail");
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|words| words.to_string()))
        .unwrap()
}

#[test]
fn good_stages_pass() {
    let evidence = obeys_laws(&StageType::transform::<TotalOptions>(), &json!({}), &readings(1, 2_000));
    assert_eq!(evidence.rows_out, 2_000);
    assert!(20 < evidence.resumed_with_state && 500 < evidence.batches, "{evidence:?}");
    obeys_laws(
        &StageType::detector::<StepOptions>(),
        &json!({"value": "value", "undocumented": 3.0}),
        &readings(2, 2_000),
    );
    checks_out(&StageType::transform::<TotalOptions>());
}

#[test]
fn each_law_can_be_broken() {
    for (fault, words) in [
        ("forgets_at_batches", "batching matters"),
        ("saves_nothing", "a crash matters"),
        ("loses_a_row", "the books do not balance"),
    ] {
        let stage = StageType::transform::<TotalOptions>();
        let panic = panic_of(|| {
            obeys_laws(&stage, &json!({"fault": fault}), &readings(1, 2_000));
        });
        assert!(panic.contains(words), "{fault}: {panic}");
    }
}

#[test]
fn what_a_stage_says_of_itself_can_be_wrong() {
    let total = || StageType::transform::<TotalOptions>();
    let with_example = |example: &str| StageType { example: example.into(), ..total() };
    for (stage, words) in [
        (StageType::detector::<StepOptions>(), "option `undocumented` has no description"),
        (StageType { name: "Total".into(), ..total() }, "a name is made of"),
        (with_example("sum: [\n"), "the example is not YAML"),
        (with_example("type: total\ninputs: [readings]\n"), "must be one stage under its id"),
        (with_example("sum:\n  type: sum\n"), "`type` in the example"),
        (with_example("sum:\n  type: total\n  fault: all\n"), "the example cannot be built"),
        (with_example("sum:\n  type: total\n  fault: ${FAULT}\n"), "the example uses `FAULT`"),
    ] {
        let panic = panic_of(|| checks_out(&stage));
        assert!(panic.contains(words), "{words}: {panic}");
    }
}
