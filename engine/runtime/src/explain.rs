//! Why an alert came: its score is computed again from the evidence that was stored with it.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use pipeline_stage::{
    Kind, Make, NoConsole, Origin, Output, Result, SavedState, StageContext, StageError, row_to_json,
};
use serde_json::{Map, Value};

use crate::plan::Plan;
use crate::run::{json_of, rows_of_json};
use crate::store::Evidence;

/// What came of computing a score again.
#[derive(Debug, Clone)]
pub struct Again {
    /// The readings that the series remembered before, the oldest first; none when the detector remembers figures.
    pub window: Option<Vec<f64>>,
    /// The row with the columns that the detector adds, as computed now.
    pub row: Map<String, Value>,
    /// Whether these are the numbers of the alert, to the last digit.
    pub is_same: bool,
    /// The options that the file has otherwise now: name, stored value, present value.
    pub changed: Vec<(String, Option<Value>, Option<Value>)>,
}

/// Computes a score again, by the stored options from the stored series. `stage` is the detector's id.
///
/// # Errors
/// In words, when that cannot be done: there is no series before, or the detector is not the one it was.
pub fn judge_again(plan: &Plan, stage: &str, evidence: &Evidence) -> Result<Again> {
    let Evidence { judge, judged } = evidence;
    let before = judged.before.as_ref().ok_or_else(|| {
        let why = judged.why_not.as_deref().unwrap_or("the series before it was not kept");
        StageError::fatal(why)
    })?;
    let type_name = judge.of.split_once('.').map_or(judge.of.as_str(), |(_, name)| name);
    let found = plan.registry.find(Kind::Detector, type_name).map(|found| &found.make);
    let Some(Make::Transform(make)) = found else {
        return Err(StageError::fatal(format!(
            "no detector is called `{type_name}` here; it may be one of a plugin that the file does not name any more"
        )));
    };
    let input = schema_of(evidence);
    let context = StageContext {
        pipeline: plan.settings.name.clone(),
        id: stage.into(),
        directory: plan.settings.directory.clone(),
        key: judge.key.clone(),
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    };
    let state = SavedState { entries: vec![(judged.key.to_vec(), before.to_vec())] };
    let mut detector = make(options(plan, stage, evidence)?, &context, std::slice::from_ref(&input), state)?;
    let window = detector.window(&judged.key);
    let mut out = Output::default();
    detector.process(0, &rows_of_json(&input, &judged.row)?, &mut out)?;
    let emitted = out.take().emitted;
    let [(row, Origin::Same)] = emitted.as_slice() else {
        return Err(StageError::fatal("the detector gives no row for it now"));
    };
    Ok(Again {
        window,
        is_same: json_of(row, 0) == *judged.row,
        row: row_to_json(row, 0),
        changed: changed(plan, stage, evidence),
    })
}

fn schema_of(evidence: &Evidence) -> SchemaRef {
    let columns = evidence.judge.columns.iter();
    let fields = columns.map(|column| Field::new(&column.name, column.column_type.arrow(), column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The stored options; secrets are those of the file.
fn options(plan: &Plan, stage: &str, evidence: &Evidence) -> Result<Value> {
    let mut options = evidence.judge.options.clone();
    for name in &evidence.judge.secrets {
        let value = present(plan, stage, evidence).and_then(|options| options.get(name)).ok_or_else(|| {
            StageError::fatal(format!(
                "option `{name}` is a secret, which is not stored, and the file does not have it now"
            ))
        })?;
        options.insert(name.clone(), value.clone());
    }
    Ok(Value::Object(options))
}

/// The options that the stage has in the file now, if it is there and of the same type.
fn present<'a>(plan: &'a Plan, stage: &str, evidence: &Evidence) -> Option<&'a Map<String, Value>> {
    let number = plan.stages.iter().position(|now| now.id == stage)?;
    (plan.stage_of(number).of == evidence.judge.of).then_some(())?;
    plan.stages[number].options.as_object()
}

fn changed(plan: &Plan, stage: &str, evidence: &Evidence) -> Vec<(String, Option<Value>, Option<Value>)> {
    let Some(now) = present(plan, stage, evidence) else { return Vec::new() };
    let was = &evidence.judge.options;
    let names = was.keys().chain(now.keys().filter(|name| !was.contains_key(*name)));
    let names = names.filter(|name| was.get(*name) != now.get(*name) && !evidence.judge.secrets.contains(name));
    names.map(|name| (name.clone(), was.get(name).cloned(), now.get(name).cloned())).collect()
}
