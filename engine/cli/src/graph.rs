//! `pipeline graph`: a pipeline as a picture.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use pipeline_runtime::graph;
use pipeline_runtime::plan::load;
use pipeline_stage::Registry;

use crate::args::PipelineArgs;
use crate::{WRONG, print, print_report};

/// Draw a pipeline
///
/// Shows which stage reads which, what each does, and what its sinks promise. Secrets are left out.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How it is drawn
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A tree for the terminal
    Text,
    /// A Mermaid flowchart, for READMEs and wikis
    Mermaid,
    /// Graphviz: `pipeline graph FILE --format dot | dot -Tsvg`
    Dot,
}

/// Runs the command.
pub fn run(args: &GraphArgs, registry: &Arc<Registry>) -> ExitCode {
    let (plan, report) = match load(&args.pipeline.file, &args.pipeline.overlay.load_options(), registry) {
        Ok(loaded) => loaded,
        Err(report) => {
            print_report(&report);
            return ExitCode::from(WRONG);
        }
    };
    if !report.is_empty() {
        print_report(&report);
    }
    print(&match args.format {
        Format::Text => graph::text(&plan),
        Format::Mermaid => graph::mermaid(&plan),
        Format::Dot => graph::dot(&plan),
    });
    ExitCode::SUCCESS
}
