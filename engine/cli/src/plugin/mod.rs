//! `pipeline plugin`: what a person who writes a plugin needs, from the first file to the last measurement.

mod bench;
mod check;
mod library;
mod new;
mod report;
mod symbols;
mod test;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use pipeline_stage::Registry;

use crate::plugins::SearchArgs;

/// Write, check, test and measure a plugin
#[derive(Debug, Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    New(new::NewArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Bench(bench::BenchArgs),
}

impl PluginArgs {
    /// Where it searches for libraries.
    pub fn search(&self) -> &SearchArgs {
        const NOWHERE: &SearchArgs = &SearchArgs { plugin_path: Vec::new() };
        match &self.command {
            PluginCommand::New(_) => NOWHERE,
            PluginCommand::Check(args) => &args.library.search,
            PluginCommand::Test(args) => &args.library.search,
            PluginCommand::Bench(args) => &args.library.search,
        }
    }
}

/// Runs the command.
pub fn run(args: &PluginArgs, built_in: &Registry) -> ExitCode {
    match &args.command {
        PluginCommand::New(args) => new::run(args, built_in),
        PluginCommand::Check(args) => check::run(args),
        PluginCommand::Test(args) => test::run(args, built_in),
        PluginCommand::Bench(args) => bench::run(args, built_in),
    }
}
