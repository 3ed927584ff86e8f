//! `pipeline stages`: what a pipeline file can name.

use std::process::ExitCode;

use clap::Args;
use pipeline_runtime::diagnostics::nearest;
use pipeline_runtime::schema;
use pipeline_stage::{Kind, Registry, StageType};

use crate::plugins::{LibraryArgs, library_name};
use crate::{WRONG, complain, print};

/// List the stages there are, or explain one
#[derive(Debug, Args)]
pub struct StagesArgs {
    /// The stage to explain, such as `detector.zscore`
    #[arg(value_name = "KIND.NAME")]
    stage: Option<String>,
    #[command(flatten)]
    pub libraries: LibraryArgs,
}

/// Runs the command.
pub fn run(args: &StagesArgs, built_in: &Registry) -> ExitCode {
    let registry = match args.libraries.extend(built_in) {
        Ok(registry) => registry,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            return ExitCode::from(WRONG);
        }
    };
    let Some(wanted) = &args.stage else {
        print(&overview(&registry));
        return ExitCode::SUCCESS;
    };
    let found: Vec<&StageType> =
        registry.all().filter(|stage| name(stage) == *wanted || stage.name == *wanted).collect();
    if found.is_empty() {
        complain(&format!("error: {}", unknown(wanted, &registry)));
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

/// Name and first sentence of each stage, by kind, and the library it was loaded from.
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
            let library = library_name(stage).map(|name| format!(" ({name})")).unwrap_or_default();
            text.push_str(&format!("  {:<width$}   {}{library}\n", stage.name, stage.summary()));
        }
        text.push('\n');
    }
    text.push_str("`pipeline stages KIND.NAME` explains one, with its options and an example\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_of_a_library_is_listed_with_the_librarys_name() {
        let mut registry = crate::registry::slim();
        let zscore = registry.find(Kind::Detector, "zscore").expect("a built-in detector").clone();
        registry.replace(StageType { library: Some("/x/libz.so".into()), ..zscore });
        let overview = overview(&registry);
        let named: Vec<&str> =
            overview.lines().filter(|line| line.ends_with(" (libz.so)")).map(str::trim_start).collect();
        assert!(matches!(named.as_slice(), [line] if line.starts_with("zscore ")), "{named:?}");
        assert_eq!(overview.matches(".so)").count(), 1, "built-in stages name no library");
    }
}
