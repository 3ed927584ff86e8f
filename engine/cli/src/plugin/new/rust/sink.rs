//! `heartbeat`: rows as JSON, one on each line of a file, exactly once.
//!
//! A file cannot take rows and a mark in one transaction. So the engine keeps the mark, with the length of the file in
//! it, and after a crash hands it to `claim`, which cuts off what was written later: the engine writes it again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, Owner, Result, Sink, SinkContext, SinkOptions, StageError,
    StageOptions, StageType, write_json_row,
};
use schemars::JsonSchema;
use serde::Deserialize;

pipeline_abi::export_plugin!([StageType::sink::<HeartbeatOptions>()]);

/// Appends rows to a file for each task, as JSON, exactly once.
///
/// After a crash a file is cut back to what was committed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatOptions {
    /// The file, relative to the pipeline file; the task and the state's id are added to its name.
    pub path: String,
}

impl StageOptions for HeartbeatOptions {
    const NAME: &'static str = "heartbeat";
    const EXAMPLE: &'static str = "
history:
  type: heartbeat
  inputs: [readings]
  path: readings.jsonl
";
}

impl SinkOptions for HeartbeatOptions {
    // No file is opened here: `validate` builds every stage, too.
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        if self.path.is_empty() {
            return Err(StageError::config("`path` is empty, it must name a file").at_option("path"));
        }
        let path = context.stage.directory.join(&self.path);
        Ok(BuiltSink::Epochs(Box::new(Lines { path, files: BTreeMap::new() })))
    }
}

struct Lines {
    path: PathBuf,
    /// By task.
    files: BTreeMap<String, File>,
}

impl Lines {
    /// A new life of the state begins a new file: nothing is cut off that an earlier one has written.
    fn open(&self, owner: &Owner) -> std::io::Result<File> {
        let life: String = owner.state_id.chars().take(8).collect();
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.{life}", owner.task.replace('/', "-")));
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(name)
    }

    fn failed(&self, error: std::io::Error) -> StageError {
        StageError::transient(format!("`{}` cannot be written", self.path.display())).because(error)
    }

    /// Opens the file of a task and cuts it back to this length.
    fn cut(&mut self, owner: &Owner, length: u64) -> Result<()> {
        let mut file = self.open(owner).map_err(|error| self.failed(error))?;
        let found = file.metadata().map_err(|error| self.failed(error))?.len();
        if found < length {
            let path = self.path.display();
            let message = format!("`{path}` has {found} bytes, {length} were written: somebody has changed it");
            return Err(StageError::fatal(message));
        }
        file.set_len(length).map_err(|error| self.failed(error))?;
        file.seek(SeekFrom::Start(length)).map_err(|error| self.failed(error))?;
        self.files.insert(owner.task.clone(), file);
        Ok(())
    }
}

/// Writes the rows of an epoch and returns, once they are on disk, the length of the file.
fn write(file: &mut File, epoch: &EpochRows) -> std::io::Result<u64> {
    let mut lines = Vec::new();
    for (batch, _) in epoch.batches() {
        for row in 0..batch.num_rows() {
            write_json_row(batch, row, &mut lines);
            lines.push(b'\n');
        }
    }
    file.write_all(&lines)?;
    file.sync_data()?;
    file.stream_position()
}

#[async_trait]
impl Sink for Lines {
    fn delivery(&self) -> Delivery {
        Delivery::Truncating
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let claim = owner.stored_claim()?;
        let detail = match &claim {
            Claim::New => None,
            Claim::At(mark) => mark.detail.as_deref(),
        };
        let length = detail.map_or(Ok(0), str::parse);
        let length = length.map_err(|error| StageError::fatal("the mark has no length of a file").because(error))?;
        self.cut(owner, length)?;
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let mut lengths = Vec::new();
        for epoch in epochs {
            let task = &epoch.mark.task;
            let Some(file) = self.files.get_mut(task) else {
                return Err(StageError::fatal(format!("task `{task}` was not claimed")));
            };
            // After an error the engine claims again, which cuts off what this has written.
            let length = write(file, epoch).map_err(|error| self.failed(error))?;
            lengths.push(Some(length.to_string()));
        }
        Ok(Commit::Done(lengths))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use pipeline_stage::{Mark, Origins, Rows};

    use super::*;

    /// A sink in a folder of its own.
    fn sink(test: &str) -> Lines {
        let folder = std::env::temp_dir().join(format!("heartbeat-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        Lines { path: folder.join("rows.jsonl"), files: BTreeMap::new() }
    }

    fn owner(generation: u64, stored: Option<Mark>) -> Owner {
        let [pipeline, sink, task, state_id] = ["p", "s", "readings/0", "0123456789"].map(String::from);
        Owner { pipeline, sink, task, state_id, generation, stored, takes_over: false }
    }

    fn epoch(epoch: u64, value: f64) -> EpochRows {
        let Owner { pipeline, sink, task, state_id, .. } = owner(1, None);
        let mark = Mark { pipeline, sink, task, state_id, generation: 1, epoch, positions: String::new(), detail: None };
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Float64Array::from(vec![value]))]).expect("one column");
        EpochRows { mark, rows: vec![Rows { batch, origins: Origins::new("readings/0".into(), Arc::from([epoch])) }] }
    }

    /// Commits an epoch; the mark as the engine keeps it.
    async fn commit(sink: &mut Lines, epoch: EpochRows) -> Mark {
        let Commit::Done(details) = sink.commit(std::slice::from_ref(&epoch)).await.expect("it writes") else {
            panic!("nothing is refused")
        };
        Mark { detail: details[0].clone(), ..epoch.mark }
    }

    fn text(sink: &Lines) -> String {
        let path = format!("{}.readings-0.01234567", sink.path.display());
        std::fs::read_to_string(path).expect("it was written")
    }

    #[tokio::test]
    async fn what_was_written_after_the_mark_is_cut_off() {
        let mut sink = sink("cut");
        sink.claim(&owner(1, None)).await.expect("it is ours");
        let first = commit(&mut sink, epoch(1, 1.5)).await;
        commit(&mut sink, epoch(2, 2.5)).await;
        assert_eq!(text(&sink), "{\"value\":1.5}\n{\"value\":2.5}\n");
        let claim = sink.claim(&owner(2, Some(first.clone()))).await.expect("it is ours");
        assert_eq!((claim, text(&sink).as_str()), (Claim::At(first), "{\"value\":1.5}\n"));
        commit(&mut sink, epoch(2, 2.5)).await;
        assert_eq!(text(&sink), "{\"value\":1.5}\n{\"value\":2.5}\n");
    }

    #[tokio::test]
    async fn an_earlier_owner_is_refused() {
        let mut sink = sink("owner");
        let later = Mark { generation: 5, ..epoch(1, 0.0).mark };
        let error = sink.claim(&owner(4, Some(later))).await.expect_err("somebody else owns it");
        assert_eq!(error.kind(), pipeline_stage::ErrorKind::Lost);
    }
}
