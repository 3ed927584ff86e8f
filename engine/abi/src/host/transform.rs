//! A transform, or a detector of whole batches, that stands in a library.

use std::ffi::c_void;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipeline_stage::{Output, Result, SavedState, StageContext, StageError, StateWriter, Times, Transform};
use serde_json::Value;

use super::build::{BuildCall, Handle, build, schema};
use super::guard::guarded;
use super::measure::inside;
use super::output::{MAX_COUNT, Saying};
use super::said::{Said, listen};
use super::stage_type::Descriptor;
use crate::memory::slice;
use crate::raw::{FATAL, NO_TIME, OK, RawState};

/// The most bytes of one value of state: stores take no more in one row, and a checkpoint is written in small steps.
const MAX_VALUE: usize = 64 << 20;
/// The most bytes of one save: they are in memory twice until the checkpoint has them, for each task.
const MAX_SAVE: usize = 1 << 30;

/// See the module.
pub struct LoadedTransform {
    handle: Handle,
    schema: SchemaRef,
    bytes_per_series: Option<usize>,
    looks_back: Option<u64>,
}

impl LoadedTransform {
    /// Lets the library make the stage.
    pub fn build(
        descriptor: Descriptor,
        options: &Value,
        context: &StageContext,
        inputs: &[SchemaRef],
        state: &SavedState,
    ) -> Result<Self> {
        let (handle, built) = build(descriptor, &BuildCall { state, ..BuildCall::new(options, context, inputs) })?;
        let bytes_per_series = Some(built.bytes_per_series as usize).filter(|bytes| 0 < *bytes);
        let looks_back = Some(built.looks_back).filter(|readings| 0 < *readings);
        // Before the handle is moved: when it fails, the schema must be released before the stage is destroyed.
        let schema = schema(&built)?;
        Ok(LoadedTransform { handle, schema, bytes_per_series, looks_back })
    }
}

impl Transform for LoadedTransform {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let process = self.handle.raw().process.ok_or_else(|| StageError::fatal("it has no `process`"))?;
        let mut array = self.handle.export(rows);
        let saying = Saying::new(out, &self.schema, Some(rows));
        let output = Saying::raw(&saying);
        // SAFETY: one call at a time, by `&mut`; array and output live until after it. What is left of the array is
        // released when it is dropped.
        let called = self
            .handle
            .call(|error| inside(|| unsafe { process(self.handle.stage(), input as u32, &mut array, &output, error) }));
        saying.finish()?;
        called
    }

    fn tick(&mut self, at: Times, out: &mut Output) -> Result<()> {
        let Some(tick) = self.handle.raw().tick else { return Ok(()) };
        let watermark = at.watermark.map_or(NO_TIME, |time| time.0);
        let saying = Saying::new(out, &self.schema, None);
        let output = Saying::raw(&saying);
        // SAFETY: one call at a time; the output lives until after it.
        let called =
            self.handle.call(|error| unsafe { tick(self.handle.stage(), at.now.0, watermark, &output, error) });
        saying.finish()?;
        called
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        let Some(save) = self.handle.raw().save else { return Ok(()) };
        // A library that does not look at an answer must not make a checkpoint of half of its state.
        let saving = Said::new(Saving { changes, n_bytes: 0 });
        let state = RawState {
            struct_size: size_of::<RawState>() as u32,
            context: saving.context(),
            put: Some(put),
            forget: Some(forget),
        };
        // SAFETY: one call at a time; the writer lives until after it.
        let called = self.handle.call(|error| unsafe { save(self.handle.stage(), &state, error) });
        saving.finish()?;
        called
    }

    fn bytes_per_series(&self) -> Option<usize> {
        self.bytes_per_series
    }

    fn looks_back(&self) -> Option<u64> {
        self.looks_back
    }

    fn held(&self) -> u64 {
        // SAFETY: the engine asks between its other calls, from the thread that makes them (rule 4).
        let call = |held: unsafe extern "C-unwind" fn(*mut c_void) -> u64| unsafe { held(self.handle.stage()) };
        let held = self.handle.raw().held.map(|held| self.handle.calls().watch(|| guarded(|| call(held))));
        // What throws here has no rows to be believed; the books say so.
        held.and_then(Result::ok).unwrap_or(0).min(MAX_COUNT)
    }
}

struct Saving<'a> {
    changes: &'a mut dyn StateWriter,
    n_bytes: usize,
}

impl Saving<'_> {
    fn count(&mut self, n_bytes: usize) -> Result<()> {
        self.n_bytes += n_bytes;
        match self.n_bytes <= MAX_SAVE {
            true => Ok(()),
            false => Err(StageError::fatal(format!(
                "the plugin's state has changed by more than {MAX_SAVE} bytes since its last checkpoint: it must keep less, or the rows be parted over more tasks"
            ))),
        }
    }
}

fn answer(context: *mut c_void, body: impl FnOnce(&mut Saving<'_>) -> Result<()>) -> i32 {
    // SAFETY: the context that `save` has made, in the call that it was made for (rule 1).
    let answered = unsafe { listen(context, body) };
    answered.map_or(FATAL, |()| OK)
}

fn check(what: &str, bytes: *const u8, length: usize) -> Result<()> {
    if bytes.is_null() && length != 0 {
        return Err(StageError::fatal(format!("a {what} of the plugin's state is NULL with {length} bytes")));
    }
    if MAX_VALUE < length {
        return Err(StageError::fatal(format!(
            "a {what} of the plugin's state has {length} bytes, it may have {MAX_VALUE}: it must be parted over several keys"
        )));
    }
    Ok(())
}

unsafe extern "C" fn put(
    context: *mut c_void,
    key: *const u8,
    key_length: usize,
    value: *const u8,
    value_length: usize,
) -> i32 {
    answer(context, |saving| {
        check("key", key, key_length)?;
        check("value", value, value_length)?;
        saving.count(key_length + value_length)?;
        // SAFETY: as many bytes as it says, for the time of the call (rule 1).
        let (key, value) = unsafe { (slice(key, key_length), slice(value, value_length)) };
        saving.changes.put(key, value);
        Ok(())
    })
}

unsafe extern "C" fn forget(context: *mut c_void, key: *const u8, key_length: usize) -> i32 {
    answer(context, |saving| {
        check("key", key, key_length)?;
        saving.count(key_length)?;
        // SAFETY: as many bytes as it says, for the time of the call (rule 1).
        saving.changes.delete(unsafe { slice(key, key_length) });
        Ok(())
    })
}
