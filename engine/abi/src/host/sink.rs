//! A sink that stands in a library: its thread calls it.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use arrow_schema::SchemaRef;
use pipeline_blocking::{BlockingOutbox, BlockingSink};
use pipeline_stage::{
    Alert, BuiltSink, Claim, Commit, Delivery, EpochRows, Mark, Owner, Pace, Result, SinkContext, StageError, WhenFull,
};
use serde_json::Value;

use super::build::{BuildCall, Handle, build};
use super::call;
use super::epochs::{Committing, WrittenEpochs};
use super::stage_type::Descriptor;
use crate::exchange::{WrittenMark, optional, read_mark};
use crate::memory::c_text;
use crate::raw::*;

/// How long a delivery may take if the library does not say.
const TIMEOUT_MS: u32 = 30_000;
/// How many alerts may wait if the library does not say.
const MAX_PENDING: u64 = 10_000;

/// Lets the library make a sink.
pub fn build_sink(descriptor: Descriptor, options: &Value, context: &SinkContext) -> Result<BuiltSink> {
    let inputs: [SchemaRef; 1] = [context.schema.clone()];
    let (handle, built) = build(descriptor, &BuildCall::new(options, &context.stage, &inputs))?;
    let raw = descriptor.raw;
    let delivery = match built.delivery {
        TRANSACTIONAL => Delivery::Transactional,
        TRUNCATING => Delivery::Truncating,
        AT_LEAST_ONCE => Delivery::AtLeastOnce,
        OUTBOX if raw.deliver.is_some() => {
            let outbox = LoadedOutbox { handle, pace: pace(&built)? };
            return Ok(BuiltSink::Outbox(pipeline_blocking::outbox(&context.stage.id, Box::new(outbox))));
        }
        OUTBOX => return Err(StageError::fatal("the plugin says that it has an outbox, but lacks `deliver`")),
        other => {
            let words = format!("the plugin says that its `delivery` is {other}, which there is not");
            return Err(StageError::fatal(words));
        }
    };
    if raw.claim.is_none() || raw.commit.is_none() {
        return Err(StageError::fatal("the plugin says that it takes epochs, but lacks `claim` or `commit`"));
    }
    Ok(BuiltSink::Epochs(pipeline_blocking::sink(&context.stage.id, Box::new(LoadedSink { handle, delivery }))))
}

fn pace(built: &RawBuilt) -> Result<Pace> {
    let or = |millis: u32, default: u32| Duration::from_millis(if millis == 0 { default } else { millis }.into());
    Ok(Pace {
        at_most_every: or(built.at_most_every_ms, 0),
        timeout: or(built.timeout_ms, TIMEOUT_MS),
        max_pending: if built.max_pending == 0 { MAX_PENDING } else { built.max_pending },
        when_full: match built.when_full {
            DIGEST => WhenFull::Digest,
            WAIT => WhenFull::Wait,
            other => {
                let words = format!("the plugin says that its `when_full` is {other}, which there is not");
                return Err(StageError::fatal(words));
            }
        },
    })
}

struct LoadedSink {
    handle: Handle,
    delivery: Delivery,
}

impl BlockingSink for LoadedSink {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn check(&mut self) -> Vec<StageError> {
        Problems::of(&self.handle)
    }

    fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let claim = self.handle.raw().claim.ok_or_else(|| StageError::fatal("the plugin lacks `claim`"))?;
        let texts = [&owner.pipeline, &owner.sink, &owner.task, &owner.state_id].map(|text| c_text(text));
        let [pipeline, sink, task, state_id] = texts.each_ref().map(|text| text.as_ptr());
        let stored = owner.stored.as_ref().map(WrittenMark::new);
        let stored = stored.as_ref().map(WrittenMark::raw);
        let raw = RawOwner {
            struct_size: size_of::<RawOwner>() as u32,
            pipeline,
            sink,
            task,
            state_id,
            generation: owner.generation,
            stored: stored.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
            takes_over: i32::from(owner.takes_over),
        };
        let mut claiming = Claiming::default();
        let to = claiming.raw();
        // SAFETY: one call at a time, by the sink's thread (rule 4); all lives until after it (rule 1).
        let called = self.handle.call(|error| unsafe { claim(self.handle.stage(), &raw, &to, error) });
        claiming.wrong.map_or(called, Err)?;
        Ok(claiming.mark.map_or(Claim::New, Claim::At))
    }

    fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let commit = self.handle.raw().commit.ok_or_else(|| StageError::fatal("the plugin lacks `commit`"))?;
        let mut written = WrittenEpochs::new(epochs);
        let mut committing = Committing::new(epochs);
        let (raw, to) = (written.raw(), committing.raw());
        let pointers = raw.pointers();
        let call = |error| {
            // SAFETY: one call at a time, by the sink's thread (rule 4); all lives until after it (rule 1).
            unsafe { commit(self.handle.stage(), pointers.as_ptr(), pointers.len(), &to, error) }
        };
        let called = self.handle.call(call);
        committing.finish(called)
    }
}

struct LoadedOutbox {
    handle: Handle,
    pace: Pace,
}

impl BlockingOutbox for LoadedOutbox {
    fn pace(&self) -> Pace {
        self.pace
    }

    fn check(&mut self) -> Vec<StageError> {
        Problems::of(&self.handle)
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let deliver = self.handle.raw().deliver.ok_or_else(|| StageError::fatal("the plugin lacks `deliver`"))?;
        let row = serde_json::to_string(&alert.row)
            .map_err(|error| StageError::fatal("an alert cannot be written as JSON").because(error))?;
        let (id, json) = (c_text(&alert.id), c_text(&row));
        let raw = RawAlert {
            struct_size: size_of::<RawAlert>() as u32,
            id: id.as_ptr(),
            json: json.as_ptr(),
            digest_of: alert.digest_of.unwrap_or(0),
        };
        // SAFETY: one call at a time, by the sink's thread (rule 4); all lives until after it (rule 1).
        self.handle.call(|error| unsafe { deliver(self.handle.stage(), &raw, error) })
    }
}

/// What `claim` has found.
#[derive(Default)]
struct Claiming {
    mark: Option<Mark>,
    wrong: Option<StageError>,
}

impl Claiming {
    fn raw(&mut self) -> RawClaim {
        let context = std::ptr::from_mut(self).cast();
        RawClaim { struct_size: size_of::<RawClaim>() as u32, context, at: Some(at) }
    }
}

unsafe extern "C" fn at(context: *mut c_void, mark: *const RawMark) {
    // SAFETY: made by `raw` for this call; the library calls from one thread (rule 4).
    let Some(claiming) = (unsafe { context.cast::<Claiming>().as_mut() }) else { return };
    // SAFETY: a mark of the library's, valid during the call (rule 1).
    let read = catch_unwind(AssertUnwindSafe(|| unsafe { read_mark(mark) }));
    match read.unwrap_or_else(|_| Err(StageError::fatal("the plugin's mark cannot be read"))) {
        Ok(Some(mark)) => claiming.mark = Some(mark),
        Ok(None) => drop(claiming.wrong.get_or_insert(StageError::fatal("the plugin's mark is NULL"))),
        Err(error) => drop(claiming.wrong.get_or_insert(error)),
    }
}

/// What a `check` has found.
#[derive(Default)]
pub struct Problems(Vec<StageError>);

impl Problems {
    /// Lets a stage look; a stage that cannot look has found nothing.
    pub fn of(handle: &Handle) -> Vec<StageError> {
        let Some(check) = handle.raw().check else { return Vec::new() };
        let mut problems = Problems::default();
        let context = std::ptr::from_mut(&mut problems).cast();
        let raw = RawFindings { struct_size: size_of::<RawFindings>() as u32, context, found: Some(found) };
        // SAFETY: one call at a time, by the stage's thread (rule 4); all lives until after it (rule 1).
        let called = handle.call(|error| unsafe { check(handle.stage(), &raw, error) });
        problems.0.extend(called.err());
        problems.0
    }
}

unsafe extern "C" fn found(context: *mut c_void, status: i32, words: *const c_char, option: *const c_char) {
    // SAFETY: made by `of` for this call; the library calls from one thread (rule 4).
    let Some(problems) = (unsafe { context.cast::<Problems>().as_mut() }) else { return };
    // SAFETY: texts of the library's, valid during the call (rule 2).
    let read = || unsafe { Ok((optional(words, "the words of a problem")?, optional(option, "an option")?)) };
    let problem = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok((words, option))) => call::failed(status, &words.unwrap_or_default(), &option.unwrap_or_default()),
        Ok(Err(error)) => error,
        Err(_) => StageError::fatal("the plugin's problem cannot be read"),
    };
    problems.0.push(problem);
}
