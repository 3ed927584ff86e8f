//! Sinks of this library, as the engine calls them.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use pipeline_stage::{
    Alert, Branches, BuiltSink, Claim, Commit, Delivery, EpochRows, Make, Origins, OutboxSink, Owner, Pace, Result,
    Rows, Sink, SinkContext, StageError, WhenFull,
};

use super::build::{BuildCall, read_build};
use super::source::drop_inside;
use super::transform::take_rows;
use super::{answer, exported, missing, runtime, tell};
use crate::exchange::{WrittenMark, owned, read_mark};
use crate::memory::{c_text, slice};
use crate::raw::*;

/// The functions of a sink, of either form: which one it is, `build` says.
pub fn descriptor() -> RawStage {
    RawStage {
        build: Some(build),
        destroy: Some(destroy),
        check: Some(check),
        claim: Some(claim),
        commit: Some(commit),
        deliver: Some(deliver),
        ..RawStage::empty(SINK)
    }
}

/// A sink that the engine holds.
struct Held {
    sink: BuiltSink,
    schema: SchemaRef,
}

impl Held {
    fn epochs(&mut self) -> Result<&mut dyn Sink> {
        match &mut self.sink {
            BuiltSink::Epochs(sink) => Ok(sink.as_mut()),
            BuiltSink::Outbox(_) => Err(StageError::fatal("it takes no epochs: it has an outbox")),
        }
    }

    fn outbox(&mut self) -> Result<&mut dyn OutboxSink> {
        match &mut self.sink {
            BuiltSink::Outbox(sink) => Ok(sink.as_mut()),
            BuiltSink::Epochs(_) => Err(StageError::fatal("it has no outbox: it takes epochs")),
        }
    }
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
        let BuildCall { context, options, mut inputs, detector, .. } = unsafe { read_build(build) }?;
        let Make::Sink(make) = &stage_type.make else { return Err(StageError::fatal("it is no sink")) };
        let schema = inputs.pop().ok_or_else(|| StageError::fatal("the engine has named no columns"))?;
        let sink = make(options, SinkContext { stage: context, schema: schema.clone(), detector })?;
        // SAFETY: the engine's, for this call, and as large as this version of it (rule 1, rule 6).
        let built = unsafe { &mut *built };
        match &sink {
            BuiltSink::Epochs(sink) => {
                built.delivery = match sink.delivery() {
                    Delivery::Transactional => TRANSACTIONAL,
                    Delivery::Truncating => TRUNCATING,
                    Delivery::AtLeastOnce => AT_LEAST_ONCE,
                }
            }
            BuiltSink::Outbox(sink) => say_pace(built, sink.pace()),
        }
        built.stage = Box::into_raw(Box::new(Held { sink, schema })).cast();
        Ok(())
    })
}

fn say_pace(built: &mut RawBuilt, pace: Pace) {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    built.delivery = OUTBOX;
    built.at_most_every_ms = millis(pace.at_most_every);
    built.timeout_ms = millis(pace.timeout).max(1);
    built.max_pending = pace.max_pending.max(1);
    built.when_full = match pace.when_full {
        WhenFull::Digest => DIGEST,
        WhenFull::Wait => WAIT,
    };
}

unsafe extern "C-unwind" fn destroy(sink: *mut c_void) {
    // SAFETY: made by `build`, and not used after this call.
    let held = unsafe { Box::from_raw(sink.cast::<Held>()) };
    drop_inside(held);
}

/// # Safety
/// It was made by `build`, and this is the only call at this time (rule 4).
unsafe fn held<'a>(sink: *mut c_void) -> &'a mut Held {
    // SAFETY: the caller's.
    unsafe { &mut *sink.cast::<Held>() }
}

unsafe extern "C-unwind" fn check(sink: *mut c_void, findings: *const RawFindings, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let problems = match &mut unsafe { held(sink) }.sink {
            BuiltSink::Epochs(sink) => runtime::wait(sink.check()),
            BuiltSink::Outbox(sink) => runtime::wait(sink.check()),
        };
        tell(findings, &problems)
    })
}

unsafe extern "C-unwind" fn claim(
    sink: *mut c_void,
    owner: *const RawOwner,
    claim: *const RawClaim,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let sink = unsafe { held(sink) }.epochs()?;
        // SAFETY: what the engine passes, valid during the call (rule 1).
        let (raw, to) = unsafe { (&*owner, &*claim) };
        // SAFETY: as above.
        let read = |from, what| unsafe { owned(from, what) };
        let owner = Owner {
            pipeline: read(raw.pipeline, "the pipeline's name")?,
            sink: read(raw.sink, "the sink's id")?,
            task: read(raw.task, "the task's name")?,
            state_id: read(raw.state_id, "the state's id")?,
            generation: raw.generation,
            // SAFETY: as above.
            stored: unsafe { read_mark(raw.stored) }?,
            takes_over: raw.takes_over != 0,
        };
        if let Claim::At(mark) = runtime::wait(sink.claim(&owner))? {
            let written = WrittenMark::new(&mark);
            // SAFETY: copied during the call (rule 1).
            unsafe { to.at.ok_or_else(missing)?(to.context, &written.raw()) };
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn commit(
    sink: *mut c_void,
    epochs: *const *const RawEpoch,
    n_epochs: usize,
    commit: *const RawCommit,
    error: *mut RawError,
) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let held = unsafe { held(sink) };
        let schema = held.schema.clone();
        // SAFETY: what the engine passes, valid during the call (rule 1).
        let (raw, to) = unsafe { (slice(epochs, n_epochs), &*commit) };
        // SAFETY: as above.
        let epochs = raw.iter().map(|epoch| unsafe { read_epoch(&**epoch, &schema) });
        let epochs = epochs.collect::<Result<Vec<_>>>()?;
        match runtime::wait(held.epochs()?.commit(&epochs))? {
            Commit::Done(details) => {
                let say = to.detail.ok_or_else(missing)?;
                for (epoch, detail) in details.iter().enumerate().filter_map(|(i, detail)| Some((i, detail.as_ref()?)))
                {
                    // SAFETY: copied during the call (rule 1).
                    unsafe { say(to.context, epoch, c_text(detail).as_ptr()) };
                }
            }
            Commit::Refused(refused) => {
                let say = to.refuse.ok_or_else(missing)?;
                for row in refused {
                    // SAFETY: copied during the call (rule 1).
                    unsafe { say(to.context, row.epoch, row.batch, row.row, c_text(&row.why).as_ptr()) };
                }
            }
        }
        Ok(())
    })
}

/// # Safety
/// It is what the engine passes to `commit`.
unsafe fn read_epoch(epoch: &RawEpoch, schema: &SchemaRef) -> Result<EpochRows> {
    // SAFETY: the caller's.
    let mark = unsafe { read_mark(epoch.mark) }?;
    let mark = mark.ok_or_else(|| StageError::fatal("the engine has given an epoch without a mark"))?;
    // SAFETY: the caller's.
    let batches = unsafe { slice(epoch.rows, epoch.n_rows) };
    // SAFETY: the caller's.
    let rows = batches.iter().map(|rows| unsafe { read_rows(&**rows, schema) });
    Ok(EpochRows { mark, rows: rows.collect::<Result<_>>()? })
}

/// # Safety
/// It is what the engine passes to `commit`.
unsafe fn read_rows(rows: &RawRowsOf, schema: &SchemaRef) -> Result<Rows> {
    // SAFETY: rows of the columns that `build` was told, to be taken (rule 3).
    let batch = unsafe { take_rows(rows.rows, schema) }?;
    let count = batch.num_rows();
    // SAFETY: one for each row.
    let (offsets, branches) = unsafe { (slice(rows.offsets, count), slice(rows.branches, count)) };
    let branches = match rows.branches.is_null() {
        true => Branches::All(rows.branch),
        false => Branches::Each(Arc::from(branches)),
    };
    // SAFETY: the caller's.
    let place = unsafe { owned(rows.place, "the place of rows") }?;
    Ok(Rows { batch, origins: Origins { place: place.into(), offsets: Arc::from(offsets), branches } })
}

unsafe extern "C-unwind" fn deliver(sink: *mut c_void, alert: *const RawAlert, error: *mut RawError) -> i32 {
    answer(error, || {
        // SAFETY: made by `build`; one call at a time (rule 4).
        let sink = unsafe { held(sink) }.outbox()?;
        // SAFETY: what the engine passes, valid during the call (rule 1).
        let raw = unsafe { &*alert };
        // SAFETY: as above.
        let (id, json) = unsafe { (owned(raw.id, "an alert's id")?, owned(raw.json, "an alert's row")?) };
        let row = serde_json::from_str(&json)
            .map_err(|error| StageError::fatal("the engine's alert is no JSON").because(error))?;
        let alert = Alert { id, row, digest_of: (raw.digest_of != 0).then_some(raw.digest_of) };
        runtime::wait(sink.deliver(&alert))
    })
}
