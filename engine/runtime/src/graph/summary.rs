//! A stage in a few words.

use pipeline_stage::{Delivery, Kind};
use serde_json::Value;

use crate::plan::{Plan, Promise, Stage, is_secret_option};

/// Options that say what a source reads or a sink writes, the telling ones first.
const PLACES: [&str; 7] = ["topic", "topics", "table", "path", "file", "folder", "channel"];

/// Further options of a stage are left out: a picture is no file.
const MAX_OPTIONS: usize = 4;

/// `kafka iot-data-stream`, `zscore, window 30, threshold 3`.
pub fn what(plan: &Plan, stage: &Stage) -> String {
    match stage.kind {
        Kind::Source | Kind::Sink => match place(plan, stage) {
            Some(place) => format!("{} {place}", stage.type_name),
            None => stage.type_name.clone(),
        },
        _ => {
            let mut words = vec![stage.type_name.clone()];
            words.extend(numbers(stage).take(MAX_OPTIONS));
            words.join(", ")
        }
    }
}

fn place(plan: &Plan, stage: &Stage) -> Option<String> {
    let mut open = PLACES.into_iter().filter(|name| !is_secret_option(plan, stage, name));
    open.find_map(|name| match stage.options.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        _ => None,
    })
}

/// What a method is told in numbers: `window 30`.
fn numbers(stage: &Stage) -> impl Iterator<Item = String> {
    let options = stage.options.as_object().into_iter().flatten();
    options.filter(|(_, value)| value.is_number()).map(|(name, value)| format!("{name} {value}"))
}

/// What a sink promises, in words; none for other stages.
pub fn promise(stage: &Stage) -> Option<&'static str> {
    stage.promise.map(|promise| match promise {
        Promise::Epochs(Delivery::Transactional | Delivery::Truncating) => "exactly once",
        Promise::Epochs(Delivery::AtLeastOnce) => "at least once",
        Promise::Outbox => "at least once, by outbox",
    })
}

/// `when:` of a stage, on one line.
pub fn when(stage: &Stage) -> Option<String> {
    let expression = stage.when.first()?;
    Some(expression.text().split_whitespace().collect::<Vec<_>>().join(" "))
}
