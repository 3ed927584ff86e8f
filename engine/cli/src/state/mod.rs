//! `pipeline state`: what a pipeline remembers.

mod get;
mod show;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::tools::StateTools;
use pipeline_stage::{Kind, Registry, Result, StageError};

use crate::args::PipelineArgs;
use crate::books::grouped;
use crate::print;

/// Show what a pipeline remembers, move it to another place, or let a stage forget
///
/// `show` and `get` may look while the pipeline runs; they see its last checkpoint. For the others it must not run.
#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tasks, how far they are, and what each stage keeps
    Show {
        /// One JSON object a task
        #[arg(long)]
        json: bool,
    },
    /// What a stage remembers of one series, or which series it knows
    Get {
        /// The stage; may be left out when only one has state
        #[arg(long, value_name = "ID")]
        stage: Option<String>,
        /// The key's values, separated by commas: `sensor-04,temperature`
        #[arg(long, value_name = "KEY")]
        series: Option<String>,
        /// At most so many series
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Write everything as lines of JSON: state, epoch log, outboxes, dead letters
    Export {
        /// The file; standard output without it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Read an export into a state that is empty; the exported one must not be run any more
    Import {
        /// The file; standard input without it
        #[arg(long = "in", value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Let a stage forget everything: it begins anew with the next row
    Reset {
        /// The stage
        #[arg(long, value_name = "ID")]
        stage: String,
    },
    /// Give what a stage remembers to the stage that it is called now
    Rename {
        /// The id it had
        from: String,
        /// The id it has in the file
        to: String,
    },
}

/// Runs the command.
pub fn run(args: &StateArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        act(plan, &args.action).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn act(plan: &Plan, action: &Action) -> Result<()> {
    let (location, name) = (plan.state_location(), &plan.settings.name);
    let beside = || StateTools::beside(&location, name);
    let alone = || StateTools::alone(&location, name);
    match action {
        Action::Show { json } => show::show(&beside().await?, *json).await,
        Action::Get { stage, series, limit } => {
            let stage = stateful(plan, stage.as_deref())?;
            get::get(plan, &beside().await?, stage, series.as_deref(), *limit).await
        }
        // An export of a state that is not there must not make one.
        Action::Export { out } => {
            drop(beside().await?);
            transfer::export(&alone().await?, out.as_deref()).await
        }
        Action::Import { input } => transfer::import(&alone().await?, input.as_deref()).await,
        Action::Reset { stage } => {
            let tools = existing(&location, name).await?;
            let forgotten = tools.reset(stage).await?;
            print(&format!("`{stage}` has forgotten {} keys in {}", grouped(forgotten as u64), tools.place()));
            Ok(())
        }
        Action::Rename { from, to } => {
            stateful(plan, Some(to))?;
            let tools = existing(&location, name).await?;
            let renamed = tools.rename(from, to).await?;
            print(&format!("{} keys of `{from}` belong to `{to}` now in {}", grouped(renamed as u64), tools.place()));
            Ok(())
        }
    }
}

/// A state that is there already, to be changed.
async fn existing(location: &str, name: &str) -> Result<StateTools> {
    drop(StateTools::beside(location, name).await?);
    StateTools::alone(location, name).await
}

/// The stage of this id, or the only one that can have state.
fn stateful(plan: &Plan, id: Option<&str>) -> Result<usize> {
    let mut stages = plan.stages.iter().enumerate();
    let can_have_state = |kind: Kind| matches!(kind, Kind::Detector | Kind::Transform);
    let names: Vec<&str> =
        plan.stages.iter().filter(|stage| can_have_state(stage.kind)).map(|stage| stage.id.as_str()).collect();
    let found = match (id, names.as_slice()) {
        (Some(id), _) => stages.find(|(_, stage)| stage.id == id && can_have_state(stage.kind)),
        (None, [only]) => stages.find(|(_, stage)| stage.id == *only),
        (None, _) => None,
    };
    found.map(|(number, _)| number).ok_or_else(|| match id {
        Some(id) => StageError::config(format!("no stage with state is called `{id}`; there is {}", names.join(", "))),
        None => StageError::config(format!("`--stage` must name one of {}", names.join(", "))),
    })
}
