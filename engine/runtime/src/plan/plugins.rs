//! `plugins:` of a pipeline file: the libraries whose stages it can name beside those that are built in.
//!
//! They are loaded before anything else of the file is looked at: which options are secrets is known of their stages
//! only then. How a library is loaded is not known here, see [`LoadPlugins`].

use std::path::Path;
use std::sync::Arc;

use pipeline_stage::{Registry, StageError, StageType};
use serde_json::Value;

use super::spec::{PluginChoice, PluginOptions};
use crate::file::{PipelineFile, Pointer};

/// A library that a pipeline file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRef {
    /// `path:`: a path, or a bare name to be searched for.
    pub path: String,
    /// `python:`, the program that runs a plugin in Python.
    pub python: Option<String>,
    /// `sha256:`, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// `replaces:`.
    pub replaces: bool,
}

/// Loads the libraries that a pipeline file names; the engine's own crates know no way to do it.
pub trait LoadPlugins: std::fmt::Debug + Send + Sync {
    /// The stages of a library. A relative path with a `/` starts at `directory`, the pipeline file's folder; a bare
    /// name is searched for. Loading one twice gives the same stages.
    ///
    /// # Errors
    /// When there is no such library, it is not the wanted one (the error's option is `sha256` then), or it cannot be
    /// used. The error is shown at the library's place in the file, and the file is not planned.
    fn load(&self, plugin: &PluginRef, directory: &Path) -> pipeline_stage::Result<Vec<StageType>>;
}

/// The stages a file can name, once its libraries are loaded.
pub(super) struct Plugins {
    /// The built-in stages and those of the libraries.
    pub registry: Arc<Registry>,
    /// What was wrong with which entry.
    pub errors: Vec<(Pointer, StageError)>,
    /// All libraries were loaded: a type that is not known does not stand in one of them.
    pub is_complete: bool,
}

/// Loads the libraries of a file, in its order. What is no entry at all is left out: the check of the settings says it.
pub(super) fn load(file: &PipelineFile, loader: Option<&dyn LoadPlugins>, registry: &Arc<Registry>) -> Plugins {
    let mut plugins = Plugins { registry: registry.clone(), errors: Vec::new(), is_complete: true };
    let items = match file.value().get("plugins") {
        None | Some(Value::Null) => return plugins,
        Some(Value::Array(items)) => items.as_slice(),
        Some(_) => {
            plugins.is_complete = false;
            return plugins;
        }
    };
    let mut extended = Registry::clone(registry);
    let mut seen: Vec<Arc<str>> = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let pointer = Pointer::new(["plugins"]).join(number);
        let Some(plugin) = read(file, &pointer, item) else {
            plugins.is_complete = false;
            continue;
        };
        match stages(&plugin, file, loader).and_then(|stages| once(&plugin, stages, &mut seen)) {
            Ok(stages) => {
                let errors = stages.into_iter().filter_map(|stage| add(&mut extended, stage, plugin.replaces).err());
                plugins.errors.extend(errors.map(|error| (pointer.clone(), error)));
            }
            Err(error) => {
                plugins.is_complete = false;
                plugins.errors.push((pointer, error));
            }
        }
    }
    plugins.registry = Arc::new(extended);
    plugins
}

/// An entry; none when it is not one, or a variable in it is missing.
fn read(file: &PipelineFile, pointer: &Pointer, item: &Value) -> Option<PluginRef> {
    let parts = ["path", "python", "sha256", "replaces"].map(|part| pointer.join(part));
    if file.is_unknown(pointer) || parts.iter().any(|part| file.is_unknown(part)) {
        return None;
    }
    // A name that comes from a variable and looks like a number is a name all the same.
    let mut item = file.text_of(pointer).map_or_else(|| item.clone(), Value::from);
    for name in ["path", "python", "sha256"] {
        if let (Some(text), Some(value)) = (file.text_of(&pointer.join(name)), item.get_mut(name)) {
            *value = text.into();
        }
    }
    Some(match serde_json::from_value(item).ok()? {
        PluginChoice::Path(path) => PluginRef { path, python: None, sha256: None, replaces: false },
        PluginChoice::Options(options) => {
            let PluginOptions { path, python, sha256, replaces } = options;
            PluginRef { path, python, sha256, replaces }
        }
    })
}

fn stages(
    plugin: &PluginRef,
    file: &PipelineFile,
    loader: Option<&dyn LoadPlugins>,
) -> pipeline_stage::Result<Vec<StageType>> {
    if plugin.path.is_empty() {
        return Err(StageError::config("the path of a library is missing; such as `./libheartbeat.so`"));
    }
    if let Some(sum) = &plugin.sha256
        && (sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        let message = format!("`sha256` is `{sum}`, it must be 64 hexadecimal digits; `sha256sum` prints them");
        return Err(StageError::config(message).at_option("sha256"));
    }
    match loader {
        Some(loader) => loader.load(plugin, &file.directory),
        None => Err(StageError::config("libraries cannot be loaded here")),
    }
}

/// Refuses a library that was named before: all its stages would clash with themselves.
fn once(
    plugin: &PluginRef,
    stages: Vec<StageType>,
    seen: &mut Vec<Arc<str>>,
) -> pipeline_stage::Result<Vec<StageType>> {
    let library = stages.iter().find_map(|stage| stage.library.clone());
    if let Some(library) = library {
        if seen.contains(&library) {
            let message = format!("the library `{}` is named twice; delete one of the two entries", plugin.path);
            return Err(StageError::config(message));
        }
        seen.push(library);
    }
    Ok(stages)
}

/// Only what is built in is replaced: of two libraries it would depend on their order which one is used.
fn add(registry: &mut Registry, stage: StageType, replaces: bool) -> pipeline_stage::Result<()> {
    // A binary that loads what it has not built in has loaded it already.
    let is_there = |other: &StageType| other.library.is_some() && other.library == stage.library;
    if registry.find(stage.kind, &stage.name).is_some_and(is_there) {
        return Ok(());
    }
    let is_built_in = registry.find(stage.kind, &stage.name).is_some_and(|other| other.library.is_none());
    if is_built_in && replaces {
        registry.replace(stage);
        return Ok(());
    }
    let help = match is_built_in {
        true => "; with `replaces: true` the library's is used",
        false => "",
    };
    registry.add(stage).map_err(|error| StageError::config(format!("{error}{help}")))
}
