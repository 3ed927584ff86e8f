//! `pipeline completions`: what a shell offers when Tab is pressed.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{Cli, print};

/// Print the completions for a shell
///
/// They complete commands, options and paths. Packages bring them; otherwise, for bash:
/// `pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "pipeline", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
