//! `pipeline man`: the manual pages, made from what `--help` says.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::{Cli, FAILED, complain, print};

/// What all pages say at their foot.
const SOURCE: &str = concat!("pipeline ", env!("CARGO_PKG_VERSION"));

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

fn write_all(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    write_with_commands(&everything(), &[], folder)
}

fn print_page() -> io::Result<()> {
    print(&page(&everything(), &[])?);
    Ok(())
}

/// The program with all its commands; there is no page `pipeline-help(1)` to point to.
fn everything() -> Command {
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    all
}

/// Writes the page of a command and those of its own commands.
fn write_with_commands(command: &Command, above: &[String], folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command, above)?)?;
    let here: Vec<String> = [format!("{name}(1)")].into_iter().chain(above.iter().cloned()).collect();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_with_commands(below, &here, folder)?;
    }
    Ok(())
}

/// The page of a command; `above` are the pages that it is named in.
fn page(command: &Command, above: &[String]) -> io::Result<String> {
    let mut page = Vec::new();
    // A date that is empty would be left out, and the version would stand in its place.
    let man = Man::new(command.clone()).date(" ").source(SOURCE).manual("Manual of pipeline");
    man.render(&mut page)?;
    let mut more = Roff::new();
    more.control("SH", ["EXIT STATUS"]).text([roman(exit_codes(command))]);
    if !above.is_empty() {
        more.control("SH", ["SEE ALSO"]).text([roman(above.join(", "))]);
    }
    Ok(String::from_utf8_lossy(&page).into_owned() + &more.to_roff())
}

/// What the description of a command says of its exit codes, or else that of the program.
fn exit_codes(command: &Command) -> String {
    let described = |command: &Command| {
        let description = command.get_long_about()?.to_string();
        description.split_once("Exit codes: ").map(|(_, codes)| codes.to_owned())
    };
    described(command).or_else(|| described(&Cli::command())).unwrap_or_default()
}
