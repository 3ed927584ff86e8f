//! A sink that stands in a library: its thread calls it.

use std::ffi::{c_char, c_void};
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
use super::said::{Said, listen};
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
    let (handle, built) = build(
        descriptor,
        &BuildCall { detector: context.detector.as_ref(), ..BuildCall::new(options, &context.stage, &inputs) },
    )?;
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
        problems_of(&self.handle)
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
        let claiming = Said::new(None::<Mark>);
        let to = RawClaim { struct_size: size_of::<RawClaim>() as u32, context: claiming.context(), at: Some(at) };
        // SAFETY: one call at a time, by the sink's thread (rule 4); all lives until after it (rule 1).
        let called = self.handle.call(|error| unsafe { claim(self.handle.stage(), &raw, &to, error) });
        let mark = claiming.finish()?;
        called?;
        Ok(mark.map_or(Claim::New, Claim::At))
    }

    fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let commit = self.handle.raw().commit.ok_or_else(|| StageError::fatal("the plugin lacks `commit`"))?;
        let mut written = WrittenEpochs::new(epochs, &self.handle);
        let committing = Committing::new(epochs);
        let (raw, to) = (written.raw(), Committing::raw(&committing));
        let pointers = raw.pointers();
        let call = |error| {
            // SAFETY: one call at a time, by the sink's thread (rule 4); all lives until after it (rule 1).
            unsafe { commit(self.handle.stage(), pointers.as_ptr(), pointers.len(), &to, error) }
        };
        let called = self.handle.call(call);
        let committed = committing.finish()?;
        called?;
        committed.finish()
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
        problems_of(&self.handle)
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

unsafe extern "C" fn at(context: *mut c_void, mark: *const RawMark) {
    let body = |found: &mut Option<Mark>| {
        // SAFETY: a mark of the library's, valid during the call (rule 1).
        let mark = unsafe { read_mark(mark) }?.ok_or_else(|| StageError::fatal("the plugin's mark is NULL"))?;
        match found.replace(mark) {
            None => Ok(()),
            Some(_) => Err(StageError::fatal("the plugin gave two marks of one task")),
        }
    };
    // SAFETY: the context that `claim` has made, in the call that it was made for (rule 1).
    unsafe { listen(context, body) };
}

/// What a `check` has found.
pub fn problems_of(handle: &Handle) -> Vec<StageError> {
    let Some(check) = handle.raw().check else { return Vec::new() };
    let problems = Said::new(Vec::new());
    let struct_size = size_of::<RawFindings>() as u32;
    let raw = RawFindings { struct_size, context: problems.context(), found: Some(found) };
    // SAFETY: one call at a time, by the stage's thread (rule 4); all lives until after it (rule 1).
    let called = handle.call(|error| unsafe { check(handle.stage(), &raw, error) });
    let mut problems = problems.finish().unwrap_or_else(|wrong| vec![wrong]);
    problems.extend(called.err());
    problems
}

unsafe extern "C" fn found(context: *mut c_void, status: i32, words: *const c_char, option: *const c_char) {
    let body = |problems: &mut Vec<StageError>| {
        // SAFETY: text of the library's, valid during the call (rule 2).
        let words = unsafe { optional(words, "the words of a problem") }?.unwrap_or_default();
        // SAFETY: as above.
        let option = unsafe { optional(option, "the option of a problem") }?.unwrap_or_default();
        problems.push(call::failed(status, &words, &option));
        Ok(())
    };
    // SAFETY: the context that `problems_of` has made, in the call that it was made for (rule 1).
    unsafe { listen(context, body) };
}
