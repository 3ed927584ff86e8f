//! The arguments that several commands share.

use std::path::PathBuf;

use clap::Args;
use pipeline_runtime::file::{Environment, LoadOptions};

use crate::plugins::{self, SearchArgs};

/// Which pipeline.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file
    pub file: PathBuf,
    #[command(flatten)]
    pub overlay: OverlayArgs,
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
