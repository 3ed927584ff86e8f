//! Shared libraries and Python files with stages: where they are searched for, and the stages that `--plugins` adds.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pipeline_abi::host::Library;
use pipeline_python::{Interpreter, Plugin};
use pipeline_runtime::plan::{LoadPlugins, PluginRef};
use pipeline_stage::{Registry, Result, StageError, StageType};

use crate::registry::Beside;

/// The variable that holds further folders to search.
const PATH_VARIABLE: &str = "PIPELINE_PLUGIN_PATH";

/// Where libraries are searched for.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Search this folder for plugins that `plugins:` names; may be given several times
    ///
    /// Then come the folders of the variable PIPELINE_PLUGIN_PATH, separated by `:`.
    #[arg(long, value_name = "DIR")]
    pub plugin_path: Vec<PathBuf>,
}

/// Libraries that a command takes without a pipeline file.
#[derive(Debug, Args)]
pub struct LibraryArgs {
    /// Add the stages of a plugin, a shared library or a Python file, by path or name; may be given several times
    #[arg(long, value_name = "LIB")]
    pub plugins: Vec<String>,
    #[command(flatten)]
    pub search: SearchArgs,
}

impl LibraryArgs {
    /// The built-in stages with those of the libraries. Relative paths start at the working directory.
    ///
    /// # Errors
    /// When a library cannot be loaded, or a name is taken.
    pub fn extend(&self, built_in: &Registry) -> Result<Registry> {
        let loader = loader(&self.search.plugin_path);
        let mut registry = built_in.clone();
        for path in &self.plugins {
            let plugin = PluginRef { path: path.clone(), python: None, sha256: None, replaces: false };
            for stage in loader.load(&plugin, Path::new(""))? {
                registry.add(stage)?;
            }
        }
        Ok(registry)
    }
}

/// Adds what lies beside a binary: each library from the first folder that has it, of those that are searched, the
/// binary's own, and `../lib/pipeline` next to it. What is nowhere is noted as absent.
///
/// # Errors
/// When one that is there cannot be loaded.
pub fn load_beside(built_in: &mut Registry, beside: &[Beside], search: &SearchArgs) -> Result<()> {
    let mut search = Search::new(&search.plugin_path);
    let binary = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok());
    if let Some(folder) = binary.as_deref().and_then(Path::parent) {
        search.folders.extend([folder.to_owned(), folder.join("../lib/pipeline")]);
    }
    for plugin in beside {
        let Ok(path) = search.find(plugin.library, Path::new("")) else {
            let file = file_name(plugin.library);
            let whence = format!("it is loaded from `{file}`, which is in {}", search.none_of());
            plugin.stages.iter().for_each(|(kind, name)| built_in.note_absent(*kind, name, &whence));
            continue;
        };
        for stage in Library::load(&path, None)?.stages {
            built_in.add(stage)?;
        }
    }
    Ok(())
}

/// What loads the libraries of pipeline files. Bare names are searched for in `search`, then in the folders of
/// `PIPELINE_PLUGIN_PATH`.
pub fn loader(search: &[PathBuf]) -> Arc<dyn LoadPlugins> {
    Arc::new(Search::new(search))
}

/// The file of a library that a command names: as in a pipeline file, from the working directory on.
///
/// # Errors
/// When there is none.
pub fn find(name: &str, search: &[PathBuf]) -> Result<PathBuf> {
    Search::new(search).find(name, Path::new(""))
}

fn folders(search: &[PathBuf], variable: &OsStr) -> Vec<PathBuf> {
    // An empty part would be the working directory, which nobody means who writes `:` at the end.
    let of_variable = std::env::split_paths(variable).filter(|folder| !folder.as_os_str().is_empty());
    search.iter().cloned().chain(of_variable).collect()
}

/// Finds libraries in folders.
#[derive(Debug)]
struct Search {
    folders: Vec<PathBuf>,
}

impl LoadPlugins for Search {
    fn load(&self, plugin: &PluginRef, directory: &Path) -> Result<Vec<StageType>> {
        let path = self.find(&plugin.path, directory)?;
        let sha256 = plugin.sha256.as_deref();
        match (pipeline_python::is_plugin(&path), plugin.python.as_deref()) {
            (true, python) => Ok(Plugin::load(&path, Interpreter::find(python, directory), sha256)?.stages),
            (false, None) => Ok(Library::load(&path, sha256)?.stages),
            (false, Some(_)) => {
                let message = format!("`{}` is no plugin in Python, so `python` says nothing", path.display());
                Err(StageError::config(message).at_option("python"))
            }
        }
    }
}

impl Search {
    /// In these folders and then in those of the variable.
    fn new(search: &[PathBuf]) -> Self {
        Search { folders: folders(search, &std::env::var_os(PATH_VARIABLE).unwrap_or_default()) }
    }

    /// The folders, in words.
    fn named(&self) -> String {
        let folders: Vec<String> = self.folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        folders.join(", ")
    }

    /// The file of a plugin: a path with a `/` as it is, a bare name in the first folder that has it.
    fn find(&self, name: &str, directory: &Path) -> Result<PathBuf> {
        if name.contains('/') {
            let path = directory.join(name);
            return match is_plugin(&path) {
                true => Ok(path),
                false => Err(StageError::config(format!("there is no plugin `{}`", path.display()))),
            };
        }
        let files = [file_name(name), format!("{name}.py"), name.to_owned()];
        let mut paths = self.folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
        paths.find(|path| is_plugin(path)).ok_or_else(|| self.not_found(name, &files[0]))
    }

    /// `none of `/usr/lib/pipeline`, …`
    fn none_of(&self) -> String {
        format!("none of {}; `--plugin-path` or {PATH_VARIABLE} names the folder that has it", self.named())
    }

    fn not_found(&self, name: &str, file: &str) -> StageError {
        StageError::config(match self.folders.is_empty() {
            true => format!(
                "`{name}` is a name, but no folder is searched for libraries; \
                 give a folder with `--plugin-path` or {PATH_VARIABLE}, or a path with a `/` such as `./{file}`"
            ),
            false => format!(
                "there is no `{file}` and no `{name}.py` in {}; these are the folders of `--plugin-path` and {PATH_VARIABLE}, \
                 a path has a `/`, such as `./{file}`",
                self.named()
            ),
        })
    }
}

/// A file, or a folder that is a Python package.
fn is_plugin(path: &Path) -> bool {
    path.is_file() || pipeline_python::is_plugin(path) && path.is_dir()
}

/// `heartbeat` → `libheartbeat.so`; what ends as libraries do is a file's name already.
fn file_name(name: &str) -> String {
    match name.ends_with(DLL_SUFFIX) {
        true => name.to_owned(),
        false => format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"),
    }
}

/// The file name of the library a stage comes from; none when it is built in.
pub fn library_name(stage: &StageType) -> Option<&str> {
    let library = stage.library.as_deref()?;
    Path::new(library).file_name().and_then(|name| name.to_str()).or(Some(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(folders: &[&Path]) -> Search {
        Search { folders: folders.iter().map(|folder| folder.to_path_buf()).collect() }
    }

    fn write(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(file_name(name));
        std::fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn a_name_is_searched_for_in_the_order_of_the_folders() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let search = search(&[one.path(), other.path()]);
        let second = write(other.path(), "heartbeat");
        assert_eq!(search.find("heartbeat", Path::new("")).unwrap(), second);
        assert_eq!(search.find(&file_name("heartbeat"), Path::new("")).unwrap(), second);
        let first = write(one.path(), "heartbeat");
        assert_eq!(search.find("heartbeat", Path::new("")).unwrap(), first);
    }

    #[test]
    fn folders_of_arguments_come_before_those_of_the_variable() {
        let found = folders(&["b".into(), "a".into()], OsStr::new("/x:c:"));
        assert_eq!(found, ["b", "a", "/x", "c"].map(PathBuf::from));
        assert!(folders(&[], OsStr::new("")).is_empty());
    }

    #[test]
    fn a_folder_of_the_librarys_name_is_no_library() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(one.path().join(file_name("heartbeat"))).unwrap();
        let path = write(other.path(), "heartbeat");
        assert_eq!(search(&[one.path(), other.path()]).find("heartbeat", Path::new("")).unwrap(), path);
    }

    #[test]
    fn a_path_starts_at_the_files_folder_and_is_not_searched_for() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = write(one.path(), "heartbeat");
        let search = search(&[one.path()]);
        let written = format!("./{}", file_name("heartbeat"));
        assert_eq!(search.find(&written, one.path()).unwrap(), one.path().join(&written));
        assert_eq!(search.find(path.to_str().unwrap(), other.path()).unwrap(), path);
        let error = search.find(&written, other.path()).unwrap_err().to_string();
        assert!(error.contains(&other.path().join(&written).display().to_string()), "{error}");
    }

    #[test]
    fn the_error_lists_the_folders_that_were_searched() {
        let error = search(&[Path::new("/a/b"), Path::new("c")]).find("heartbeat", Path::new("d")).unwrap_err();
        let start = format!("there is no `{}` and no `heartbeat.py` in `/a/b`, `c`; ", file_name("heartbeat"));
        assert!(error.to_string().starts_with(&start), "{error}");
        let error = search(&[]).find("heartbeat", Path::new("d")).unwrap_err().to_string();
        assert!(error.contains("no folder is searched") && error.contains("--plugin-path"), "{error}");
    }
}
