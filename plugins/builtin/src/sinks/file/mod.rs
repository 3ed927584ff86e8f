//! The sink `file`: rows as JSON lines in files that a restart cuts back, so that each row is there exactly once.
//!
//! The engine keeps a mark for each task; its detail says which file the task was writing and how long it was after
//! the epoch. A claim cuts back to it, and what comes after the mark is written again, the same.

mod name;
mod output;
mod start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, ByteSize, Claim, Commit, Delivery, EpochRows, Mark, Owner, Result, Sink, SinkContext, SinkOptions,
    StageError, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::columns::choose;
use name::NamePattern;
use output::{FileSettings, Output, Place};
use start::Start;

/// Writes rows as JSON, one object on each line, exactly once.
///
/// After a crash a file is cut back to what was committed. Do not change, move or shorten a file while it is
/// written: the pipeline notices and stops. What was in the file before the pipeline's first start stays in it.
///
/// With `rotate_at` the rows go on in `name.1.jsonl`, `name.2.jsonl` and so on when a file is full; the highest number
/// is the one being written, and those before it are never touched again. Files of such names belong to this sink.
///
/// Every task needs a file of its own. A pipeline with several tasks has `{task}` in `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSinkOptions {
    /// The file, from the folder of the pipeline file on; folders are made. `{task}` stands for the name of the task,
    /// which is that of its partition, with `-` for `/`.
    pub path: String,
    /// The size at which the next file is begun; a file is larger only if a single row is. Default: never.
    #[serde(default)]
    pub rotate_at: Option<ByteSize>,
    /// The columns to write, in this order. Default: all.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
}

impl StageOptions for FileSinkOptions {
    const NAME: &'static str = "file";
    const EXAMPLE: &'static str = "
archive:
  type: file
  inputs: [readings]
  path: out/readings.{task}.jsonl
  rotate_at: 64MiB
";
}

impl SinkOptions for FileSinkOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let pattern = NamePattern::new(&self.path).map_err(|error| error.at_option("path"))?;
        if self.rotate_at == Some(ByteSize(0)) {
            return Err(StageError::config("`rotate_at` is 0B, it must be above 0B").at_option("rotate_at"));
        }
        let chosen = choose(self.columns.as_deref(), &context.schema)?;
        let settings = Arc::new(FileSettings {
            directory: context.stage.directory,
            rotate_at: self.rotate_at.map(|size| size.0),
            chosen: self.columns.is_some().then_some(chosen),
        });
        let files = Files { pattern, settings, tasks: BTreeMap::new() };
        Ok(BuiltSink::Epochs(Box::new(FileSink { files: Arc::new(Mutex::new(files)) })))
    }
}

/// The sink. Its files are behind a mutex so that a call which the engine gives up ends in its own time, and the
/// next one waits for it.
struct FileSink {
    files: Arc<Mutex<Files>>,
}

impl FileSink {
    /// Runs blocking work on a thread where blocking is allowed.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Files) -> Result<T> + Send + 'static) -> Result<T> {
        let files = self.files.clone();
        let running = tokio::task::spawn_blocking(move || {
            let mut files = files.lock().map_err(|_| StageError::fatal("an earlier write has panicked"))?;
            work(&mut files)
        });
        running.await.map_err(|error| StageError::fatal("writing has panicked").because(error))?
    }
}

#[async_trait]
impl Sink for FileSink {
    fn delivery(&self) -> Delivery {
        Delivery::Truncating
    }

    async fn check(&mut self) -> Vec<StageError> {
        let checked = self.run(|files| files.pattern.check(&files.settings.directory)).await;
        checked.err().map(|error| error.at_option("path")).into_iter().collect()
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let owner = owner.clone();
        self.run(move |files| files.claim(&owner)).await
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let epochs = epochs.to_vec();
        self.run(move |files| files.commit(&epochs)).await
    }
}

/// The files of all tasks.
struct Files {
    pattern: NamePattern,
    settings: Arc<FileSettings>,
    tasks: BTreeMap<String, TaskFile>,
}

struct TaskFile {
    name: PathBuf,
    /// None after a failure: what was written since `committed` is to be cut off first.
    output: Option<Output>,
    committed: Place,
    /// The last epoch that is on disk, as far as this process knows: newer than what the engine may have stored.
    last: Option<Mark>,
}

impl Files {
    fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let name = self.pattern.of_task(&owner.task);
        self.refuse_shared(&name, &owner.task)?;
        let claim = match (owner.stored_claim()?, self.newest(owner)) {
            (_, Some(known)) => Claim::At(known),
            (claim, None) => claim,
        };
        let output = match &claim {
            // The engine will refuse this mark: leave the file as it is.
            Claim::At(mark) if mark.state_id != owner.state_id && !owner.takes_over => return Ok(claim),
            Claim::At(mark) => self.open_at(owner, &name, mark)?,
            Claim::New => self.open_new(owner, &name, 0)?,
        };
        let last = match &claim {
            Claim::At(mark) => Some(mark.clone()),
            Claim::New => None,
        };
        let committed = output.place();
        self.tasks.insert(owner.task.clone(), TaskFile { name, output: Some(output), committed, last });
        Ok(claim)
    }

    /// The mark of the last commit of this process, if nobody has written since.
    fn newest(&self, owner: &Owner) -> Option<Mark> {
        let known = self.tasks.get(&owner.task)?.last.as_ref()?;
        let is_newest = match &owner.stored {
            Some(stored) => stored.generation <= known.generation && stored.epoch <= known.epoch,
            None => true,
        };
        (known.state_id == owner.state_id && is_newest).then(|| known.clone())
    }

    fn refuse_shared(&self, name: &Path, task: &str) -> Result<()> {
        let Some((other, _)) = self.tasks.iter().find(|(other, file)| *other != task && file.name == *name) else {
            return Ok(());
        };
        let name = name.display();
        let message = match self.pattern.has_task() {
            true => format!("the tasks `{other}` and `{task}` would both write `{name}`"),
            false => format!(
                "the tasks `{other}` and `{task}` would both write `{name}`: put `{{task}}` into `path`, then each has its own file"
            ),
        };
        Err(StageError::fatal(message).at_option("path"))
    }

    fn open_at(&self, owner: &Owner, name: &Path, mark: &Mark) -> Result<Output> {
        match mark.detail.as_deref().and_then(Place::parse) {
            Some(place) if place.path == *name => {
                match Output::cut(&self.settings, &place) {
                    // The user has accepted what is missing.
                    Err(_) if owner.takes_over => self.open_new(owner, name, mark.epoch),
                    output => {
                        let output = output?;
                        Start::forget(&self.settings.directory, name);
                        Ok(output)
                    }
                }
            }
            // `path` has changed, or another sink had this id: a new file for what comes after the mark.
            _ => self.open_new(owner, name, mark.epoch),
        }
    }

    /// Opens a file of which no mark tells: at its end, or where an earlier claim of the same epoch found its end.
    fn open_new(&self, owner: &Owner, name: &Path, epoch: u64) -> Result<Output> {
        let directory = &self.settings.directory;
        let start = match Start::read(directory, name, &owner.state_id, epoch)? {
            Some(start) => start,
            None => Start::write(directory, name, &owner.state_id, epoch, Place::end_of(&self.settings, name)?)?,
        };
        Output::cut(&self.settings, &start.place)
    }

    fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        match self.write(epochs) {
            Ok(places) => {
                let details = places.iter().map(|place| Some(place.to_detail())).collect();
                for (epoch, place) in epochs.iter().zip(places) {
                    let file = self.task(&epoch.mark.task)?;
                    file.last = Some(Mark { detail: Some(place.to_detail()), ..epoch.mark.clone() });
                    file.committed = place;
                }
                Ok(Commit::Done(details))
            }
            Err(error) => {
                for epoch in epochs {
                    self.task(&epoch.mark.task)?.output = None;
                }
                Err(error)
            }
        }
    }

    /// Writes the rows and returns, once they are on disk, the place after each epoch.
    fn write(&mut self, epochs: &[EpochRows]) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for epoch in epochs {
            let output = self.output(&epoch.mark.task)?;
            for (batch, _) in epoch.batches() {
                output.append(batch)?;
            }
            places.push(output.place());
        }
        for epoch in epochs {
            self.output(&epoch.mark.task)?.sync()?;
        }
        Ok(places)
    }

    fn task(&mut self, task: &str) -> Result<&mut TaskFile> {
        self.tasks.get_mut(task).ok_or_else(|| StageError::fatal(format!("task `{task}` was not claimed")))
    }

    fn output(&mut self, task: &str) -> Result<&mut Output> {
        let settings = self.settings.clone();
        let file = self.task(task)?;
        let output = match file.output.take() {
            Some(output) => output,
            None => Output::cut(&settings, &file.committed)?,
        };
        Ok(file.output.insert(output))
    }
}

#[cfg(test)]
mod tests;
