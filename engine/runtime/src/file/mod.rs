//! A pipeline file as values: read, overlaid by its profile, the environment and arguments, variables replaced. Every
//! value knows where it was written.
//!
//! Nothing here knows what a value means; that is the plan's business.

mod environment;
mod layers;
mod overrides;
mod parse;
mod places;
mod pointer;
mod problems;
mod profiles;
mod spans;
mod tree;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use environment::Environment;
pub use layers::{Layer, Rank, STAGE_MAPS};
pub use overrides::PREFIX;
pub use pointer::Pointer;
pub use tree::{Content, Entry, Node, Scalar};

use crate::diagnostics::{Diagnostic, Label, Place, Report, Severity, SourceText};
use crate::plan::LoadPlugins;
use layers::Merged;
use variables::{Lookup, Resolved};

/// What decides, beside the file, what a pipeline is.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--profile`.
    pub profile: Option<String>,
    /// The arguments of `--set`, in order.
    pub set: Vec<String>,
    /// Environment variables; `.env` files are read on top of them.
    pub environment: Environment,
    /// The secrets that a stored definition refers to by their places; see [`crate::plan::Plan::secrets`].
    pub secrets: BTreeMap<String, String>,
    /// The text is a stored definition: environment variables have changed it already.
    pub is_complete: bool,
    /// Loads the libraries that the file names; without it they are an error.
    pub plugins: Option<Arc<dyn LoadPlugins>>,
}

/// The values of a pipeline file.
#[derive(Debug)]
pub struct PipelineFile {
    /// The file's folder.
    pub directory: PathBuf,
    /// The file's text, then those of the arguments and variables that changed it.
    pub sources: Vec<SourceText>,
    /// The file as it was read.
    pub root: Node,
    /// What was merged, from the lowest to the highest; the first is the file.
    pub layers: Vec<Layer>,
    /// The names under `profiles:`.
    pub profiles: Vec<String>,
    /// The profile that was asked for.
    pub profile: Option<String>,
    /// Worth knowing, though nothing is wrong.
    pub warnings: Vec<Diagnostic>,
    merged: Merged,
    resolved: Resolved,
}

impl PipelineFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not YAML, or an argument or the profile does not fit it. Variables that are missing
    /// are no error yet: see [`PipelineFile::problems`].
    pub fn read(path: &Path, options: &LoadOptions) -> Result<Self, Report> {
        let cannot_read = |why: String| {
            Report::of(Diagnostic::error(format!("the file `{}` cannot be read", path.display())).note(why))
        };
        let bytes = std::fs::read(path).map_err(|error| cannot_read(why_unreadable(&error)))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
            cannot_read(format!("line {line} is not UTF-8"))
        })?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(&path.display().to_string(), &text, &directory, options)
    }

    /// Reads a text. `name` is what messages call it, relative paths in it start at `directory`.
    ///
    /// # Errors
    /// As [`PipelineFile::read`].
    pub fn parse(name: &str, text: &str, directory: &Path, options: &LoadOptions) -> Result<Self, Report> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut sources = vec![SourceText::new(name, text)];
        let root = parse::parse(text, 0).and_then(|root| map_only(root, text));
        let root = root.map_err(|problems| Report::new(sources.clone(), problems))?;
        let mut environment = options.environment.clone();
        let mut problems = environment.read_dotenv(directory);
        let profiles = profiles::names(&root);
        let mut layers = vec![profiles::without(&root)];
        match profiles::find(&root, options.profile.as_deref()) {
            Ok(layer) => layers.extend(layer),
            Err(problem) => problems.push(*problem),
        }
        let mut warnings = Vec::new();
        let stages = profiles::stages(&layers);
        let (to_layers, to_problems, to_warnings) = (&mut layers, &mut problems, &mut warnings);
        Outside { sources: &mut sources, layers: to_layers, stages, problems: to_problems, warnings: to_warnings }
            .add(&environment, options);
        if !problems.is_empty() {
            return Err(Report::new(sources, problems));
        }
        let merged = layers::merge(&mut layers);
        let lookup = Lookup { environment: &environment, directory, secrets: &options.secrets };
        let resolved = variables::resolve(&merged.value, &lookup);
        let (directory, profile) = (directory.to_path_buf(), options.profile.clone());
        Ok(PipelineFile { directory, sources, root, layers, profiles, profile, warnings, merged, resolved })
    }

    /// The values, variables replaced. Hold secrets: never print them.
    pub fn value(&self) -> &Value {
        &self.resolved.value
    }

    /// The values as written, variables not replaced, without `profiles:`.
    pub fn unresolved(&self) -> &Value {
        &self.merged.value
    }

    /// The variables a value was made of; none for values written out.
    pub fn variables(&self, pointer: &Pointer) -> &[String] {
        self.resolved.variables.get(pointer).map_or(&[], Vec::as_slice)
    }

    /// What a value was as text, if it came from a variable, the environment or an argument: `0123` is no number where
    /// text is wanted.
    pub fn text_of(&self, pointer: &Pointer) -> Option<&str> {
        if let Some(text) = self.resolved.texts.get(pointer) {
            return Some(text);
        }
        let layer = &self.layers[*self.merged.layers.get(pointer)?];
        let is_from_outside = Rank::Profile < layer.rank;
        let scalar = layer.node.at(pointer.parts())?.scalar()?;
        is_from_outside.then_some(scalar.text.as_str())
    }

    /// The variables that are missing or badly written.
    pub fn problems(&self) -> Vec<Diagnostic> {
        let problems = self.resolved.problems.iter();
        problems
            .map(|(pointer, range, problem)| {
                let place = self.place_inside(pointer, range.clone());
                let mut problem = problem.clone();
                problem.labels.insert(0, Label { place, message: String::new() });
                problem
            })
            .collect()
    }

    /// Whether a value is missing because one of its variables is: that has been said.
    pub fn is_unknown(&self, pointer: &Pointer) -> bool {
        self.resolved.problems.iter().any(|(problem, ..)| problem.starts_with(pointer))
    }
}

/// Why a file cannot be read, without the numbers of the operating system.
fn why_unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
    }
}

/// Refuses a file that is something else than a map.
fn map_only(root: Node, text: &str) -> Result<Node, Vec<Diagnostic>> {
    if matches!(root.content, Content::Map(_)) {
        return Ok(root);
    }
    let message = match root.is_null() {
        true => "the file is empty",
        false => "the file is not a map of `name:`, `sources:`, `sinks:` and so on",
    };
    let start = if root.is_null() { 0 } else { root.range.start };
    let end = start + text[start..root.range.end].lines().next().map_or(0, str::len);
    let place = Place { source: 0, range: start..end };
    Err(vec![
        Diagnostic::error(message).at(place, "").note("a pipeline needs `name:`, `sources:` and `sinks:` at least"),
    ])
}

/// What is gathered from outside the file.
struct Outside<'a> {
    sources: &'a mut Vec<SourceText>,
    layers: &'a mut Vec<Layer>,
    stages: Vec<(String, String)>,
    problems: &'a mut Vec<Diagnostic>,
    warnings: &'a mut Vec<Diagnostic>,
}

impl Outside<'_> {
    /// Adds the layers of the environment and of `--set`. They change stages of the file and add none.
    fn add(&mut self, environment: &Environment, options: &LoadOptions) {
        for (name, value) in environment.beginning_with(PREFIX).filter(|_| !options.is_complete) {
            let (source, layer) = overrides::variable(name, value, self.sources.len());
            self.layer(source, layer);
        }
        for argument in &options.set {
            let (source, layer) = overrides::argument(argument, self.sources.len());
            self.layer(source, layer);
        }
    }

    fn layer(&mut self, mut source: SourceText, layer: Result<Layer, Vec<Diagnostic>>) {
        match layer {
            Ok(layer) => match profiles::unknown_stage(&layer, &self.stages) {
                None => self.layers.push(layer),
                Some(problem) => {
                    hide_value(&mut source);
                    match layer.rank {
                        // The variable may be meant for another pipeline on this machine.
                        Rank::Environment => self.warnings.push(Diagnostic { severity: Severity::Warning, ..problem }),
                        _ => self.problems.push(problem),
                    }
                }
            },
            Err(found) => self.problems.extend(found),
        }
        self.sources.push(source);
    }
}

/// Of a stage that is not known it is not known either which values are secrets.
fn hide_value(source: &mut SourceText) {
    if let Some(equals) = source.text().find('=') {
        let value = equals + 1..source.text().len();
        source.hide([value]);
    }
}
