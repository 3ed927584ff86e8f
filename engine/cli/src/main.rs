//! The binary `pipeline`, with all plugins built in.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipeline_cli::run(pipeline_cli::registry::full(), &[])
}
