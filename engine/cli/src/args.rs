//! The arguments that several commands share.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use pipeline_runtime::file::{Environment, LoadOptions};
use pipeline_runtime::plan::{Plan, load};
use pipeline_stage::{ErrorKind, Registry, Result};

use crate::plugins::{self, SearchArgs};
use crate::{FAILED, WRONG, complain, print_report};

/// Which pipeline.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file
    pub file: PathBuf,
    #[command(flatten)]
    pub overlay: OverlayArgs,
}

impl PipelineArgs {
    /// Does something with the pipeline's state, for commands that run nothing: plans the file, and says what is wrong
    /// with it or with the work. An error of kind `Config` is one of the file or the arguments.
    pub fn with_plan(&self, registry: &Arc<Registry>, work: impl AsyncFnOnce(&Plan) -> Result<ExitCode>) -> ExitCode {
        let plan = match load(&self.file, &self.overlay.load_options(), registry) {
            Ok((plan, _)) => plan,
            Err(report) => {
                print_report(&report);
                return ExitCode::from(WRONG);
            }
        };
        finish(work(&plan))
    }
}

/// Does the work of a command that runs nothing, and says what is wrong with it. An error of kind `Config` is one of the
/// file or the arguments.
pub fn finish(work: impl Future<Output = Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: the async runtime cannot be started: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    runtime.block_on(work).unwrap_or_else(|error| {
        complain(&format!("error: {}", error.chain()));
        ExitCode::from(if error.kind() == ErrorKind::Config { WRONG } else { FAILED })
    })
}

/// What changes a pipeline file without touching it.
#[derive(Debug, Args)]
pub struct OverlayArgs {
    /// Overlay the file with one of its `profiles:`
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set one value: `--set sources.readings.topic=x`; may be given several times
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub search: SearchArgs,
}

impl OverlayArgs {
    /// With the environment of the process.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            profile: self.profile.clone(),
            set: self.set.clone(),
            environment: Environment::of_process(),
            plugins: Some(plugins::loader(&self.search.plugin_path)),
            ..LoadOptions::default()
        }
    }
}
