//! The binary `pipeline-slim`: what needs a client library is loaded where it is found, see `registry::BESIDE_SLIM`.

use std::process::ExitCode;

use pipeline_cli::registry;

fn main() -> ExitCode {
    pipeline_cli::run(registry::slim(), &registry::BESIDE_SLIM)
}
