//! What became of an alert at the sinks, as far as the state store knows.

use std::collections::BTreeSet;

use pipeline_runtime::plan::{Plan, Promise};
use pipeline_runtime::store::tools::StateTools;
use pipeline_runtime::store::{EvidenceLine, Judged};
use pipeline_stage::{Kind, Result, Timestamp};

/// At one sink.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub sink: String,
    /// In one word, for programs.
    pub status: &'static str,
    /// When, where that is known.
    pub at: Option<Timestamp>,
    /// In words.
    pub words: String,
}

/// At the sinks that are below the detector in the file now.
pub async fn of(plan: &Plan, tools: &StateTools, line: &EvidenceLine, judged: &Judged) -> Result<Vec<Delivery>> {
    let outbox = tools.outbox_of(&judged.place, judged.offset).await?;
    let refusals = tools.refusals_of(&judged.place, judged.offset).await?;
    let tasks = tools.tasks().await?;
    let task = tasks.iter().find(|task| task.task == line.task);
    let checkpoint = task.and_then(|task| task.checkpoint.as_ref()).map(|checkpoint| checkpoint.epoch);
    let mut deliveries = Vec::new();
    for number in sinks_below(plan, &line.stage) {
        let stage = &plan.stages[number];
        let entry = outbox.iter().rev().find(|entry| entry.sink == stage.id && line.ids.contains(&entry.id));
        let mark = task.and_then(|task| task.marks.iter().find(|mark| mark.sink == stage.id)).map(|mark| mark.epoch);
        let (status, at, words) = if let Some(refusal) = refusals.iter().find(|refusal| refusal.stage == stage.id) {
            let reason = pipeline_stage::printable(&refusal.reason, 200);
            ("dead_letter", None, format!("not delivered: dead letter {}, {reason}", refusal.number))
        } else if let Some(entry) = entry {
            match (entry.delivered_at, entry.is_excess) {
                (Some(at), false) => ("delivered", Some(at), format!("delivered {at}")),
                (Some(at), true) => ("delivered_in_digest", Some(at), format!("delivered {at}, in a digest")),
                (None, false) => ("pending", None, "waits in the outbox".to_owned()),
                (None, true) => ("pending_in_digest", None, "waits in the outbox, for a digest".to_owned()),
            }
        } else if stage.promise == Some(Promise::Outbox) {
            ("unknown", None, "not in the outbox: not for this sink, or delivered long ago".to_owned())
        } else if checkpoint.max(mark) >= Some(line.epoch) {
            ("committed", None, format!("committed with epoch {}", line.epoch))
        } else {
            ("logged", None, format!("epoch {} is logged; committed, or about to be", line.epoch))
        };
        deliveries.push(Delivery { sink: stage.id.clone(), status, at, words });
    }
    Ok(deliveries)
}

fn sinks_below(plan: &Plan, detector: &str) -> Vec<usize> {
    let mut below: BTreeSet<usize> = BTreeSet::new();
    for &number in &plan.order {
        let stage = &plan.stages[number];
        if stage.id == detector || stage.inputs.iter().any(|input| below.contains(input)) {
            below.insert(number);
        }
    }
    below.into_iter().filter(|number| plan.stages[*number].kind == Kind::Sink).collect()
}
