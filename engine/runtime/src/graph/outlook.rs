//! What a plan will cost, as far as that can be told before it runs.

use pipeline_stage::Span;
use serde_json::Value;

use crate::plan::{Plan, Stage, grouped, option_default};

/// The lines about state and delay that `validate` prints below the picture.
pub fn outlook(plan: &Plan) -> String {
    let mut lines = Vec::new();
    let with_state: Vec<&Stage> = plan.stages.iter().filter(|stage| stage.bytes_per_series.is_some()).collect();
    for stage in &with_state {
        let name = if with_state.len() == 1 { String::new() } else { format!("{}: ", stage.id) };
        lines.push(("state", format!("{name}{}", state(plan, stage))));
    }
    let commit_every = Span(plan.settings.commit_every);
    lines.push(("delay", format!("a row is committed about {commit_every} after it was read, if the sinks keep up")));
    let line = |(head, words): (&str, String)| format!("  {head}   {words}\n");
    lines.into_iter().map(line).collect()
}

fn state(plan: &Plan, stage: &Stage) -> String {
    let bytes = stage.bytes_per_series.unwrap_or(0) as u64;
    let about = format!("about {} bytes a series", grouped(bytes as f64));
    let limit = stage.options.get("max_series").cloned().or_else(|| option_default(plan, stage, "max_series"));
    match limit.as_ref().and_then(Value::as_u64) {
        Some(limit) => {
            let most = size(bytes.saturating_mul(limit));
            format!("{about}; `max_series` {} → at most {most} for each task", grouped(limit as f64))
        }
        None => about,
    }
}

/// `305 MB`
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..10_000_000_000 => format!("{} MB", grouped((bytes / 1_000_000) as f64)),
        _ => format!("{} GB", grouped((bytes / 1_000_000_000) as f64)),
    }
}
