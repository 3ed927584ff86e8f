//! Which Python runs a plugin.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the Python of all plugins that name none.
const VARIABLE: &str = "PIPELINE_PYTHON";

/// A Python, by its program: a path, or a name that is searched for as a shell does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interpreter {
    program: PathBuf,
}

impl Interpreter {
    /// The one that is named: `python:` of an entry, which starts at `directory` when it is a relative path, else the
    /// variable `PIPELINE_PYTHON`, else `python3`.
    pub fn find(named: Option<&str>, directory: &Path) -> Self {
        Self::choose(named, directory, std::env::var_os(VARIABLE))
    }

    fn choose(named: Option<&str>, directory: &Path, variable: Option<OsString>) -> Self {
        let program = match (named, variable.filter(|program| !program.is_empty())) {
            // Its links are not followed: those of a virtual environment lead out of it.
            (Some(path), _) if path.contains('/') => directory.join(path),
            (Some(name), _) => name.into(),
            (None, Some(program)) => program.into(),
            (None, None) => "python3".into(),
        };
        Interpreter { program }
    }

    /// What is started.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What is said when it is not there.
    pub fn not_found(&self) -> String {
        format!(
            "there is no Python `{}`: install it (on Debian, apt-get install python3-venv), \
             or name one with `python:` in the entry or with {VARIABLE}",
            self.program.display()
        )
    }

    /// What is said when it has no package `pipeline_plugin`.
    pub fn no_package(&self) -> String {
        let program = self.program.display();
        format!(
            "the Python `{program}` has no package `pipeline_plugin`; \
             in the engine's repository: {program} -m pip install engine/python/sdk"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_comes_before_the_variable_and_that_before_the_usual_one() {
        let folder = Path::new("/pipelines");
        for (named, variable, program) in [
            (Some(".venv/bin/python"), Some("python3.12"), "/pipelines/.venv/bin/python"),
            (Some("/opt/python"), None, "/opt/python"),
            (Some("python3.9"), Some("x"), "python3.9"),
            (None, Some("python3.12"), "python3.12"),
            (None, Some(""), "python3"),
            (None, None, "python3"),
        ] {
            let found = Interpreter::choose(named, folder, variable.map(OsString::from));
            assert_eq!(found.program(), Path::new(program));
        }
    }
}
