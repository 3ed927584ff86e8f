//! Tasks, how far they are, and what each stage keeps.

use pipeline_runtime::store::StageOf;
use pipeline_runtime::store::tools::{StateTools, TaskState};
use pipeline_stage::{Result, Timestamp};
use serde_json::{Value, json};

use crate::books::grouped;
use crate::print;

/// What a stage keeps in a task.
struct Kept {
    stage: String,
    stage_type: String,
    keys: u64,
    bytes: u64,
}

/// Prints it.
pub async fn show(tools: &StateTools, as_json: bool) -> Result<()> {
    let tasks = tools.tasks().await?;
    if !as_json {
        print(&format!("state in {}, {} tasks", tools.place(), grouped(tasks.len() as u64)));
    }
    for task in &tasks {
        let kept = kept(tools, task).await?;
        print(&if as_json { as_object(task, &kept).to_string() } else { as_lines(task, &kept).join("\n") });
    }
    let (outboxes, letters) = (tools.outboxes().await?, tools.dead_letters().await?);
    if as_json {
        let object =
            |counts: &[(String, u64)]| Value::Object(counts.iter().cloned().map(|(id, n)| (id, n.into())).collect());
        print(&json!({"outboxes": object(&outboxes), "dead_letters": object(&letters)}).to_string());
        return Ok(());
    }
    for (what, counts) in [("alerts wait for", outboxes), ("dead letters of", letters)] {
        for (id, count) in counts {
            print(&format!("\n{} {what} `{id}`", grouped(count)));
        }
    }
    Ok(())
}

async fn kept(tools: &StateTools, task: &TaskState) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for StageOf { id: stage, of: stage_type, .. } in task.checkpoint.iter().flat_map(|checkpoint| &checkpoint.stages) {
        let state = tools.stage(task, stage).await?;
        let bytes = state.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
        all.push(Kept { stage: stage.clone(), stage_type: stage_type.clone(), keys: state.len() as u64, bytes });
    }
    Ok(all)
}

fn as_lines(task: &TaskState, kept: &[Kept]) -> Vec<String> {
    let epoch = task.last_epoch().map_or("nothing logged yet".into(), |epoch| format!("epoch {}", grouped(epoch)));
    let mut lines =
        vec![String::new(), format!("task {}: {epoch}, owner {} so far", task.task, grouped(task.generation))];
    match &task.checkpoint {
        None => lines.push("  no checkpoint yet".into()),
        Some(checkpoint) => {
            let at = checkpoint.ended_at.map_or("at an unknown time".into(), |at| format!("of {at}"));
            let pending = match task.pending_epochs() {
                0 => "nothing is pending".to_owned(),
                pending => format!("{} epochs after it are computed again at a start", grouped(pending as u64)),
            };
            lines.push(format!("  checkpoint at epoch {} {at}; {pending}", grouped(checkpoint.epoch)));
        }
    }
    for (source, offset) in task.positions() {
        lines.push(format!("  {source} goes on at offset {}", grouped(offset)));
    }
    for kept in kept {
        lines.push(format!(
            "  {} ({}) keeps {} keys, {} bytes",
            kept.stage,
            kept.stage_type,
            grouped(kept.keys),
            grouped(kept.bytes)
        ));
    }
    lines
}

fn as_object(task: &TaskState, kept: &[Kept]) -> Value {
    let checkpoint = task.checkpoint.as_ref();
    let stages = kept
        .iter()
        .map(|kept| (kept.stage.clone(), json!({"type": kept.stage_type, "keys": kept.keys, "bytes": kept.bytes})));
    json!({
        "task": task.task, "state_id": task.state_id, "generation": task.generation, "epoch": task.last_epoch(),
        "checkpoint": checkpoint.map(|checkpoint| checkpoint.epoch),
        "checkpoint_at": checkpoint.and_then(|checkpoint| checkpoint.ended_at).map(Timestamp::to_rfc3339),
        "pending_epochs": task.pending_epochs(),
        "positions": Value::Object(task.positions().into_iter().map(|(id, offset)| (id, offset.into())).collect()),
        "stages": Value::Object(stages.collect()),
    })
}
