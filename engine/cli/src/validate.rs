//! `pipeline validate`: everything that can be known before a pipeline runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use pipeline_runtime::diagnostics::Report;
use pipeline_runtime::graph;
use pipeline_runtime::plan::{Plan, RunSettings, load};
use pipeline_stage::{BuiltSink, ErrorKind, Kind, Registry, StageError};
use serde_json::json;

use crate::args::OverlayArgs;
use crate::{FAILED, WRONG, print, print_report};

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
    pub overlay: OverlayArgs,
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
    let (mut is_wrong, mut is_unreachable) = (false, false);
    for file in &args.files {
        let (plan, mut report) = match load(file, &args.overlay.load_options(), registry) {
            Ok((plan, report)) => (Some(plan), report),
            Err(report) => (None, report),
        };
        is_wrong |= report.has_errors();
        if let Some(plan) = plan.as_ref().filter(|_| args.connect) {
            for (stage, error) in &connect(plan) {
                // A service that does not answer now says nothing about the file.
                match error.kind() {
                    ErrorKind::Transient => is_unreachable = true,
                    _ => is_wrong = true,
                }
                report.diagnostics.push(plan.diagnose(*stage, error));
            }
        }
        match (args.format, &plan) {
            (Format::Json, _) => diagnostics.extend(as_json(file, &report)),
            (Format::Human, Some(plan)) => tell(file, plan, &report),
            (Format::Human, None) => print_report(&report),
        }
    }
    if args.format == Format::Json {
        print(&format!("{:#}", serde_json::Value::Array(diagnostics)));
    }
    match (is_wrong, is_unreachable) {
        (true, _) => ExitCode::from(WRONG),
        (false, true) => ExitCode::from(FAILED),
        (false, false) => ExitCode::SUCCESS,
    }
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

/// Asks every source and sink whether what its options name is there; the problems with their stages.
fn connect(plan: &Plan) -> Vec<(usize, StageError)> {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![(0, StageError::fatal("the async runtime cannot be started").because(error))],
    };
    let run = RunSettings { once: true, ..RunSettings::default() };
    let problems = runtime.block_on(async {
        let mut problems = Vec::new();
        for stage in 0..plan.stages.len() {
            let found = check(plan, stage, &run).await.unwrap_or_else(|error| vec![error]);
            problems.extend(found.into_iter().map(|error| (stage, error)));
        }
        problems
    });
    // A client library that hangs must not hold up the answer.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    problems
}

async fn check(plan: &Plan, stage: usize, run: &RunSettings) -> Result<Vec<StageError>, StageError> {
    Ok(match plan.stages[stage].kind {
        Kind::Source => plan.build_source(stage, run, None)?.check().await,
        Kind::Sink => match plan.build_sink(stage, run)? {
            BuiltSink::Epochs(mut sink) => sink.check().await,
            BuiltSink::Outbox(mut sink) => sink.check().await,
        },
        _ => Vec::new(),
    })
}
