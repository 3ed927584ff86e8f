//! A plugin's file: which stages it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pipeline_stage::{ErrorKind, Result, StageError, StageType};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::frame::header;
use crate::interpreter::Interpreter;
use crate::process::Process;
use crate::stage_type::{Description, stage_type};

/// How a plugin is started.
#[derive(Debug)]
pub struct Launch {
    /// The file, or the folder of a package.
    pub path: PathBuf,
    /// What runs it.
    pub interpreter: Interpreter,
    /// The sum that the file must have whenever it is started.
    pub sha256: Option<String>,
}

impl Launch {
    /// Starts it for a stage.
    pub fn start(&self, stage: &str) -> Result<Process> {
        Process::start(&self.interpreter, &self.path, self.sha256.as_deref(), stage)
    }
}

/// A plugin that has described itself.
#[derive(Clone)]
pub struct Plugin {
    /// Its stages, in its order.
    pub stages: Vec<StageType>,
}

/// Descriptions, by file and Python, each with the time of the file's last change.
type Known = BTreeMap<(PathBuf, Interpreter), (SystemTime, Vec<Description>)>;

/// To start Python takes a tenth of a second, and a file is described several times for one `validate`.
static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());

/// Whether a path is a plugin in Python: a file that ends in `.py`, or a folder with an `__init__.py`.
pub fn is_plugin(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py") || path.join("__init__.py").is_file()
}

impl Plugin {
    /// Asks a plugin which stages it has; a second time only when its file has changed since.
    ///
    /// With `sha256`, 64 hexadecimal digits, a file that has another one is refused before anything of it runs.
    ///
    /// # Errors
    /// Of kind `Config`, in words and with the traceback, when it cannot be run, or says what cannot be. The error's
    /// option is `sha256` when that is what does not fit, `python` when it is the Python.
    pub fn load(path: &Path, interpreter: Interpreter, sha256: Option<&str>) -> Result<Plugin> {
        let path = path.canonicalize().map_err(|error| about(path, format!("cannot be read: {error}")))?;
        if let Some(expected) = sha256 {
            check_sha256(&path, expected)?;
        }
        let launch = Launch { path, interpreter, sha256: sha256.map(Into::into) };
        let descriptions = known(&launch)?;
        let library: Arc<str> = launch.path.display().to_string().into();
        let launch = Arc::new(launch);
        let stages = descriptions.into_iter().map(|found| stage_type(found, &launch, &library));
        let stages = stages.collect::<Result<_, String>>().map_err(|why| about(&launch.path, why))?;
        Ok(Plugin { stages })
    }
}

fn about(path: &Path, why: impl std::fmt::Display) -> StageError {
    StageError::config(format!("`{}` {why}", path.display()))
}

fn check_sha256(path: &Path, expected: &str) -> Result<()> {
    if path.is_dir() {
        let why = "is a folder, which has no SHA-256; name a plugin of one file, or leave `sha256` out";
        return Err(about(path, why).at_option("sha256"));
    }
    let bytes = std::fs::read(path).map_err(|error| about(path, format!("cannot be read: {error}")))?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(about(path, format!("has the SHA-256 {found}, not the one that is written here")).at_option("sha256"))
}

fn known(launch: &Launch) -> Result<Vec<Description>> {
    let changed = last_change(&launch.path);
    let key = (launch.path.clone(), launch.interpreter.clone());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match (known.get(&key), changed) {
        (Some((at, descriptions)), Some(changed)) if *at == changed => return Ok(descriptions.clone()),
        _ => {}
    }
    let descriptions = describe(launch)?;
    if let Some(changed) = changed {
        known.insert(key, (changed, descriptions.clone()));
    }
    Ok(descriptions)
}

/// Of a package the latest change of a file in its folder.
fn last_change(path: &Path) -> Option<SystemTime> {
    if !path.is_dir() {
        return path.metadata().and_then(|about| about.modified()).ok();
    }
    let files = std::fs::read_dir(path).ok()?.flatten();
    files.filter_map(|file| file.metadata().and_then(|about| about.modified()).ok()).max()
}

fn describe(launch: &Launch) -> Result<Vec<Description>> {
    let name = launch.path.file_name().unwrap_or_default().to_string_lossy();
    let described = launch.start(&name).and_then(|mut process| process.call(header("describe", json!({})), &[]));
    let answer = described.map_err(|error| match error.option() {
        Some(option) => about(&launch.path, error.chain()).at_option(option.to_owned()),
        // Whatever the process died of, there is no state yet that would be lost.
        None if error.kind() == ErrorKind::Lost => about(&launch.path, format!("cannot be loaded: {}", error.chain())),
        None => StageError::config(format!("`{}`: {}", launch.path.display(), error.chain())),
    })?;
    let stages = answer.header.get("stages").cloned().unwrap_or(Value::Null);
    serde_json::from_value(stages).map_err(|error| about(&launch.path, "has not described itself").because(error))
}
