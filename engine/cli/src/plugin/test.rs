//! `pipeline plugin test`: the laws that built-in stages obey, and rows that break stages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pipeline_stage::{Kind, Registry, Result, StageError, StageType};
use pipeline_testkit::{Asked, Effort, trials};

use super::library::{ChoiceArgs, Chosen, LibraryArg, name};
use super::report::{self, Line, say};
use crate::{WRONG, complain};

/// Test whether the stages of a library obey the laws
///
/// Batching does not matter, a crash does not matter, the boundary does not matter; options may change between two
/// runs; and no batch, however hostile, breaks a stage. Sources and sinks are connected to what their options name:
/// with `--options` to something that may be written to.
#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    pub library: LibraryArg,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// The built-in stage that must give the same, byte for byte; otherwise the one of the same kind and name
    #[arg(long, value_name = "KIND.NAME", requires = "stage")]
    like: Option<String>,
}

/// Runs the command.
pub fn run(args: &TestArgs, built_in: &Registry) -> ExitCode {
    let like = args.like.as_ref().map(|wanted| find(wanted, built_in)).transpose();
    let (path, like) = match args.library.path().and_then(|path| Ok((path, like?))) {
        Ok(found) => found,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            return ExitCode::from(WRONG);
        }
    };
    report::run("trials", || {
        say(&Line::Begin("loading it".into()));
        match args.library.load().and_then(|loaded| Ok((loaded.effort(), args.choice.of(&loaded)?))) {
            Ok((effort, chosen)) => {
                chosen
                    .iter()
                    .for_each(|chosen| test(chosen, like.or_else(|| same(chosen, built_in)), effort, &args.choice));
            }
            Err(error) => {
                say(&Line::Head(path.display().to_string()));
                say(&Line::Bad("cannot be tested:".into(), error.chain()));
            }
        }
    })
}

fn find<'a>(wanted: &str, built_in: &'a Registry) -> Result<&'a StageType> {
    let mut found = built_in.all().filter(|stage| name(stage) == wanted);
    found.next().ok_or_else(|| StageError::config(format!("no built-in stage is called `{wanted}`")))
}

/// The built-in stage of the same kind and name.
fn same<'a>(chosen: &Chosen, built_in: &'a Registry) -> Option<&'a StageType> {
    built_in.find(chosen.stage.kind, &chosen.stage.name)
}

fn test(chosen: &Chosen, like: Option<&StageType>, effort: Effort, choice: &ChoiceArgs) {
    let Chosen { stage, options } = chosen;
    say(&Line::Head(format!("{}: {}", name(stage), stage.summary())));
    if stage.kind == Kind::Format {
        return say(&Line::Note("there are no laws of formats yet".into(), String::new()));
    }
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return say(&Line::Bad("there is no folder for temporary files:".into(), error.to_string())),
    };
    let of_options = choice.options.as_ref().and_then(|file| file.parent()).map(Path::to_path_buf);
    let directory = of_options.unwrap_or_else(|| scratch.0.clone());
    for trial in trials(&Asked { stage, options, like, directory: &directory, effort }) {
        let what = trial.name.clone();
        say(&Line::Begin(what.clone()));
        say(&match trial.run() {
            Ok(found) => Line::Good(what, found),
            Err(broken) => Line::Bad(what, broken.to_string()),
        });
    }
}

/// A folder that goes when the trials are over: what a sink's example names is written into it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("pipeline-plugin-test-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies where the system tidies up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
