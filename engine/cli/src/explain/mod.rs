//! `pipeline explain`: why an alert came, with its score computed again.

mod deliveries;
mod find;
mod json;
mod shown;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use pipeline_runtime::explain::judge_again;
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::EvidenceLine;
use pipeline_runtime::store::tools::StateTools;
use pipeline_stage::{Registry, Result, StageError};

use crate::args::PipelineArgs;
use crate::{FAILED, complain, print};
use shown::Explained;

/// Say why an alert came, and compute its score again
///
/// With each anomaly the state store keeps what it was judged by: the series before it, where it was read, the options of
/// the detector. From that the score is computed again, whatever has become of the pipeline file since. May be asked
/// while the pipeline runs. Exit codes: 0 the numbers are those of the alert, 1 they are not or cannot be computed again,
/// 2 there is no such alert or the file is wrong.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The alert's id, as the console, Slack, webhooks and files show it; its beginning will do
    #[arg(required_unless_present = "series", conflicts_with = "series", value_name = "ALERT_ID")]
    id: Option<String>,
    /// Look for the alerts of a series instead: the key's values, `sensor-04,temperature`, or some of its columns,
    /// `sensor_id=sensor-04`; with one match it is explained, several are listed with their ids
    #[arg(long, value_name = "KEY")]
    series: Option<String>,
    /// Only those whose time begins so, in UTC: `2025-07-20T08:19`
    #[arg(long, requires = "series", value_name = "TIME")]
    at: Option<String>,
    /// Of a list at most so many, the newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// How it is shown
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object on each line
    Json,
}

/// Runs the command.
pub fn run(args: &ExplainArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        let is_same = act(plan, args).await?;
        Ok(ExitCode::from(if is_same { 0 } else { FAILED }))
    })
}

/// Says whether all that was computed again is the same.
async fn act(plan: &Plan, args: &ExplainArgs) -> Result<bool> {
    let tools = StateTools::beside(&plan.state_location(), &plan.settings.name).await?;
    let (lines, damaged) = tools.evidence_lines().await?;
    for row in damaged {
        complain(&format!("warning: {row}; its evidence is left out"));
    }
    let found = match (&args.id, &args.series) {
        (Some(id), _) => find::by_id(&plan.settings.name, &lines, id)?,
        (None, series) => {
            let found = find::by_series(&lines, series.as_deref().unwrap_or_default(), args.at.as_deref())?;
            if 1 < found.len() {
                list(&found, args);
                return Ok(true);
            }
            found
        }
    };
    let mut is_same = true;
    for (number, line) in found.into_iter().enumerate() {
        if 0 < number && args.format == Format::Text {
            print("");
        }
        let explained = explain(plan, &tools, line).await?;
        is_same &= explained.again.as_ref().is_ok_and(|again| again.is_same);
        print(&match args.format {
            Format::Text => explained.as_text(),
            Format::Json => explained.as_json().to_string(),
        });
    }
    Ok(is_same)
}

async fn explain(plan: &Plan, tools: &StateTools, line: &EvidenceLine) -> Result<Explained> {
    let evidence = tools.evidence(line.number).await?;
    let evidence = evidence.ok_or_else(|| StageError::fatal("its evidence has just been dropped: it was too old"))?;
    let deliveries = deliveries::of(plan, tools, line, &evidence.judged).await?;
    let again = judge_again(plan, &line.stage, &evidence).map_err(|error| error.chain());
    Ok(Explained { line: line.clone(), evidence, again, deliveries })
}

fn list(found: &[&EvidenceLine], args: &ExplainArgs) {
    for line in found.iter().take(args.limit as usize) {
        print(&match args.format {
            Format::Text => find::as_line(line),
            Format::Json => find::as_object(line).to_string(),
        });
    }
    if (args.limit as usize) < found.len() {
        complain(&format!("there are {} in all; `--limit` shows more, `--at` fewer", found.len()));
    }
}
