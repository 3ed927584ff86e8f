//! A check that cannot fail checks nothing: each law, and each thing a stage must say, is broken here once.

// Clippy allows it in functions with #[test] only.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, SchemaRef};
use pipeline_stage::{
    Detector, DetectorOptions, Origin, Output, Reading, Result, SavedState, Score, StageContext, StageError,
    StageOptions, StageType, StateWriter, Transform, TransformOptions, decode, encode,
};
use pipeline_testkit::{
    Asked, Effort, Subject, checks_out, dictionaries_are_refused, gives_the_same_as, laws_hold, obeys_laws, problems,
    readings, trials,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    BreaksOnEmptyBatches,
    ReadsTextsFromTheStart,
    ReadsBelowNulls,
    CountsColumns,
    FailsWithoutWords,
    NamesRowsThatThereAreNot,
    CannotReadBack,
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
        if inputs[0].index_of("value").is_err() {
            return Err(StageError::config("there is no column `value`"));
        }
        let total = match state.entries.first() {
            Some(_) if self.fault == Fault::CannotReadBack => return Err(StageError::fatal("it is written in Greek")),
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
        let values = rows.column_by_name("value").expect("it was built with one").as_primitive::<Float64Type>();
        let ends = rows.column(0).as_string_opt::<i32>().map(|texts| texts.value_offsets());
        let more = |row: usize| match (self.fault, ends) {
            (Fault::ReadsTextsFromTheStart, Some(ends)) => f64::from(ends[row + 1]),
            (Fault::ReadsBelowNulls, _) if values.is_null(row) && values.value(row).is_nan() => 1.0,
            (Fault::CountsColumns, _) => rows.num_columns() as f64,
            _ => 0.0,
        };
        if self.fault == Fault::FailsWithoutWords && values.iter().flatten().any(f64::is_nan) {
            return Err(StageError::fatal(""));
        }
        if self.fault == Fault::BreaksOnEmptyBatches {
            self.total += 0.0 * values.values()[0];
        }
        if self.fault == Fault::NamesRowsThatThereAreNot {
            out.reject(rows.num_rows(), "it is not there");
        }
        let totals: Float64Array = (0..rows.num_rows())
            .map(|row| {
                let value = values.is_valid(row).then(|| values.value(row)).filter(|value| value.abs() < 1e6);
                self.total += value.unwrap_or_default() + more(row);
                Some(self.total)
            })
            .collect();
        let mut columns = rows.columns().to_vec();
        columns[rows.schema().index_of("value")?] = Arc::new(totals);
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        match self.fault {
            Fault::LosesARow if 0 < batch.num_rows() => {
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
    fn score(&self, last: &Last, reading: &Reading) -> Option<Score> {
        let before = last.0?;
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
    fn remember(&self, last: &mut Last, reading: &Reading, _: Option<&Score>) {
        last.0 = Some(reading.value);
    }
}

/// Says how far a reading is from the mean of those before it; can be told to do it wrongly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MeanOptions {
    /// How many readings are looked at.
    #[serde(default = "default_window")]
    #[schemars(range(min = 2))]
    window: usize,
    /// What is wrong with it.
    #[serde(default)]
    fault: MeanFault,
}

fn default_window() -> usize {
    20
}

#[derive(Deserialize, JsonSchema, Default, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum MeanFault {
    #[default]
    None,
    SilentWhenTheWindowGetsSmaller,
    PoisonedByHugeValues,
}

impl StageOptions for MeanOptions {
    const NAME: &'static str = "mean";
    const EXAMPLE: &'static str = "means:\n  type: mean\n  inputs: [readings]\n  value: value\n";
}

impl DetectorOptions for MeanOptions {
    type Detector = MeanOptions;
    fn build(self) -> Result<MeanOptions> {
        Ok(self)
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Past {
    values: Vec<f64>,
    /// Of the poisoned one.
    sum: f64,
}

impl Detector for MeanOptions {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "distance";
    type Series = Past;
    fn start(&self) -> Past {
        Past::default()
    }
    fn score(&self, past: &Past, reading: &Reading) -> Option<Score> {
        let count = past.values.len() as f64;
        let mean = match self.fault {
            MeanFault::PoisonedByHugeValues => past.sum / count,
            _ => past.values.iter().map(|value| value / count).sum(),
        };
        let statistic = (reading.value - mean).abs();
        let score = Score { score: statistic, is_anomaly: false, expected: mean, lower: mean, upper: mean, statistic };
        self.is_full(past).then_some(score)
    }
    fn remember(&self, past: &mut Past, reading: &Reading, _: Option<&Score>) {
        if self.is_full(past) {
            let removed = past.values.len().saturating_sub(self.window) + 1;
            past.sum -= past.values.drain(..removed).sum::<f64>();
        }
        past.values.push(reading.value);
        past.sum += reading.value;
    }
}

impl MeanOptions {
    fn is_full(&self, past: &Past) -> bool {
        match self.fault {
            MeanFault::SilentWhenTheWindowGetsSmaller => past.values.len() == self.window,
            _ => self.window <= past.values.len(),
        }
    }
}

fn total() -> StageType {
    StageType::transform::<TotalOptions>()
}

/// What each trial of a stage says: its name, and its words.
fn tried(stage: &StageType, options: &Value) -> Vec<(String, std::result::Result<String, String>)> {
    let asked = Asked { stage, options, like: None, directory: Path::new("."), effort: Effort::Full };
    let trials = trials(&asked).into_iter();
    trials.map(|trial| (trial.name.clone(), trial.run().map_err(|broken| broken.to_string()))).collect()
}

#[test]
fn good_stages_pass() {
    let evidence = obeys_laws(&total(), &json!({}), &readings(1, 2_000));
    assert_eq!(evidence.rows_out, 2_000);
    assert!(20 < evidence.resumed_with_state && 500 < evidence.batches, "{evidence:?}");
    let steps = StageType::detector::<StepOptions>();
    obeys_laws(&steps, &json!({"value": "value", "undocumented": 3.0}), &readings(2, 2_000));
    checks_out(&total());
}

#[test]
fn good_stages_pass_all_trials() {
    let mean = StageType::detector::<MeanOptions>();
    for (stage, options) in [(total(), json!({})), (mean, json!({"value": "value"}))] {
        let tried = tried(&stage, &options);
        assert!(15 < tried.len());
        let broken: Vec<_> = tried.iter().filter(|(_, outcome)| outcome.is_err()).collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", stage.name);
    }
}

#[test]
fn each_law_can_be_broken() {
    for (fault, words) in [
        ("forgets_at_batches", "batching matters: in epoch"),
        ("saves_nothing", "a crash matters: in epoch"),
        ("cannot_read_back", "a crash matters: total cannot be built: it is written in Greek"),
        ("loses_a_row", "the books do not balance: 0 held before + "),
        ("names_rows_that_there_are_not", "it named row "),
    ] {
        let broken =
            laws_hold(&total(), &json!({"fault": fault}), &readings(1, 2_000), Effort::Full).unwrap_err().to_string();
        assert!(broken.contains(words), "{fault}: {broken}");
    }
}

#[test]
fn the_first_difference_is_told_in_words() {
    let broken =
        laws_hold(&total(), &json!({"fault": "forgets_at_batches"}), &readings(1, 2_000), Effort::Full).unwrap_err();
    let broken = broken.to_string();
    assert!(broken.contains(" of the input `value` is `") && broken.contains("`, it must be `"), "{broken}");
}

#[test]
fn each_hostile_batch_breaks_a_stage_that_is_not_ready_for_it() {
    let (mean, total) = (StageType::detector::<MeanOptions>(), total());
    for (stage, fault, trial, words) in [
        (&total, "breaks_on_empty_batches", "empty batches", "batch 0: it panicked: index out of bounds"),
        (&total, "reads_texts_from_the_start", "sliced arrays", "gives something else than in plain arrays: for row "),
        (&total, "reads_below_nulls", "rubbish below nulls", "gives something else than in plain arrays: for row "),
        (&total, "counts_columns", "other columns do not matter", "`value` differs with fewer columns"),
        (&total, "fails_without_words", "NaN and infinity", "an error of kind Fatal and no words"),
        (&total, "cannot_read_back", "all null", "its state cannot be read back"),
        (&mean, "poisoned_by_huge_values", "huge and tiny values", "afterwards: it went silent: it gives scores for "),
        (&mean, "silent_when_the_window_gets_smaller", "options may change", "`window` 20 → 2: it went silent"),
    ] {
        let options = match stage.name.as_str() {
            "mean" => json!({"value": "value", "fault": fault}),
            _ => json!({"fault": fault}),
        };
        let tried = tried(stage, &options);
        let (_, outcome) = tried.iter().find(|(name, _)| name == trial).unwrap();
        let broken = outcome.as_ref().unwrap_err();
        assert!(broken.contains(words), "{fault}: {broken}");
    }
}

#[test]
fn another_stage_is_not_the_same() {
    let (options, wrong) = (json!({}), json!({"fault": "counts_columns"}));
    let stage = total();
    let [right, wrong] = [&options, &wrong].map(|options| Subject { stage: &stage, options });
    assert_eq!(gives_the_same_as(right, right, &readings(1, 500)).unwrap(), 500);
    let broken = gives_the_same_as(wrong, right, &readings(1, 500)).unwrap_err().to_string();
    assert!(broken.contains("for row 0 of the input `value` is `"), "{broken}");
    let steps = StageType::detector::<StepOptions>();
    let other = json!({"value": "value", "undocumented": 1.0});
    let broken = gives_the_same_as(right, Subject { stage: &steps, options: &other }, &readings(1, 9)).unwrap_err();
    assert!(broken.to_string().contains("its columns are"), "{broken}");
}

#[test]
fn a_loaded_stage_that_takes_dictionaries_is_found() {
    let loaded = StageType { library: Some("libtotal.so".into()), ..total() };
    let broken = dictionaries_are_refused(Subject { stage: &loaded, options: &json!({}) }).unwrap_err().to_string();
    assert!(broken.contains("must be refused when the stage is built"), "{broken}");
}

#[test]
fn options_that_cannot_be_tried_are_told() {
    let mut stage = StageType::detector::<MeanOptions>();
    let options = json!({"value": "value"});
    let numbers = |stage: &StageType| {
        let tried = tried(stage, &options);
        tried.into_iter().find(|(name, _)| name == "options may change").unwrap().1
    };
    assert!(numbers(&stage).unwrap().starts_with("2 options, resumed "));
    let properties = json!({"window": {"type": "integer", "minimum": 20, "maximum": 20, "default": 20}});
    stage.schema.insert("properties".into(), properties);
    assert!(numbers(&stage).unwrap_err().contains("none of 1 options could be changed"));
    stage.schema.insert("properties".into(), json!({}));
    assert_eq!(numbers(&stage).unwrap(), "no option is a number");
}

#[test]
fn what_a_stage_says_of_itself_can_be_wrong() {
    let with_example = |example: &str| StageType { example: example.into(), ..total() };
    let with_schema = |schema: Value| StageType { schema: schema.try_into().unwrap(), ..total() };
    for (stage, words) in [
        (StageType::detector::<StepOptions>(), "option `undocumented` has no description"),
        (StageType { name: "Total".into(), ..total() }, "a name is made of"),
        (with_example("sum: [\n"), "the example is not YAML"),
        (with_example("type: total\ninputs: [readings]\n"), "must be one stage under its id"),
        (with_example("sum:\n  type: sum\n"), "`type` in the example is \"sum\", it must be `total`"),
        (with_example("sum:\n  inputs: [readings]\n"), "`type` in the example is missing"),
        (with_example("sum:\n  type: total\n  fault: all\n"), "the example cannot be built"),
        (with_example("sum:\n  type: total\n  fault: ${NO_SUCH_FAULT}\n"), "the example uses `NO_SUCH_FAULT`"),
        (with_schema(json!({"description": "Sum"})), "it must be a sentence"),
        (with_schema(json!({"properties": {}})), "`additionalProperties: false`"),
        (with_schema(json!({"required": ["fault"]})), "option `fault` is required, but there is no such option"),
        (with_schema(json!({"properties": {"fault": {"type": "text"}}})), "option `fault` is of type `text`"),
        (
            with_schema(json!({"properties": {"fault": {"type": "integer", "minimum": 3, "maximum": 2}}})),
            "option `fault` has the minimum 3 and the maximum 2",
        ),
        (
            with_schema(json!({"properties": {"fault": {"type": "integer", "minimum": 3, "default": 2}}})),
            "option `fault` has the default 2, which its limits exclude",
        ),
    ] {
        let problems = problems(&stage).join("\n");
        assert!(problems.contains(words), "{words}: {problems}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let schema = json!({"properties": {"one": {"type": "text"}, "two": {}}}).try_into().unwrap();
    let problems = problems(&StageType { name: "Total".into(), schema, ..total() });
    assert!(6 < problems.len(), "{problems:#?}");
}

#[test]
fn the_checks_for_tests_panic() {
    let bad = StageType { name: "Total".into(), ..total() };
    assert!(catch_unwind(AssertUnwindSafe(|| checks_out(&bad))).is_err());
    let laws = || obeys_laws(&total(), &json!({"fault": "loses_a_row"}), &readings(1, 500));
    assert!(catch_unwind(AssertUnwindSafe(laws)).is_err());
}
