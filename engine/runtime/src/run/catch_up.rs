//! Before a changed pipeline runs, what the former one has logged is computed under the former one.
//!
//! Mostly before the run begins, for all tasks. A task that comes later, because a process that had the former file has
//! died, is caught up when it is claimed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipeline_stage::{Kind, Partition, Result, StageError};
use serde_json::Value;
use tokio::sync::watch;
use tracing::info;

use super::Run;
use super::drive::{Order, run_task};
use super::retry::until_store_works;
use super::shared::{Shared, SinkEnd, start_sinks};
use crate::bugs::{Bug, is_there};
use crate::changes::former_plan;
use crate::plan::{Plan, RunSettings};

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
            let former = load_former(definition, &self.plan)?;
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

fn load_former(definition: &str, now: &Plan) -> Result<Plan> {
    former_plan(definition, now).map_err(|error| {
        StageError::fatal(
            "the pipeline file has changed, and epochs have still to be computed as it was; `--cold-start` begins anew",
        )
        .because(error.chain())
    })
}

/// Computes the epochs of one task that were logged under another definition, up to a checkpoint.
///
/// # Errors
/// `Fatal`, in words, when the former definition cannot be used, or reads from other sources; and as a task that runs.
pub fn catch_up_task<'a>(
    shared: &'a Arc<Shared>,
    partition: &'a Partition,
    definition: &'a str,
) -> BoxFuture<'a, Result<()>> {
    let caught_up = async move {
        info!(
            "task `{partition}`: its last epochs were logged under another pipeline file, and are computed as it was"
        );
        let former = Arc::new(former_of(shared, definition).await?);
        // Nobody tells it anything: it ends at its checkpoint.
        let ((_order, orders), (_replay, replays)) = (watch::channel(Order::Run), watch::channel(0));
        run_task(former, partition.clone(), orders, replays).await.map(drop)
    };
    caught_up.boxed()
}

/// The former pipeline, with the sources of this one and sinks of its own.
async fn former_of(shared: &Shared, definition: &str) -> Result<Shared> {
    let plan = Arc::new(load_former(definition, &shared.plan)?);
    if !reads_the_same(definition, &shared.plan.definition) {
        return Err(StageError::fatal(
            "the pipeline file has changed, and its sources with it, while epochs have still to be computed as it was: \
             start again, which does that first; no process may run the former file meanwhile",
        ));
    }
    let mut sources = BTreeMap::new();
    for (number, stage) in plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Source) {
        let worker = shared.stage(&stage.id).and_then(|now| shared.sources.get(&now));
        sources.insert(number, worker.ok_or_else(|| StageError::fatal("a source has ended"))?.clone());
    }
    let run = RunSettings { once: true, catches_up: true, rebuild: Vec::new(), ..shared.run.clone() };
    let (mut sinks, _) = start_sinks(&plan, &run, &shared.store, &shared.clock).await?;
    // The outboxes that are being emptied: what waits for room in another would wait for ever.
    for end in sinks.values_mut() {
        if let SinkEnd::Outbox(outbox) = end
            && let Some(emptied) = shared.outboxes().find(|emptied| emptied.sink == outbox.sink)
        {
            *end = SinkEnd::Outbox(emptied.clone());
        }
    }
    Ok(Shared {
        progress: Arc::new(super::Progress::new(plan.stages.len())),
        plan,
        run,
        store: shared.store.clone(),
        log: shared.log.clone(),
        clock: shared.clock.clone(),
        sources,
        sinks,
    })
}

/// Whether the sources of two definitions give the same payloads. What they are decoded into does not matter.
fn reads_the_same(one: &str, other: &str) -> bool {
    let sources = |definition: &str| {
        let mut sources = serde_json::from_str::<Value>(definition).ok()?.get_mut("sources").map(Value::take)?;
        for source in sources.as_object_mut()?.values_mut().filter_map(Value::as_object_mut) {
            source.retain(|option, _| !["format", "schema", "when", "partitioned_by"].contains(&option.as_str()));
        }
        Some(sources)
    };
    sources(one).is_some_and(|one| Some(one) == sources(other))
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

    #[test]
    fn payloads_do_not_depend_on_how_they_are_decoded() {
        let definition = r#"{"sources": {"r": {"type": "kafka", "topic": "t", "schema": {"a": "float"}}}}"#;
        assert!(reads_the_same(definition, &definition.replace("float", "string")));
        assert!(!reads_the_same(definition, &definition.replace("\"t\"", "\"u\"")));
        assert!(!reads_the_same(definition, &definition.replace("\"r\"", "\"s\"")));
    }
}
