//! The binary `pipeline-slim`: what needs a client library is loaded, `plugins: [pipeline_kafka_plugin]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipeline_cli::run(pipeline_cli::registry::slim())
}
