//! Where a file ended when a task first claimed it.
//!
//! Until the engine has stored a first mark, nothing else tells which rows of a file are the pipeline's: a crash in
//! between would leave the first epochs there twice. So the place is kept in a small file beside it
//! (`.out.jsonl.start`) before the first row is written, and forgotten at the first claim that has a mark.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use pipeline_stage::Result;
use serde::{Deserialize, Serialize};

use super::output::{Place, in_words, sync_folder};

/// The place, and the state and epoch after which writing began there.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    state_id: String,
    epoch: u64,
    /// The place.
    pub place: Place,
}

impl Start {
    /// Reads what an earlier claim has kept; none if that was for another state or epoch.
    pub fn read(directory: &Path, name: &Path, state_id: &str, epoch: u64) -> Result<Option<Self>> {
        let path = kept_in(name);
        let bytes = match fs::read(directory.join(&path)) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(in_words("read", &path, error)),
        };
        // What cannot be read was not ours: our own is complete once it has its name.
        let start: Option<Start> = serde_json::from_slice(&bytes).ok();
        Ok(start.filter(|start| start.state_id == state_id && start.epoch == epoch && start.place.path == name))
    }

    /// Keeps a place and returns once it is on disk.
    pub fn write(directory: &Path, name: &Path, state_id: &str, epoch: u64, place: Place) -> Result<Self> {
        let start = Start { state_id: state_id.into(), epoch, place };
        let path = kept_in(name);
        let unfinished = path.with_extension("new");
        let write = || {
            let mut file = File::create(directory.join(&unfinished))?;
            file.write_all(&serde_json::to_vec(&start)?)?;
            file.sync_all()?;
            fs::rename(directory.join(&unfinished), directory.join(&path))?;
            sync_folder(&directory.join(&path))
        };
        write().map_err(|error| in_words("written", &path, error))?;
        Ok(start)
    }

    /// Removes what was kept. If that fails nothing is wrong: it is for an epoch that is over.
    pub fn forget(directory: &Path, name: &Path) {
        let _ = fs::remove_file(directory.join(kept_in(name)));
    }
}

fn kept_in(name: &Path) -> PathBuf {
    let file_name = name.file_name().unwrap_or_default().to_string_lossy();
    name.with_file_name(format!(".{file_name}.start"))
}
