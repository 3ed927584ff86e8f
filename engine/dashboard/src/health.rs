//! `/health` and `/ready`: is it alive, and does it do what it is for.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline_runtime::run::health::Failing;
use pipeline_runtime::run::view::{TaskPhase, TaskView};
use pipeline_stage::Kind;
use serde::Serialize;

use crate::watched::Watched;

/// Whether rows flow, or why they do not.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// Sources and sinks are connected, and all tasks read new rows.
    pub is_ready: bool,
    /// What is missing, a sentence each.
    pub reasons: Vec<String>,
}

/// Whether rows flow now, of what fails and what tasks there are.
pub fn readiness(watched: &Watched, failing: &[Failing], tasks: &BTreeMap<String, TaskView>) -> Readiness {
    let mut reasons: Vec<String> = failing.iter().map(in_words).collect();
    if !watched.progress.view.is_assigned() {
        let sources = watched.plan.stages.iter().filter(|stage| stage.kind == Kind::Source);
        let source = sources.map(|stage| stage.id.as_str()).next().unwrap_or("the source");
        reasons.push(format!("{source}: waiting to be told which partitions are this process'"));
    }
    for (task, view) in tasks.iter().filter(|(_, view)| view.phase == TaskPhase::Restoring) {
        reasons.push(format!("task `{task}`: restoring its state, for {}", span(view.since.elapsed())));
    }
    Readiness { is_ready: reasons.is_empty(), reasons }
}

/// `history: the database cannot be reached (for 31 s)`.
pub fn in_words(failing: &Failing) -> String {
    format!("{}: {} (for {})", failing.what, failing.why, span(failing.since))
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
