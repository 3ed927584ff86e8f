//! `pipeline plugin check`: what a library says about itself must be there, and true.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use pipeline_stage::{Result, StageType};
use pipeline_testkit::{Checked, checked};

use super::library::{LibraryArg, Loaded, name};
use super::report::{self, Line, say};
use super::symbols;
use crate::{WRONG, complain};

/// More names would not help.
const MAX_SYMBOLS: usize = 5;

/// Check what a library says about itself
///
/// Looks at the version of the plugin interface, the symbols it exports, and of each stage at its name, its
/// documentation, the schema of its options and its example, which must be possible to build.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub library: LibraryArg,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> ExitCode {
    let path = match args.library.path() {
        Ok(path) => path,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            return ExitCode::from(WRONG);
        }
    };
    report::run("checks", || check(&path, args.library.load()))
}

fn check(path: &Path, loaded: Result<Loaded>) {
    say(&Line::Head(path.display().to_string()));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return say(&Line::Bad("cannot be loaded:".into(), error.chain())),
    };
    say(&Line::Good(loaded.about, String::new()));
    if loaded.is_library {
        say(&symbols_of(path));
    }
    loaded.stages.iter().for_each(check_stage);
}

fn symbols_of(path: &Path) -> Line {
    let exported = match symbols::exported(path) {
        Ok(exported) => exported,
        Err(why) => return Line::Note("exports are not looked at:".into(), why),
    };
    let others: Vec<&str> = exported.iter().map(String::as_str).filter(|name| *name != "pipeline_plugin").collect();
    match others.len() {
        0 => Line::Good("exports `pipeline_plugin` and nothing else".into(), String::new()),
        more => {
            let some = others[..more.min(MAX_SYMBOLS)].join(", ");
            let dots = if MAX_SYMBOLS < more { ", …" } else { "" };
            Line::Note(
                "exports more than `pipeline_plugin`:".into(),
                format!("{some}{dots}; hide them (`static`, `-fvisibility=hidden`)"),
            )
        }
    }
}

fn check_stage(stage: &StageType) {
    say(&Line::Head(format!("{}: {}", name(stage), stage.summary())));
    say(&Line::Begin("its example".into()));
    for Checked { what, problems } in checked(stage) {
        if problems.is_empty() {
            say(&Line::Good(what, String::new()));
        }
        for problem in problems {
            say(&Line::Bad(problem, String::new()));
        }
    }
}
