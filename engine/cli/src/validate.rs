//! `pipeline validate`: everything that can be known before a pipeline runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use pipeline_runtime::diagnostics::{Diagnostic, Report};
use pipeline_runtime::graph;
use pipeline_runtime::plan::{Plan, RunSettings, load};
use pipeline_stage::{BuiltSink, Kind, NoConsole, Registry, StageError};
use serde_json::json;

use crate::args::OverlayArgs;
use crate::{FAILED, WRONG, complain, print, print_report};

/// Check pipeline files
///
/// Parses every option, resolves every column and checks the types on every edge, without opening a connection. All
/// mistakes are told at once, each with its place and what would be right; of a good file, what each path promises.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The pipeline files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overlay: OverlayArgs,
    /// Also look whether brokers, topics, tables and columns are there and fit
    #[arg(long)]
    connect: bool,
    /// How the result is written; JSON goes to standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// One list of all diagnostics
    Json,
}

/// Runs the command.
pub fn run(args: &ValidateArgs, registry: &Arc<Registry>) -> ExitCode {
    let mut diagnostics = Vec::new();
    let mut is_good = true;
    for file in &args.files {
        let (plan, mut report) = match load(file, &args.overlay.load_options(), registry) {
            Ok((plan, report)) => (Some(plan), report),
            Err(report) => (None, report),
        };
        if let Some(plan) = plan.as_ref().filter(|_| args.connect) {
            match connect(plan) {
                Ok(problems) => report.diagnostics.extend(problems),
                Err(error) => {
                    complain(&format!("error: {error}"));
                    return ExitCode::from(FAILED);
                }
            }
        }
        is_good &= !report.has_errors();
        match (args.format, &plan) {
            (Format::Json, _) => diagnostics.extend(as_json(file, &report)),
            (Format::Human, Some(plan)) => tell(file, plan, &report),
            (Format::Human, None) => print_report(&report),
        }
    }
    if args.format == Format::Json {
        print(&format!("{:#}", serde_json::Value::Array(diagnostics)));
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(WRONG) }
}

/// The diagnostics of a file; those that stand nowhere carry its name too.
fn as_json(file: &Path, report: &Report) -> Vec<serde_json::Value> {
    let serde_json::Value::Array(mut diagnostics) = report.to_json() else { return Vec::new() };
    for diagnostic in &mut diagnostics {
        if diagnostic["file"].is_null() {
            diagnostic["file"] = json!(file.display().to_string());
        }
    }
    diagnostics
}

fn tell(file: &Path, plan: &Plan, report: &Report) {
    if !report.is_empty() {
        print_report(report);
    }
    if !report.has_errors() {
        print(&format!("{} is valid\n\n{}\n{}", file.display(), graph::text(plan), graph::outlook(plan)));
    }
}

/// Asks every source and sink whether what its options name is there.
fn connect(plan: &Plan) -> Result<Vec<Diagnostic>, StageError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StageError::fatal("the async runtime cannot be started").because(error))?;
    let run = RunSettings { once: true, cold_start: false, catches_up: false, console: Arc::new(NoConsole) };
    let problems = runtime.block_on(async {
        let mut problems = Vec::new();
        for (index, stage) in plan.stages.iter().enumerate() {
            let found = match stage.kind {
                Kind::Source => plan.build_source(index, &run)?.check().await,
                Kind::Sink => match plan.build_sink(index, &run)? {
                    BuiltSink::Epochs(mut sink) => sink.check().await,
                    BuiltSink::Outbox(mut sink) => sink.check().await,
                },
                _ => Vec::new(),
            };
            problems.extend(found.iter().map(|error| plan.diagnose(index, error)));
        }
        Ok(problems)
    });
    // A client library that hangs must not hold up the answer.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    problems
}
