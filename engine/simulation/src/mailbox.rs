//! The other side of an outbox: it fails, hangs, loses answers, and notices what is delivered twice without need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{
    Alert, BuiltSink, OutboxSink, Pace, Result, SinkContext, SinkOptions, StageError, StageOptions, WhenFull,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::draw::number_of;
use crate::process::{Life, Process, current};
use crate::weather::Kind;
use crate::world::State;

/// Delivers to the simulated other side.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailOptions {
    /// How many alerts may wait before those in excess go as one.
    pub max_pending: u64,
    /// Whether some alerts can never be delivered.
    #[serde(default)]
    pub refuses: bool,
    /// What happens to those above `max_pending`.
    #[serde(default)]
    pub when_full: WhenFull,
}

impl StageOptions for MailOptions {
    const NAME: &'static str = "mail";
    const EXAMPLE: &'static str = "alerts:\n  type: mail\n  inputs: [readings]\n  max_pending: 3\n";
}

impl SinkOptions for MailOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Outbox(Box::new(Mail { process: current().ok(), options: self })))
    }
}

/// What was delivered.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// By id.
    pub delivered: BTreeMap<String, Delivered>,
}

/// What is known of one alert.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// How many rows it stood for, the first time.
    pub digest_of: Option<u64>,
    /// How often it came.
    pub times: u64,
    /// Who brought it last.
    by: u32,
    /// How often that one had been stopped before.
    stops: u64,
    /// It may not have heard that it was taken.
    is_unsure: bool,
}

/// Some ids that can never be delivered.
pub fn is_refused(id: &str) -> bool {
    number_of(id).is_multiple_of(11)
}

struct Mail {
    process: Option<Arc<Process>>,
    options: MailOptions,
}

#[async_trait]
impl OutboxSink for Mail {
    fn pace(&self) -> Pace {
        Pace {
            at_most_every: Duration::from_millis(3),
            timeout: Duration::from_secs(10),
            max_pending: self.options.max_pending,
            when_full: self.options.when_full,
        }
    }

    async fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let process = crate::table::process(&self.process)?;
        let who = format!("alert {} is delivered", alert.id);
        if self.options.refuses && is_refused(&alert.id) {
            return Err(StageError::data("it can never be delivered"));
        }
        process.call(Kind::Mail, &who, |state| take(state, process, alert)).await?;
        if let Some(delivered) = process.world.state().mailbox.delivered.get_mut(&alert.id) {
            delivered.is_unsure &= delivered.by != process.number;
        }
        Ok(())
    }
}

fn take(state: &mut State, process: &Process, alert: &Alert) -> Result<()> {
    let is_stopped = u64::from(process.life() != Life::Runs);
    let stops = state.stops(process.number) - is_stopped;
    let new = Delivered { digest_of: alert.digest_of, times: 1, by: process.number, stops, is_unsure: true };
    let Some(before) = state.mailbox.delivered.insert(alert.id.clone(), new.clone()) else {
        state.count(if alert.digest_of.is_some() { "digests" } else { "alerts" });
        return Ok(());
    };
    let again = Delivered { times: before.times + 1, ..new };
    state.mailbox.delivered.insert(alert.id.clone(), again);
    state.count("alerts repeated");
    if before.digest_of != alert.digest_of {
        let (first, then) = (before.digest_of, alert.digest_of);
        state.fail(format!("alert {} stood for {first:?} rows and then for {then:?}", alert.id));
    }
    // The promise: a repeat comes only after an answer that was lost, or when who brought it was stopped.
    let is_excused = match before.by == process.number {
        true => before.is_unsure,
        false => before.stops < state.stops(before.by),
    };
    if !is_excused {
        let (first, then) = (before.by, process.number);
        state.fail(format!("alert {} was delivered by process {first} and without need by {then}", alert.id));
    }
    Ok(())
}
