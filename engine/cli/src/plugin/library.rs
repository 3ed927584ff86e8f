//! The plugin that a command is about, and which of its stages.

use std::path::{Path, PathBuf};

use clap::Args;
use pipeline_abi::host::Library;
use pipeline_python::{Interpreter, Plugin};
use pipeline_runtime::diagnostics::nearest;
use pipeline_stage::{Result, StageError, StageType};
use pipeline_testkit::{Effort, example_options, options_in};
use serde_json::Value;

use crate::plugins::{self, SearchArgs};

/// Which plugin.
#[derive(Debug, Args)]
pub struct LibraryArg {
    /// The shared library or the Python file, a path or a name
    #[arg(value_name = "LIB")]
    pub library: String,
    /// The Python that runs a plugin in Python; otherwise that of PIPELINE_PYTHON, then `python3`
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<String>,
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

/// A plugin that was loaded.
pub struct Loaded {
    /// What it says of itself as a whole, in words.
    pub about: String,
    /// Its stages, in its order.
    pub stages: Vec<StageType>,
    /// Whether it has symbols.
    pub is_library: bool,
}

impl Loaded {
    /// How hard its stages can be tried: to build one in Python starts a process.
    pub fn effort(&self) -> Effort {
        if self.is_library { Effort::Full } else { Effort::Brief }
    }
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
        if path.is_file() || pipeline_python::is_plugin(path) {
            return Ok(path.into());
        }
        plugins::find(&self.library, &self.search.plugin_path)
    }

    /// Loads it.
    ///
    /// # Errors
    /// In words, when it cannot be loaded.
    pub fn load(&self) -> Result<Loaded> {
        let path = self.path()?;
        if pipeline_python::is_plugin(&path) {
            let interpreter = Interpreter::find(self.python.as_deref(), Path::new(""));
            let about = format!("is a plugin in Python, run by `{}`", interpreter.program().display());
            let Plugin { stages, .. } = Plugin::load(&path, interpreter, None)?;
            return Ok(Loaded { about, stages, is_library: false });
        }
        if self.python.is_some() {
            let message = format!("`{}` is no plugin in Python, so `--python` says nothing", path.display());
            return Err(StageError::config(message));
        }
        let Library { name, version, abi: (major, minor), stages } = Library::load(&path, None)?;
        let about = format!("is `{name}` {version}, built for version {major}.{minor} of the interface");
        Ok(Loaded { about, stages, is_library: true })
    }
}

impl ChoiceArgs {
    /// The stages that are asked for, with their options.
    ///
    /// # Errors
    /// When there is no such stage, or its options cannot be read.
    pub fn of(&self, library: &Loaded) -> Result<Vec<Chosen>> {
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

fn unknown(wanted: &str, library: &Loaded) -> StageError {
    let names: Vec<String> = library.stages.iter().map(name).collect();
    StageError::config(match nearest(wanted, names.iter().map(String::as_str)) {
        Some(meant) => format!("the library has no stage `{wanted}`, did you mean `{meant}`?"),
        None => format!("the library has no stage `{wanted}`; there is {}", names.join(", ")),
    })
}
