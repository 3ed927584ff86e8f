//! Before a changed pipeline runs, what the former one has logged is computed under the former one.

use std::sync::Arc;

use pipeline_stage::{Result, StageError};
use serde_json::Value;
use tokio::sync::watch;
use tracing::info;

use super::{Run, retry::until_store_works};
use crate::bugs::{Bug, is_there};
use crate::file::Environment;
use crate::plan::{RunSettings, load_definition};

/// Whether two definitions compute the same rows for the same sinks. Where a sink writes, and how often is committed,
/// does not matter: epochs are cut as the log says.
pub fn computes_the_same(one: &str, other: &str) -> bool {
    match (serde_json::from_str(one), serde_json::from_str(other)) {
        (Ok(one), Ok(other)) => computing_part(one) == computing_part(other),
        _ => one == other,
    }
}

fn computing_part(mut definition: Value) -> Value {
    let Some(parts) = definition.as_object_mut() else { return definition };
    parts
        .retain(|name, _| ["key", "time_zone", "sources", "transforms", "detectors", "sinks"].contains(&name.as_str()));
    for sink in parts.get_mut("sinks").and_then(Value::as_object_mut).into_iter().flat_map(|sinks| sinks.values_mut()) {
        if let Some(options) = sink.as_object_mut() {
            options.retain(|name, _| ["type", "inputs", "when"].contains(&name.as_str()));
        }
    }
    definition
}

impl Run {
    /// Computes epochs that were logged under another definition, up to a checkpoint.
    pub(super) async fn catch_up(&self, stop: &watch::Receiver<bool>) -> Result<()> {
        if is_there(Bug::ReplayUnderNewFile) {
            return Ok(());
        }
        let pending = until_store_works(|| self.store.pending_definitions()).await?;
        for definition in pending.iter().filter(|definition| !computes_the_same(definition, &self.plan.definition)) {
            if *stop.borrow() {
                return Ok(());
            }
            info!("the pipeline file has changed: epochs that were logged before are computed as it was then");
            let former = load_definition(definition, &self.plan, Environment::of_process()).map_err(|report| {
                StageError::fatal(
                    "the pipeline file has changed, and the former one, by which logged epochs have still to be computed, \
                     cannot be used any more; `--cold-start` begins anew",
                )
                .because(report.render(false))
            })?;
            let settings = RunSettings { once: true, catches_up: true, rebuild: Vec::new(), ..self.settings.clone() };
            let progress = Arc::new(super::Progress::new(former.stages.len()));
            let run = Run {
                plan: Arc::new(former),
                settings,
                store: self.store.clone(),
                clock: self.clock.clone(),
                progress,
                is_new: false,
            };
            Box::pin(run.run_plan(stop.clone())).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_the_rows_counts() {
        let definition = |window: u32, url: &str, every: &str| {
            format!(
                r#"{{"name": "a", "commit_every": "{every}", "detectors": {{"s": {{"window": {window}}}}},
                    "sinks": {{"t": {{"type": "postgres", "url": "{url}"}}}}}}"#
            )
        };
        let first = definition(30, "one", "5ms");
        assert!(computes_the_same(&first, &definition(30, "two", "50ms")));
        assert!(!computes_the_same(&first, &definition(29, "one", "5ms")));
        assert!(!computes_the_same(&first, &first.replace("postgres", "sqlite")));
    }
}
