//! The command line of `pipeline`: streaming pipelines from YAML files that find anomalies in sensor data.
//!
//! One file for each command; this one knows which there are. What is built in, a binary says: `pipeline` has all
//! plugins, `pipeline-slim` those that need no heavy client.

mod args;
mod bench;
mod books;
mod completions;
mod dashboard;
mod dead_letters;
mod diff;
mod explain;
mod graph;
mod health;
mod man;
mod memory;
mod plugin;
mod plugins;
pub mod registry;
mod remote;
mod run;
mod schema;
mod screen;
mod stages;
mod state;
mod tap;
mod top;
mod traces;
mod validate;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use pipeline_runtime::diagnostics::Report;
use pipeline_stage::Registry;
use tracing::level_filters::LevelFilter;

use plugins::SearchArgs;
use registry::Beside;
use screen::LogFormat;

/// The exit code of a command that failed while it ran.
const FAILED: u8 = 1;
/// The exit code for a wrong file or wrong arguments.
const WRONG: u8 = 2;

/// Runs streaming pipelines described in YAML and finds anomalies in sensor data as it arrives
///
/// Exit codes: 0 done, 1 failed while running, 2 the file or the arguments are wrong.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// What every command can be told.
#[derive(Debug, Args)]
struct GlobalArgs {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log: LogFormat,
    /// Log more: once for each commit's details, twice for each batch's
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl GlobalArgs {
    fn level(&self) -> LevelFilter {
        match self.verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Top(top::TopArgs),
    Tap(tap::TapArgs),
    Health(health::HealthArgs),
    Validate(validate::ValidateArgs),
    Graph(graph::GraphArgs),
    Bench(bench::BenchArgs),
    Stages(stages::StagesArgs),
    Schema(schema::SchemaArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    State(state::StateArgs),
    Diff(diff::DiffArgs),
    Explain(explain::ExplainArgs),
    Plugin(plugin::PluginArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Where it searches for libraries; none when it needs no stages.
    fn search(&self) -> Option<&SearchArgs> {
        let search = match self {
            Command::Run(args) => &args.pipeline.overlay.search,
            Command::Top(args) => &args.pipeline.overlay.search,
            Command::Tap(args) => &args.pipeline.overlay.search,
            Command::Validate(args) => &args.overlay.search,
            Command::Graph(args) => &args.pipeline.overlay.search,
            Command::Bench(args) => &args.pipeline.overlay.search,
            Command::Stages(args) => &args.libraries.search,
            Command::Schema(args) => &args.libraries.search,
            Command::DeadLetters(args) => &args.pipeline.overlay.search,
            Command::State(args) => &args.pipeline.overlay.search,
            Command::Diff(args) => &args.pipeline.overlay.search,
            Command::Explain(args) => &args.pipeline.overlay.search,
            Command::Plugin(args) => args.search(),
            Command::Health(_) | Command::Completions(_) | Command::Man(_) => return None,
        };
        Some(search)
    }
}

/// Runs the command that the process was started with, with these stages built in, and those that lie beside them.
pub fn run(mut built_in: Registry, beside: &[Beside]) -> ExitCode {
    memory::take_little();
    let cli = Cli::parse();
    if let Some(search) = cli.command.search()
        && let Err(error) = plugins::load_beside(&mut built_in, beside, search)
    {
        complain(&format!("error: {}", error.chain()));
        return ExitCode::from(WRONG);
    }
    let registry = Arc::new(built_in);
    match &cli.command {
        Command::Run(args) => run::run(args, &cli.global, registry),
        Command::Top(args) => top::run(args, &registry),
        Command::Tap(args) => tap::run(args, &registry),
        Command::Health(args) => health::run(args),
        Command::Validate(args) => validate::run(args, &registry),
        Command::Graph(args) => graph::run(args, &registry),
        Command::Bench(args) => bench::run(args, &registry),
        Command::Stages(args) => stages::run(args, &registry),
        Command::Schema(args) => schema::run(args, &registry),
        Command::DeadLetters(args) => dead_letters::run(args, &registry),
        Command::State(args) => state::run(args, &registry),
        Command::Diff(args) => diff::run(args, &registry),
        Command::Explain(args) => explain::run(args, &registry),
        Command::Plugin(args) => plugin::run(args, &registry),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// Writes what is to be said about a pipeline file to standard error.
fn print_report(report: &Report) {
    let in_colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    complain(&report.render(in_colour));
}

/// Writes a line to standard error.
fn complain(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// Writes lines to standard output. When it is closed (`| head`), the command has said enough.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'));
}
