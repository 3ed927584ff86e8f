//! `pipeline stages`: what a pipeline file can name.

use std::process::ExitCode;

use clap::Args;
use pipeline_runtime::diagnostics::nearest;
use pipeline_runtime::schema;
use pipeline_stage::{Kind, Registry, StageType};

use crate::{WRONG, complain, print};

/// List the stages there are, or explain one
#[derive(Debug, Args)]
pub struct StagesArgs {
    /// The stage to explain, such as `detector.zscore`
    #[arg(value_name = "KIND.NAME")]
    stage: Option<String>,
}

/// Runs the command.
pub fn run(args: &StagesArgs, registry: &Registry) -> ExitCode {
    let Some(wanted) = &args.stage else {
        print(&overview(registry));
        return ExitCode::SUCCESS;
    };
    let found: Vec<&StageType> =
        registry.all().filter(|stage| name(stage) == *wanted || stage.name == *wanted).collect();
    if found.is_empty() {
        complain(&format!("error: {}", unknown(wanted, registry)));
        return ExitCode::from(WRONG);
    }
    // `kafka` alone may be a source and a sink.
    let pages: Vec<String> = found.into_iter().map(schema::explanation).collect();
    print(&pages.join("\n\n"));
    ExitCode::SUCCESS
}

fn name(stage: &StageType) -> String {
    format!("{}.{}", stage.kind.name(), stage.name)
}

fn unknown(wanted: &str, registry: &Registry) -> String {
    let names: Vec<String> = registry.all().map(name).collect();
    let short = registry.all().map(|stage| stage.name.as_str());
    match nearest(wanted, names.iter().map(String::as_str).chain(short)) {
        Some(meant) => format!("no stage is called `{wanted}`, did you mean `{meant}`?"),
        None => format!("no stage is called `{wanted}`; there is {}", names.join(", ")),
    }
}

/// Name and first sentence of each stage, by kind.
fn overview(registry: &Registry) -> String {
    let width = registry.all().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for kind in Kind::ALL {
        let stages: Vec<&StageType> = registry.of_kind(kind).collect();
        if stages.is_empty() {
            continue;
        }
        text.push_str(&format!("{}s\n", kind.name()));
        for stage in stages {
            text.push_str(&format!("  {:<width$}   {}\n", stage.name, stage.summary()));
        }
        text.push('\n');
    }
    text.push_str("`pipeline stages KIND.NAME` explains one, with its options and an example\n");
    text
}
