//! The environment as the pipeline file sees it: variables of the process, and those of `.env` files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostics::Diagnostic;

/// Environment variables and where `.env` may stand beside the pipeline file's folder.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    working_directory: Option<PathBuf>,
}

impl Environment {
    /// The process's variables and working directory. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Environment { variables: variables.collect(), working_directory: std::env::current_dir().ok() }
    }

    /// Adds a variable.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The names there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The variables whose names begin so.
    pub fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let named = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds what `.env` beside the pipeline file says, then what it says in the working directory. What is there
    /// already stays: the environment is never overridden, and the process's own is not touched.
    pub(super) fn read_dotenv(&mut self, directory: &Path) -> Vec<Diagnostic> {
        let mut folders = vec![directory.to_path_buf()];
        folders.extend(self.working_directory.clone());
        let mut problems = Vec::new();
        for folder in folders {
            let path = folder.join(".env");
            // A folder of that name, as Python's virtual environments have, is not meant.
            if !path.is_file() {
                continue;
            }
            match read(&path) {
                Ok(variables) => {
                    for (name, value) in variables {
                        self.variables.entry(name).or_insert(value);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }
}

/// The parser's error, which may hold a line of the file, without that line.
fn why(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::Io(error) => super::why_unreadable(error),
        _ => "it is not made of lines `NAME=value`".into(),
    }
}

fn read(path: &Path) -> Result<Vec<(String, String)>, Diagnostic> {
    let lines = dotenvy::from_path_iter(path)
        .map_err(|error| Diagnostic::error(format!("`{}` cannot be read", path.display())).note(why(&error)))?;
    let mut variables = Vec::new();
    for (i, line) in lines.enumerate() {
        // The parser's error repeats the line, which may hold a password.
        let variable = line.map_err(|_| {
            Diagnostic::error(format!("entry {} of `{}` is not `NAME=value`", i + 1, path.display()))
                .note("a value with blanks or `#` must be put into quotes")
        })?;
        variables.push(variable);
    }
    Ok(variables)
}
