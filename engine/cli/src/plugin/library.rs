//! The library that a command is about, and which of its stages.

use std::path::{Path, PathBuf};

use clap::Args;
use pipeline_abi::host::Library;
use pipeline_runtime::diagnostics::nearest;
use pipeline_stage::{Result, StageError, StageType};
use pipeline_testkit::{example_options, options_in};
use serde_json::Value;

use crate::plugins::{self, SearchArgs};

/// Which library.
#[derive(Debug, Args)]
pub struct LibraryArg {
    /// The shared library, a path or a name
    #[arg(value_name = "LIB")]
    pub library: String,
    #[command(flatten)]
    pub search: SearchArgs,
}

/// Which stages of it, and with which options.
#[derive(Debug, Args)]
pub struct ChoiceArgs {
    /// Only this stage, such as `detector.heartbeat`; all of them otherwise
    #[arg(long, value_name = "KIND.NAME")]
    pub stage: Option<String>,
    /// A YAML file with the options of the stage, in the place of those of its example
    #[arg(long, value_name = "FILE", requires = "stage")]
    pub options: Option<PathBuf>,
}

/// A stage with the options it is run with.
pub struct Chosen {
    /// The stage.
    pub stage: StageType,
    /// Its options.
    pub options: Value,
}

impl LibraryArg {
    /// Where it lies: the file of this path, or what is found by this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn path(&self) -> Result<PathBuf> {
        let path = Path::new(&self.library);
        if path.is_file() {
            return Ok(path.into());
        }
        plugins::find(&self.library, &self.search.plugin_path)
    }

    /// Loads it.
    ///
    /// # Errors
    /// As `Library::load`.
    pub fn load(&self) -> Result<Library> {
        Library::load(&self.path()?, None)
    }
}

impl ChoiceArgs {
    /// The stages that are asked for, with their options.
    ///
    /// # Errors
    /// When there is no such stage, or its options cannot be read.
    pub fn of(&self, library: &Library) -> Result<Vec<Chosen>> {
        let Some(wanted) = &self.stage else {
            return library.stages.iter().map(|stage| self.chosen(stage)).collect();
        };
        let found = library.stages.iter().find(|stage| name(stage) == *wanted || stage.name == *wanted);
        match found {
            Some(stage) => Ok(vec![self.chosen(stage)?]),
            None => Err(unknown(wanted, library)),
        }
    }

    fn chosen(&self, stage: &StageType) -> Result<Chosen> {
        let read = match &self.options {
            None => example_options(stage),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("`{}` cannot be read: {error}", file.display()))
                .and_then(|text| options_in(stage, &text)),
        };
        let options = read.map_err(|why| StageError::config(format!("{}: {why}", name(stage))))?;
        Ok(Chosen { stage: stage.clone(), options: Value::Object(options) })
    }
}

/// `detector.heartbeat`.
pub fn name(stage: &StageType) -> String {
    format!("{}.{}", stage.kind.name(), stage.name)
}

fn unknown(wanted: &str, library: &Library) -> StageError {
    let names: Vec<String> = library.stages.iter().map(name).collect();
    StageError::config(match nearest(wanted, names.iter().map(String::as_str)) {
        Some(meant) => format!("the library has no stage `{wanted}`, did you mean `{meant}`?"),
        None => format!("the library has no stage `{wanted}`; there is {}", names.join(", ")),
    })
}
