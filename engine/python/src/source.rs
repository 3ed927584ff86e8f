//! A source in Python: its thread asks, and rows come as Arrow IPC messages with an offset for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_schema::SchemaRef;
use pipeline_blocking::{BlockingReader, BlockingSource, Read};
use pipeline_stage::{
    Assignment, ErrorKind, Partition, Position, Result, Source, SourceBatch, SourceContext, SourceOutput, SourceRows,
    StageError,
};
use serde_json::{Value, json};

use crate::columns::{check_columns, schema_in};
use crate::frame::{Frame, header};
use crate::messages::Messages;
use crate::plugin::Launch;
use crate::revived::Revived;
use crate::stage_type::build_header;

/// A source and its readers, which share a process.
type Shared = Arc<Mutex<Revived>>;

struct PythonSource {
    shared: Shared,
    columns: SchemaRef,
    is_replayable: bool,
    has_partitions: bool,
    /// Changes that are to be told still; none before the partitions were asked for.
    changes: Option<VecDeque<Assignment>>,
}

/// Lets a process make a source.
pub fn build_source(
    launch: &Arc<Launch>,
    stage: &str,
    options: Value,
    context: &SourceContext,
) -> Result<Box<dyn Source>> {
    let build = build_header("source", stage, options, &context.stage);
    let (revived, mut answer) = Revived::start(launch, &context.stage.id, build, Vec::new())?;
    let columns = schema_in(&mut Messages::default(), answer.bodies.pop())?;
    check_columns(&columns)?;
    let is = |what: &str| answer.header.get(what).and_then(Value::as_bool).unwrap_or(false);
    let source = PythonSource {
        shared: Arc::new(Mutex::new(revived)),
        columns,
        is_replayable: is("is_replayable"),
        has_partitions: is("has_partitions"),
        changes: None,
    };
    Ok(pipeline_blocking::source(&context.stage.id, Box::new(source)))
}

fn locked(shared: &Shared) -> MutexGuard<'_, Revived> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PythonSource {
    fn partitions(&self) -> Result<Vec<Partition>> {
        if !self.has_partitions {
            return Ok(vec![Partition::numbered(0)]);
        }
        let answer = locked(&self.shared).call(header("partitions", json!({})), &[])?;
        let names: Option<Vec<&str>> = answer
            .header
            .get("partitions")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect());
        let names = names.filter(|names| !names.is_empty());
        let names = names.ok_or_else(|| StageError::fatal("the source has no partition"))?;
        let numbered = names.into_iter().zip(0..);
        Ok(numbered.map(|(name, number)| Partition { name: name.into(), number }).collect())
    }

    fn tell(&self, op: &str, partition: &Partition, through: &Position) -> Result<()> {
        let question = json!({"partition": &*partition.name, "offset": through.offset});
        locked(&self.shared).call(header(op, question), &[]).map(drop)
    }
}

impl BlockingSource for PythonSource {
    fn output(&self) -> SourceOutput {
        SourceOutput::Columns(self.columns.clone())
    }

    fn is_replayable(&self) -> bool {
        self.is_replayable
    }

    fn has_partitions(&self) -> bool {
        self.has_partitions
    }

    fn partition_count(&mut self) -> Result<Option<u32>> {
        match self.has_partitions {
            true => Ok(Some(self.partitions()?.len() as u32)),
            false => Ok(None),
        }
    }

    fn check(&mut self) -> Vec<StageError> {
        problems(&mut locked(&self.shared))
    }

    fn assignment(&mut self, wait: Duration) -> Result<Option<Assignment>> {
        if self.changes.is_none() {
            self.changes = Some([Assignment::Gained(self.partitions()?), Assignment::Final].into());
        }
        let next = self.changes.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            std::thread::sleep(wait);
        }
        Ok(next)
    }

    fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)> {
        let mut process = locked(&self.shared);
        let question = json!({"partition": &*partition.name, "offset": from.map(|from| from.offset)});
        let answer = process.call(header("open", question), &[])?;
        let number = |name: &str| answer.header.get(name).and_then(Value::as_u64);
        let (Some(reader), Some(offset)) = (number("reader"), number("offset")) else {
            return Err(StageError::fatal("the Python process has opened nothing"));
        };
        let mut messages = Messages::default();
        schema_in(&mut messages, answer.bodies.first().cloned())?;
        let (shared, life) = (self.shared.clone(), process.life());
        let reader = PythonReader { shared, life, reader, messages, columns: self.columns.clone(), offset };
        Ok((Box::new(reader), Position::at(offset)))
    }

    fn logged(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        self.tell("logged", partition, through)
    }

    fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        self.tell("forget", partition, through)
    }
}

/// What is wrong with what the options name.
pub fn problems(process: &mut Revived) -> Vec<StageError> {
    let answer = match process.call(header("check", json!({})), &[]) {
        Ok(answer) => answer,
        Err(error) => return vec![error],
    };
    let found = answer.header.get("problems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    found.iter().filter_map(Value::as_str).map(StageError::config).collect()
}

struct PythonReader {
    shared: Shared,
    /// The process that has opened it.
    life: u64,
    reader: u64,
    messages: Messages,
    columns: SchemaRef,
    /// Where it stands.
    offset: u64,
}

impl BlockingReader for PythonReader {
    fn read(&mut self, until: Option<&Position>, wait: Duration) -> Result<Read> {
        let shared = self.shared.clone();
        let mut process = locked(&shared);
        if process.life() != self.life {
            return Err(StageError::lost("the Python process that has opened it has ended"));
        }
        let until = until.map(|until| until.offset);
        let question = json!({"reader": self.reader, "until": until, "wait": wait.as_secs_f64()});
        let answer = process.call(header("read", question), &[]).map_err(|error| match error.kind() {
            // A reader whose `read` has failed has ended; it is opened again with the task.
            ErrorKind::Transient | ErrorKind::Data => StageError::lost(error.chain()),
            _ => error,
        })?;
        drop(process);
        self.take(answer, until)
    }
}

impl PythonReader {
    fn take(&mut self, answer: Frame, until: Option<u64>) -> Result<Read> {
        let is_over = answer.header.get("is_over").and_then(Value::as_bool).unwrap_or(false);
        let mut bodies = answer.bodies.into_iter();
        let rows = match (bodies.next(), bodies.next()) {
            (Some(message), Some(offsets)) => Some(self.rows(message, &offsets, until)?),
            _ => None,
        };
        let least =
            rows.as_ref().and_then(|rows| rows.offsets.last()).map_or(self.offset, |last| last.saturating_add(1));
        let offset = answer.header.get("offset").and_then(Value::as_u64).filter(|offset| least <= *offset);
        self.offset = offset.ok_or_else(|| {
            StageError::fatal(format!("the source's reader does not say where it stands, {least} or later"))
        })?;
        Ok(Read { rows, position: Position::at(self.offset), lag: None, is_over })
    }

    fn rows(&mut self, message: Vec<u8>, offsets: &[u8], until: Option<u64>) -> Result<SourceBatch> {
        let batch = self.messages.batch(message, &self.columns)?;
        let offsets: Vec<u64> = offsets.as_chunks().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect();
        let rises = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        let is_within = offsets.first().is_some_and(|first| self.offset <= *first)
            && until.is_none_or(|until| offsets.last().is_some_and(|last| *last < until));
        if offsets.len() != batch.num_rows() || !rises || !is_within {
            return Err(StageError::fatal(format!(
                "the source gave {} rows with {} offsets from {:?} to {:?}; they must rise, from {} on, one for each row",
                batch.num_rows(),
                offsets.len(),
                offsets.first(),
                offsets.last(),
                self.offset
            )));
        }
        Ok(SourceBatch { rows: SourceRows::Columns(batch), offsets })
    }
}

impl Drop for PythonReader {
    fn drop(&mut self) {
        let mut process = locked(&self.shared);
        if process.life() == self.life {
            // A process that cannot be told has no reader any more either.
            let _ = process.call(header("close", json!({"reader": self.reader})), &[]);
        }
    }
}
