//! `pipeline man`: the manual pages, made from what `--help` says.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::{Cli, FAILED, complain, print};

/// Print the manual page
///
/// Packages bring it; otherwise `pipeline man | man -l -` shows it.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the page of every command into a folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> ExitCode {
    let done = match &args.out {
        Some(folder) => write_all(folder).map_err(|error| format!("`{}` cannot be written: {error}", folder.display())),
        None => print_page().map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

fn write_all(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

fn print_page() -> std::io::Result<()> {
    let mut page = Vec::new();
    // As `write_all` leaves it out: there is no page `pipeline-help(1)` to point to.
    Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
    print(&String::from_utf8_lossy(&page));
    Ok(())
}
