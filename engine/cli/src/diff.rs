//! `pipeline diff`: what a changed file means for the state that is there.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use pipeline_runtime::changes::{Change, compare, former_plan};
use pipeline_runtime::plan::{Plan, RunSettings};
use pipeline_runtime::store::tools::StateTools;
use pipeline_stage::{Registry, Result};

use crate::args::PipelineArgs;
use crate::books::grouped;
use crate::{FAILED, complain, print};

/// Compare a pipeline file with the state that is there
///
/// Says for each stage what becomes of its state: keep, migrate (read under the new options), new, gone; or rebuild, drop
/// and lost, which `run` refuses until it is told. Exit codes: 0 nothing is lost, 1 state would be lost, 2 the file is
/// wrong.
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// Runs the command.
pub fn run(args: &DiffArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        let is_lost = diff(plan).await?;
        Ok(ExitCode::from(if is_lost { FAILED } else { 0 }))
    })
}

/// Prints the changes; says whether state would be lost.
async fn diff(plan: &Plan) -> Result<bool> {
    let tools = StateTools::beside(&plan.state_location(), &plan.settings.name).await?;
    let tasks = tools.tasks().await?;
    // All tasks of one run have the same; the last one to start has the newest.
    let Some(definition) = tasks.iter().rev().find_map(|task| task.definition.as_deref()) else {
        print("nothing was computed yet: everything is new");
        return Ok(false);
    };
    let former = former_plan(definition, plan)?;
    let states = tools.states(&tasks).await?;
    let run = RunSettings::default();
    let changes = compare(&former, plan, states, &run);
    print(&table(&changes));
    let pending: usize = tasks.iter().map(|task| task.pending_epochs()).sum();
    if 0 < pending {
        let pending = grouped(pending as u64);
        print(&format!("\n{pending} logged epochs are computed by the former file first, up to a checkpoint"));
    }
    let choices: Vec<String> = changes
        .iter()
        .filter_map(|change| Some(format!("  {}: {}", change.stage, change.verdict.choice(&change.stage)?)))
        .collect();
    let is_lost = !choices.is_empty();
    if is_lost {
        complain(&format!("state would be lost, so `run` refuses until it is told:\n{}", choices.join("\n")));
    }
    Ok(is_lost)
}

/// One line for each stage.
fn table(changes: &[Change]) -> String {
    let width = |of: fn(&Change) -> usize| changes.iter().map(of).max().unwrap_or(0);
    let ids = width(|change| change.stage.chars().count());
    let verdicts = width(|change| change.verdict.name().len());
    let line =
        |change: &Change| format!("  {:<ids$}  {:<verdicts$}  {}", change.stage, change.verdict.name(), change.why);
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}
