//! A source that stands in a library: its thread calls it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use pipeline_blocking::{BlockingReader, BlockingSource, InFlight, Read};
use pipeline_stage::{Assignment, Partition, Position, Result, Source, SourceContext, SourceOutput, StageError};
use serde_json::Value;

use super::build::{BuildCall, Handle, any_schema, build, schema};
use super::changes::Changes;
use super::found::{self, Found};
use super::said::Said;
use super::sink::problems_of;
use super::stage_type::Descriptor;
use crate::exchange::{WrittenPartition, WrittenPosition};
use crate::payloads;
use crate::raw::*;

/// No number of partitions is known.
const NO_COUNT: u32 = u32::MAX;

/// See the module.
struct LoadedSource {
    handle: Arc<Handle>,
    /// The columns that a batch of it has.
    columns: SchemaRef,
    flags: u32,
    /// Changes that were said and not given yet.
    changes: VecDeque<Assignment>,
    /// The partitions that were gained and neither revoked nor lost.
    owned: BTreeSet<Partition>,
}

/// Lets the library make a source.
pub fn build_source(descriptor: Descriptor, options: &Value, context: &SourceContext) -> Result<Box<dyn Source>> {
    let call =
        BuildCall { role: context.role, framing: context.framing, ..BuildCall::new(options, &context.stage, &[]) };
    let (handle, built) = build(descriptor, &call)?;
    check_flags(built.flags)?;
    let columns = match built.flags & RAW {
        0 => schema(&built)?,
        _ => payload_schema(&built)?,
    };
    let mut changes = VecDeque::new();
    if descriptor.raw.assignment.is_none() {
        changes.extend([Assignment::Gained(vec![Partition::numbered(0)]), Assignment::Final]);
    }
    let source =
        LoadedSource { handle: Arc::new(handle), columns, flags: built.flags, changes, owned: BTreeSet::new() };
    Ok(pipeline_blocking::source(&context.stage.id, Box::new(source)))
}

/// A flag that this engine does not know may mean what it must not ignore.
fn check_flags(flags: u32) -> Result<()> {
    match flags & !(RAW | CANNOT_REPLAY | HAS_PARTITIONS) {
        0 => Ok(()),
        unknown => Err(StageError::fatal(format!("the plugin's `flags` have {unknown}, which there is not"))),
    }
}

/// The columns of payloads: of those that there can be some, each of its type.
fn payload_schema(built: &RawBuilt) -> Result<SchemaRef> {
    let found = any_schema(built)?;
    let known = payloads::schema();
    for field in found.fields() {
        let is_known = known.field_with_name(field.name()).is_ok_and(|known| known.data_type() == field.data_type());
        if !is_known {
            return Err(StageError::fatal(format!(
                "the plugin gives payloads with a column `{}` of type {}, they have `payload` and `key` of type Binary and `time` of type {}",
                field.name(),
                field.data_type(),
                pipeline_stage::timestamp_type()
            )));
        }
    }
    match found.index_of(payloads::NAMES[payloads::PAYLOAD]) {
        Ok(_) => Ok(found),
        Err(_) => Err(StageError::fatal("the plugin gives payloads without a column `payload`")),
    }
}

impl LoadedSource {
    fn lacks(function: &str) -> StageError {
        StageError::fatal(format!("the plugin lacks `{function}`"))
    }

    /// Two tasks of one partition would take it from each other, for ever.
    fn own(&mut self, change: &Assignment) -> Result<()> {
        match change {
            Assignment::Gained(partitions) => {
                for partition in partitions {
                    if !self.owned.insert(partition.clone()) {
                        let words = format!("the plugin has gained the partition `{}`, which it has", partition.name);
                        return Err(StageError::fatal(words));
                    }
                }
            }
            Assignment::Revoked(partitions) | Assignment::Lost(partitions) => {
                self.owned.retain(|owned| !partitions.contains(owned));
            }
            Assignment::Final => {}
        }
        Ok(())
    }

    /// A call about a partition and how far it is safe.
    fn tell(
        &self,
        function: Option<
            unsafe extern "C-unwind" fn(*mut c_void, *const RawPartition, *const RawPosition, *mut RawError) -> i32,
        >,
        partition: &Partition,
        through: &Position,
    ) -> Result<()> {
        let Some(function) = function else { return Ok(()) };
        let (partition, through) = (WrittenPartition::new(partition), WrittenPosition::new(through));
        let (partition, through) = (partition.raw(), through.raw());
        // SAFETY: one call at a time, by the source's thread (rule 4); all lives until after it (rule 1).
        self.handle.call(|error| unsafe { function(self.handle.stage(), &partition, &through, error) })
    }
}

impl BlockingSource for LoadedSource {
    fn output(&self) -> SourceOutput {
        match self.flags & RAW {
            0 => SourceOutput::Columns(self.columns.clone()),
            _ => SourceOutput::Raw,
        }
    }

    fn is_replayable(&self) -> bool {
        self.flags & CANNOT_REPLAY == 0
    }

    fn has_partitions(&self) -> bool {
        self.flags & HAS_PARTITIONS != 0
    }

    fn partition_count(&mut self) -> Result<Option<u32>> {
        let Some(function) = self.handle.raw().partition_count else { return Ok(None) };
        let mut count = NO_COUNT;
        // SAFETY: one call at a time (rule 4), with room for the number.
        self.handle.call(|error| unsafe { function(self.handle.stage(), &mut count, error) })?;
        Ok((count != NO_COUNT).then_some(count))
    }

    fn check(&mut self) -> Vec<StageError> {
        problems_of(&self.handle)
    }

    fn assignment(&mut self, wait: Duration) -> Result<Option<Assignment>> {
        if self.changes.is_empty() {
            let function = self.handle.raw().assignment.ok_or_else(|| Self::lacks("assignment"))?;
            let saying = Said::new(Changes::default());
            let raw = Changes::raw(&saying);
            let wait_ms = wait.as_millis() as u32;
            // SAFETY: one call at a time (rule 4); the changes live until after it.
            let called = self.handle.call(|error| unsafe { function(self.handle.stage(), wait_ms, &raw, error) });
            let said = saying.finish()?;
            called?;
            said.0.iter().try_for_each(|change| self.own(change))?;
            self.changes.extend(said.0);
        }
        Ok(self.changes.pop_front())
    }

    fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)> {
        let open = self.handle.raw().open.ok_or_else(|| Self::lacks("open"))?;
        let (written, text) = (WrittenPartition::new(partition), from.map(WrittenPosition::new));
        let (written, raw_from) = (written.raw(), text.as_ref().map(WrittenPosition::raw));
        let raw_from = raw_from.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let is_raw = self.flags & RAW != 0;
        let found = Found::new(&self.columns, is_raw);
        let raw = Found::raw(&found);
        let mut reader = std::ptr::null_mut();
        let call = |error| {
            // SAFETY: one call at a time (rule 4); all lives until after it (rule 1).
            unsafe { open(self.handle.stage(), &written, raw_from, &raw, &mut reader, error) }
        };
        self.handle.call(call)?;
        if reader.is_null() {
            found.finish()?;
            return Err(StageError::fatal("the plugin has opened a partition, but given no reader: it is NULL"));
        }
        // From here on it is closed, whatever else is wrong.
        let calls = InFlight::new(self.handle.calls().stage());
        let (handle, columns, position) = (self.handle.clone(), self.columns.clone(), Position::at(0));
        let mut reader = LoadedReader { handle, calls, reader, columns, is_raw, position };
        let start = found::into_start(found.finish()?, from)?;
        reader.position = start.clone();
        Ok((Box::new(reader), start))
    }

    fn logged(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        self.tell(self.handle.raw().logged, partition, through)
    }

    fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        self.tell(self.handle.raw().forget, partition, through)
    }

    fn release(&mut self, partition: &Partition) -> Result<()> {
        let Some(release) = self.handle.raw().release else { return Ok(()) };
        let partition = WrittenPartition::new(partition);
        // SAFETY: one call at a time, by the source's thread (rule 4).
        self.handle.call(|error| unsafe { release(self.handle.stage(), &partition.raw(), error) })
    }
}

/// A reader of a library, closed with this.
struct LoadedReader {
    /// The source goes after its readers.
    handle: Arc<Handle>,
    calls: Arc<InFlight>,
    reader: *mut c_void,
    columns: SchemaRef,
    is_raw: bool,
    position: Position,
}

// SAFETY: a reader may be called from any thread, one at a time (rule 4).
unsafe impl Send for LoadedReader {}

impl BlockingReader for LoadedReader {
    fn read(&mut self, until: Option<&Position>, wait: Duration) -> Result<Read> {
        let read = self.handle.raw().read.ok_or_else(|| LoadedSource::lacks("read"))?;
        let limit = until.map(WrittenPosition::new);
        let limit = limit.as_ref().map(WrittenPosition::raw);
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let found = Found::new(&self.columns, self.is_raw);
        let raw = Found::raw(&found);
        let wait_ms = wait.as_millis() as u32;
        // SAFETY: one call at a time, by the reader's thread (rule 4); all lives until after it (rule 1).
        let called = super::call::call(&self.calls, |error| unsafe { read(self.reader, limit, wait_ms, &raw, error) });
        let found = found.finish()?;
        called?;
        let read = found::into_read(found, &self.position, until)?;
        self.position = read.position.clone();
        Ok(read)
    }
}

impl Drop for LoadedReader {
    fn drop(&mut self) {
        if let Some(close) = self.handle.raw().close {
            // SAFETY: `open` has made it, and nobody calls it after this.
            let closed = self.calls.watch(|| super::guard::guarded(|| unsafe { close(self.reader) }));
            if let Err(words) = closed {
                tracing::warn!(
                    "{}: the plugin threw an exception when a reader was closed: {words}",
                    self.calls.stage()
                );
            }
        }
    }
}
