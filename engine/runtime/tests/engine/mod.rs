//! The engine on stages that fail on purpose, for the tests of this folder.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_runtime::file::LoadOptions;
use pipeline_runtime::plan::{Plan, RunSettings, load_text};
use pipeline_runtime::run::{Run, Summary};
use pipeline_stage::{Registry, Result, StageType};
use pipeline_testkit::faulty::{MemoryOptions, NumbersOptions, Table};
use pipeline_testkit::mailbox::MailboxOptions;
use tokio::runtime::Builder;
use tokio::sync::watch;

/// The built-in stages and the faulty ones.
pub fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    let own = [
        StageType::source::<NumbersOptions>(),
        StageType::sink::<MemoryOptions>(),
        StageType::sink::<MailboxOptions>(),
    ];
    for stage in own.into_iter().chain(pipeline_builtin::stages()) {
        registry.add(stage).unwrap();
    }
    Arc::new(registry)
}

/// Plans a file; its relative paths start at `folder`.
#[allow(dead_code, reason = "a test with stages of its own plans with them")]
pub fn plan(text: &str, folder: &Path) -> Arc<Plan> {
    plan_with(text, folder, &registry())
}

/// Plans a file of these stages.
pub fn plan_with(text: &str, folder: &Path, registry: &Arc<Registry>) -> Arc<Plan> {
    let loaded = load_text("test.yaml", text, folder, &LoadOptions::default(), registry);
    Arc::new(loaded.map_err(|report| report.render(false)).unwrap().0)
}

/// Runs in a runtime of its own for so long; `None` when it was dropped in the middle, with everything it had begun.
pub fn run_for(plan: &Arc<Plan>, settings: RunSettings, time: Duration) -> Option<Result<Summary>> {
    run_until(plan, settings, async || tokio::time::sleep(time).await)
}

/// The same until something has happened.
pub fn run_until(plan: &Arc<Plan>, settings: RunSettings, happens: impl AsyncFnOnce()) -> Option<Result<Summary>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = async {
        let (_stop, stopped) = watch::channel(false);
        Run::prepare(plan.clone(), settings).await?.run(stopped).await
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run => Some(ended),
            () = happens() => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    ended
}

/// Runs to the end.
#[allow(dead_code, reason = "not every test that shares this module has a run that ends")]
pub fn run_all(plan: &Arc<Plan>, cold_start: bool) -> Result<Summary> {
    run(plan, RunSettings { cold_start, ..once() })
}

/// Runs to the end.
#[allow(dead_code, reason = "not every test that shares this module has a run that ends")]
pub fn run(plan: &Arc<Plan>, settings: RunSettings) -> Result<Summary> {
    run_for(plan, settings, Duration::from_secs(60)).expect("it ends within a minute")
}

/// A run that ends with what there is.
pub fn once() -> RunSettings {
    RunSettings { once: true, ..RunSettings::default() }
}

/// The rows of a table, sorted.
#[allow(dead_code, reason = "not every test that shares this module has a table")]
pub fn rows(table: &Arc<Mutex<Table>>) -> Vec<String> {
    let mut rows = table.lock().unwrap().rows.clone();
    rows.sort();
    rows
}
