//! What a stage remembers of one series.

use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::tools::StateTools;
use pipeline_stage::keyed::read_key;
use pipeline_stage::{ColumnType, Result, StageError, decode};
use serde_json::Value;

use crate::books::grouped;
use crate::{complain, print};

/// Prints a series as JSON, or, when none is named, which there are.
pub async fn get(plan: &Plan, tools: &StateTools, stage: usize, series: Option<&str>, limit: usize) -> Result<()> {
    let id = &plan.stages[stage].id;
    let types: Option<Vec<ColumnType>> =
        plan.series_key(stage).map(|key| key.into_iter().map(|(_, column_type)| column_type).collect());
    let (mut found, mut listed, mut known) = (false, 0, 0);
    for task in tools.tasks().await? {
        for (key, value) in tools.stage(&task, id).await? {
            let name = name_of(&key, types.as_deref());
            known += 1;
            match series {
                Some(series) if series == name => {
                    found = true;
                    print(&format!("task {}: {}", task.task, in_words(&value)));
                }
                Some(_) => {}
                None if listed < limit => {
                    listed += 1;
                    print(&format!("{name}  (task {}, {} bytes)", task.task, grouped(value.len() as u64)));
                }
                None => {}
            }
        }
    }
    match series {
        Some(series) if !found => Err(StageError::config(format!(
            "`{id}` has no series `{series}` in its last checkpoint; it knows {}, which `get` without `--series` lists",
            grouped(known)
        ))),
        None if limit < known as usize => {
            complain(&format!("there are {} in all; `--limit` shows more", grouped(known)));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `sensor-04,temperature`; hexadecimal digits for a key that is not one of columns.
fn name_of(key: &[u8], types: Option<&[ColumnType]>) -> String {
    match types.and_then(|types| read_key(key, types)) {
        Some(values) => values.join(","),
        None => hexadecimal(key),
    }
}

/// State is written with field names; what is not (memory of a plugin in C) is shown as it is.
fn in_words(value: &[u8]) -> String {
    match decode::<Value>(value) {
        Ok(value) => format!("{value:#}"),
        Err(_) => format!("{} bytes: {}", grouped(value.len() as u64), hexadecimal(value)),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
