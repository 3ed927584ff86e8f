//! Sources of this library, as the engine calls them.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StructArray, TimestampMicrosecondArray, new_null_array};
use arrow_schema::Schema;
use pipeline_stage::{
    Assignment, Make, Position, RawRows, Reader, Result, Source, SourceBatch, SourceContext, SourceOutput, SourceRows,
    StageError,
};

use super::build::{BuildCall, read_build};
use super::{answer, exported, missing, runtime, tell};
use crate::exchange::{WrittenPartition, WrittenPosition, read_partition, read_position};
use crate::memory::c_text;
use crate::payloads;
use crate::raw::*;

/// The functions of a source.
pub fn descriptor() -> RawStage {
    RawStage {
        build: Some(build),
        destroy: Some(destroy),
        check: Some(check),
        partition_count: Some(partition_count),
        assignment: Some(assignment),
        open: Some(open),
        read: Some(read),
        close: Some(close),
        logged: Some(logged),
        forget: Some(forget),
        release: Some(release),
        ..RawStage::empty(SOURCE)
    }
}

/// A source that the engine holds.
struct Held {
    source: Box<dyn Source>,
}

/// A reader that the engine holds.
struct HeldReader {
    reader: Box<dyn Reader>,
}

unsafe extern "C-unwind" fn build(
    stage_type: *const RawStage,
    build: *const RawBuild,
    built: *mut RawBuilt,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        let _guard = runtime::enter();
        // SAFETY: the engine hands back the descriptor that `export` has made.
        let stage_type = unsafe { exported(stage_type) };
        // SAFETY: what the engine passes, valid during the call (rule 1).
        let BuildCall { context, options, role, framing, .. } = unsafe { read_build(build) }?;
        let Make::Source(make) = &stage_type.make else { return Err(StageError::fatal("it is no source")) };
        let source = make(options, SourceContext { stage: context, framing, role })?;
        let output = source.output();
        let schema = match &output {
            SourceOutput::Raw => payloads::schema(),
            SourceOutput::Columns(schema) => schema.clone(),
        };
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(matches!(output, SourceOutput::Raw), RAW)
            | flag(!source.is_replayable(), CANNOT_REPLAY)
            | flag(source.has_partitions(), HAS_PARTITIONS);
        let schema = FFI_ArrowSchema::try_from(schema.as_ref())?;
        // SAFETY: the engine's, for this call, and as large as this version of it (rule 1, rule 6).
        let built = unsafe { &mut *built };
        built.stage = Box::into_raw(Box::new(Held { source })).cast();
        (built.schema, built.flags) = (schema, flags);
        Ok(())
    })
}

unsafe extern "C-unwind" fn destroy(source: *mut c_void) {
    // SAFETY: made by `build`, and not used after this call.
    let held = unsafe { Box::from_raw(source.cast::<Held>()) };
    drop_inside(held);
}

unsafe extern "C-unwind" fn close(reader: *mut c_void) {
    // SAFETY: made by `open`, and not used after this call.
    let held = unsafe { Box::from_raw(reader.cast::<HeldReader>()) };
    drop_inside(held);
}

/// A panic while it is dropped has nobody to be told to.
pub fn drop_inside<T>(held: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = runtime::enter();
        drop(held);
    }));
}

/// The source of a call.
///
/// # Safety
/// It was made by `build`, and this is the only call at this time (rule 4).
unsafe fn source_of<'a>(source: *mut c_void) -> &'a mut dyn Source {
    // SAFETY: the caller's.
    unsafe { &mut *source.cast::<Held>() }.source.as_mut()
}

unsafe extern "C-unwind" fn check(source: *mut c_void, findings: *const RawFindings, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let source = unsafe { source_of(source) };
        tell(findings, &runtime::wait(source.check()))
    })
}

unsafe extern "C-unwind" fn partition_count(source: *mut c_void, count: *mut u32, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let source = unsafe { source_of(source) };
        if let Some(found) = runtime::wait(source.partition_count())? {
            // SAFETY: the engine's, for this call (rule 1).
            unsafe { *count = found };
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn assignment(
    source: *mut c_void,
    wait_ms: u32,
    assignment: *const RawAssignment,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let source = unsafe { source_of(source) };
        // SAFETY: valid during the call (rule 1).
        let to = unsafe { &*assignment };
        let wait = Duration::from_millis(wait_ms.into());
        let (partitions, say) = match runtime::wait_for(source.assignment(), wait)? {
            None => return Ok(()),
            Some(Assignment::Gained(partitions)) => (partitions, to.gained),
            Some(Assignment::Revoked(partitions)) => (partitions, to.revoked),
            Some(Assignment::Lost(partitions)) => (partitions, to.lost),
            Some(Assignment::Final) => {
                // SAFETY: the engine's function and its context (rule 1).
                unsafe { to.last.ok_or_else(missing)?(to.context) };
                return Ok(());
            }
        };
        let say = say.ok_or_else(missing)?;
        for partition in partitions {
            let written = WrittenPartition::new(&partition);
            // SAFETY: copied during the call (rule 1).
            unsafe { say(to.context, &written.raw()) };
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn open(
    source: *mut c_void,
    partition: *const RawPartition,
    from: *const RawPosition,
    found: *const RawFound,
    reader: *mut *mut c_void,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let source = unsafe { source_of(source) };
        // SAFETY: what the engine passes (rule 1).
        let (partition, from) = unsafe { (read_partition(partition)?, read_position(from)?) };
        let opened = runtime::wait(source.open(&partition, from.as_ref()))?;
        // SAFETY: valid during the call (rule 1).
        say_position(unsafe { &*found }, &opened.position())?;
        let held = Box::into_raw(Box::new(HeldReader { reader: opened }));
        // SAFETY: the engine's, for this call (rule 1).
        unsafe { *reader = held.cast() };
        Ok(())
    })
}

fn say_position(found: &RawFound, position: &Position) -> Result<()> {
    let written = WrittenPosition::new(position);
    // SAFETY: copied during the call (rule 1).
    unsafe { found.position.ok_or_else(missing)?(found.context, &written.raw()) };
    Ok(())
}

unsafe extern "C-unwind" fn read(
    reader: *mut c_void,
    until: *const RawPosition,
    wait_ms: u32,
    found: *const RawFound,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `open`; one call at a time (rule 4).
        let held = unsafe { &mut *reader.cast::<HeldReader>() };
        // SAFETY: what the engine passes (rule 1).
        let (until, found) = unsafe { (read_position(until)?, &*found) };
        let wait = Duration::from_millis(wait_ms.into());
        let next = runtime::wait_for(held.reader.next(until.as_ref()), wait)?;
        match next {
            None => return Ok(()),
            Some(Some(batch)) => hand_over(found, batch)?,
            // SAFETY: the engine's function and its context (rule 1).
            Some(None) => unsafe { found.over.ok_or_else(missing)?(found.context) },
        }
        if let Some(lag) = held.reader.lag() {
            // SAFETY: numbers only.
            unsafe { found.lag.ok_or_else(missing)?(found.context, lag) };
        }
        say_position(found, &held.reader.position())
    })
}

fn hand_over(found: &RawFound, batch: SourceBatch) -> Result<()> {
    let offsets = batch.offsets;
    let mut raw = RawBatch {
        struct_size: size_of::<RawBatch>() as u32,
        rows: std::ptr::null_mut(),
        offsets: offsets.as_ptr(),
        n_offsets: offsets.len(),
        topic: std::ptr::null(),
        partition: 0,
        header: std::ptr::null(),
        header_length: 0,
    };
    let (rows, topic, header) = match batch.rows {
        SourceRows::Columns(rows) => (rows, None, None),
        SourceRows::Raw(raws) => {
            raw.partition = raws.partition;
            (payload_columns(&raws)?, Some(c_text(&raws.topic)), raws.header)
        }
    };
    if let Some(topic) = &topic {
        raw.topic = topic.as_ptr();
    }
    if let Some(header) = &header {
        (raw.header, raw.header_length) = (header.as_ptr(), header.len());
    }
    let mut array = FFI_ArrowArray::new(&StructArray::from(rows).into_data());
    raw.rows = &mut array;
    // SAFETY: rows and texts live until after the call, in which the engine takes the rows.
    match unsafe { found.rows.ok_or_else(missing)?(found.context, &raw) } {
        OK => Ok(()),
        _ => Err(StageError::fatal("the engine has refused the rows")),
    }
}

/// Payloads, with nulls for what they do not have.
fn payload_columns(raw: &RawRows) -> Result<RecordBatch> {
    let schema: Arc<Schema> = payloads::schema();
    let keys = raw.keys.clone().map(|keys: BinaryArray| -> ArrayRef { Arc::new(keys) });
    let times = raw.times.clone();
    let times = times.map(|times: TimestampMicrosecondArray| -> ArrayRef { Arc::new(times.with_timezone("UTC")) });
    let nulls = |column: usize| new_null_array(schema.field(column).data_type(), raw.payloads.len());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(raw.payloads.clone()),
        keys.unwrap_or_else(|| nulls(payloads::KEY)),
        times.unwrap_or_else(|| nulls(payloads::TIME)),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

unsafe extern "C-unwind" fn logged(
    source: *mut c_void,
    partition: *const RawPartition,
    through: *const RawPosition,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: what the engine passes (rule 1); one call at a time (rule 4).
        let (source, partition, through) =
            unsafe { (source_of(source), read_partition(partition)?, read_position(through)?) };
        through.map_or(Ok(()), |through| runtime::wait(source.logged(&partition, &through)))
    })
}

unsafe extern "C-unwind" fn forget(
    source: *mut c_void,
    partition: *const RawPartition,
    through: *const RawPosition,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: what the engine passes (rule 1); one call at a time (rule 4).
        let (source, partition, through) =
            unsafe { (source_of(source), read_partition(partition)?, read_position(through)?) };
        through.map_or(Ok(()), |through| runtime::wait(source.forget(&partition, &through)))
    })
}

unsafe extern "C-unwind" fn release(source: *mut c_void, partition: *const RawPartition, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: what the engine passes (rule 1); one call at a time (rule 4).
        let (source, partition) = unsafe { (source_of(source), read_partition(partition)?) };
        runtime::wait(source.release(&partition))
    })
}
