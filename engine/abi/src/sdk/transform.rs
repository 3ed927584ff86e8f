//! Transforms and detectors of this library, as the engine calls them.

use std::ffi::c_void;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow_schema::{DataType, SchemaRef};
use pipeline_stage::{Make, Origin, Output, Result, StageError, StateWriter, Times, Timestamp, Transform};

use super::build::{BuildCall, read_build};
use super::{answer, exported, missing};
use crate::memory::c_text;
use crate::raw::*;

/// The functions of a transform or detector.
pub fn descriptor(kind: u32) -> RawStage {
    RawStage {
        build: Some(build),
        destroy: Some(destroy),
        process: Some(process),
        tick: Some(tick),
        save: Some(save),
        held: Some(held),
        ..RawStage::empty(kind)
    }
}

/// A stage that the engine holds.
struct Stage {
    transform: Box<dyn Transform>,
    inputs: Vec<SchemaRef>,
    /// With the memory that the batch before needed.
    said: Output,
}

unsafe extern "C-unwind" fn build(
    stage_type: *const RawStage,
    build: *const RawBuild,
    built: *mut RawBuilt,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: the engine hands back the descriptor that `export` has made.
        let stage_type = unsafe { exported(stage_type) };
        // SAFETY: what the engine passes, valid during the call (rule 1).
        let BuildCall { context, options, inputs, state, .. } = unsafe { read_build(build) }?;
        let Make::Transform(make) = &stage_type.make else {
            return Err(StageError::fatal("it is not a transform"));
        };
        let transform = make(options, &context, &inputs, state)?;
        let schema = FFI_ArrowSchema::try_from(transform.schema().as_ref())?;
        let bytes_per_series = transform.bytes_per_series().unwrap_or(0) as u64;
        // Without any it says 1: a reading more does no harm, and 0 says that it is not known.
        let looks_back = transform.looks_back().map_or(0, |readings| readings.max(1));
        let stage = Box::into_raw(Box::new(Stage { transform, inputs, said: Output::default() }));
        // SAFETY: the engine's, for this call (rule 1).
        let struct_size = unsafe { (*built).struct_size };
        // SAFETY: as above; it was there from the beginning (rule 6).
        unsafe { (*built).stage = stage.cast() };
        // SAFETY: as above.
        unsafe { (*built).schema = schema };
        // SAFETY: as above.
        unsafe { (*built).bytes_per_series = bytes_per_series };
        if offset_of!(RawBuilt, looks_back) < struct_size as usize {
            // SAFETY: this engine has the field (rule 6).
            unsafe { (*built).looks_back = looks_back };
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn destroy(stage: *mut c_void) {
    // SAFETY: made by `build`, and not used after this call.
    let stage = unsafe { Box::from_raw(stage.cast::<Stage>()) };
    // A panic while it is dropped has nobody to be told to.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(stage)));
}

unsafe extern "C-unwind" fn process(
    stage: *mut c_void,
    input: u32,
    rows: *mut FFI_ArrowArray,
    output: *const RawOutput,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        let schema = stage.inputs.get(input as usize).ok_or_else(|| StageError::fatal("there is no such input"))?;
        // SAFETY: rows of the schema that `build` was told, to be taken (rule 3).
        let batch = unsafe { take_rows(rows, schema) }?;
        // When something fails, nothing of it is left for the next call.
        let mut out = std::mem::take(&mut stage.said);
        stage.transform.process(input as usize, &batch, &mut out)?;
        // SAFETY: valid during the call (rule 1).
        unsafe { hand_over(&mut out, &*output) }?;
        out.next_batch();
        stage.said = out;
        Ok(())
    })
}

/// Takes rows of the engine over.
///
/// # Safety
/// The engine's rows have the columns of the schema.
pub unsafe fn take_rows(rows: *mut FFI_ArrowArray, schema: &SchemaRef) -> Result<RecordBatch> {
    // SAFETY: the engine's, valid during the call; what is left has no `release` (rule 3).
    let taken = unsafe { std::ptr::replace(rows, FFI_ArrowArray::empty()) };
    // SAFETY: the engine's rows have the columns that it has told.
    let data = unsafe { from_ffi_and_data_type(taken, DataType::Struct(schema.fields().clone())) }?;
    let options = RecordBatchOptions::new().with_row_count(Some(data.len()));
    let (_, columns, _) = StructArray::from(data).into_parts();
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// # Safety
/// The output is the engine's, for this call.
unsafe fn hand_over(out: &mut Output, output: &RawOutput) -> Result<()> {
    let outcome = out.take();
    let context = output.context;
    for (batch, origin) in outcome.emitted {
        let mut rows = FFI_ArrowArray::new(&StructArray::from(batch).into_data());
        let (emit, created) = (output.emit.ok_or_else(missing)?, output.emit_created.ok_or_else(missing)?);
        let status = match origin {
            // SAFETY: the engine takes the rows; no origins means the same ones.
            Origin::Same => unsafe { emit(context, &mut rows, std::ptr::null(), 0) },
            // SAFETY: as above, with as many origins as are said.
            Origin::Rows(origins) => unsafe { emit(context, &mut rows, origins.as_ptr(), origins.len()) },
            // SAFETY: as above.
            Origin::Created => unsafe { created(context, &mut rows) },
        };
        if status != OK {
            return Err(StageError::fatal("the engine has refused the rows"));
        }
    }
    let (reject, late) = (output.reject.ok_or_else(missing)?, output.late.ok_or_else(missing)?);
    for (row, why) in outcome.rejected {
        // SAFETY: the text is copied during the call (rule 1).
        unsafe { reject(context, row, c_text(&why).as_ptr()) };
    }
    for row in outcome.late {
        // SAFETY: numbers only.
        unsafe { late(context, row) };
    }
    // SAFETY: numbers only.
    unsafe { (output.filtered.ok_or_else(missing)?)(context, outcome.filtered) };
    // SAFETY: numbers only.
    unsafe { (output.created.ok_or_else(missing)?)(context, outcome.created) };
    Ok(())
}

unsafe extern "C-unwind" fn tick(
    stage: *mut c_void,
    now: i64,
    watermark: i64,
    output: *const RawOutput,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        let watermark = (watermark != NO_TIME).then_some(Timestamp(watermark));
        // While no rows come, no memory is kept for them.
        stage.said = Output::default();
        let mut out = Output::default();
        stage.transform.tick(Times { now: Timestamp(now), watermark }, &mut out)?;
        // SAFETY: valid during the call (rule 1).
        unsafe { hand_over(&mut out, &*output) }
    })
}

unsafe extern "C-unwind" fn save(stage: *mut c_void, state: *const RawState, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let stage = unsafe { &mut *stage.cast::<Stage>() };
        // SAFETY: valid during the call (rule 1).
        let mut writer = Writer { state: unsafe { &*state }, is_refused: false };
        stage.transform.save(&mut writer)?;
        match writer.is_refused {
            true => Err(StageError::fatal("the engine has refused the state")),
            false => Ok(()),
        }
    })
}

struct Writer<'a> {
    state: &'a RawState,
    is_refused: bool,
}

impl StateWriter for Writer<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let Some(put) = self.state.put else { return self.is_refused = true };
        // SAFETY: both are copied during the call (rule 1).
        let status = unsafe { put(self.state.context, key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
        self.is_refused |= status != OK;
    }
    fn delete(&mut self, key: &[u8]) {
        let Some(forget) = self.state.forget else { return self.is_refused = true };
        // SAFETY: copied during the call (rule 1).
        let status = unsafe { forget(self.state.context, key.as_ptr(), key.len()) };
        self.is_refused |= status != OK;
    }
}

unsafe extern "C-unwind" fn held(stage: *mut c_void) -> u64 {
    // SAFETY: made by `build`; one call at a time (rule 4).
    let stage = unsafe { &mut *stage.cast::<Stage>() };
    catch_unwind(AssertUnwindSafe(|| stage.transform.held())).unwrap_or(0)
}
