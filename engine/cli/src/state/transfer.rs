//! All state into a file, and out of one.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write, stdin, stdout};
use std::path::Path;

use pipeline_runtime::store::tools::{Moved, StateTools};
use pipeline_stage::{Result, StageError};

use crate::books::grouped;
use crate::complain;

/// Writes everything; a file is there only once it is whole.
pub async fn export(tools: &StateTools, out: Option<&Path>) -> Result<()> {
    let moved = match out {
        None => tools.export(&mut stdout().lock()).await?,
        Some(path) => {
            let unfinished = path.with_added_extension("new");
            let file = File::create(&unfinished).map_err(|error| cannot("written", &unfinished, error))?;
            let mut writer = BufWriter::new(file);
            let moved = tools.export(&mut writer).await?;
            let synced = writer.flush().and_then(|()| writer.get_ref().sync_all());
            let whole = synced.and_then(|()| std::fs::rename(&unfinished, path));
            whole.map_err(|error| cannot("written", path, error))?;
            moved
        }
    };
    complain(&format!("exported {} from {}", in_words(moved), tools.place()));
    Ok(())
}

/// Reads an export.
pub async fn import(tools: &StateTools, input: Option<&Path>) -> Result<()> {
    let moved = match input {
        None => tools.import(&mut stdin().lock()).await?,
        Some(path) => {
            let file = File::open(path).map_err(|error| cannot("read", path, error))?;
            tools.import(&mut BufReader::new(file)).await?
        }
    };
    complain(&format!("imported {} into {}", in_words(moved), tools.place()));
    Ok(())
}

fn in_words(moved: Moved) -> String {
    format!("{} tasks, {} rows,", grouped(moved.tasks), grouped(moved.rows))
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> StageError {
    StageError::config(format!("`{}` cannot be {what}", path.display())).because(error)
}
