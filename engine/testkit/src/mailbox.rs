//! An outbox sink whose other side is in the process, for tests of the engine.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{
    Alert, BuiltSink, OutboxSink, Pace, Result, SinkContext, SinkOptions, StageError, StageOptions, WhenFull,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;

/// What a [`MailboxOptions`] sink delivers to: it outlives the engine.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// What was delivered, in order.
    pub alerts: Mutex<Vec<Alert>>,
    /// Told at every try to deliver.
    pub tried: Notify,
}

static MAILBOXES: LazyLock<Mutex<HashMap<String, Arc<Mailbox>>>> = LazyLock::new(Mutex::default);

/// The mailbox of a name; empty when nothing was delivered yet.
pub fn mailbox(name: &str) -> Arc<Mailbox> {
    MAILBOXES.lock().expect("no holder panics").entry(name.into()).or_default().clone()
}

/// How the other side answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It takes everything.
    #[default]
    Takes,
    /// It takes nothing now.
    Fails,
    /// It never takes a digest.
    RefusesDigests,
}

/// Delivers to a [`Mailbox`], as fast as it can.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailboxOptions {
    /// Names the mailbox; see [`mailbox`].
    pub mailbox: String,
    /// What it answers.
    #[serde(default)]
    pub answer: Answer,
    /// How many alerts may wait.
    #[serde(default = "default_max_pending")]
    pub max_pending: u64,
    /// What happens to those above.
    #[serde(default)]
    pub when_full: WhenFull,
}

fn default_max_pending() -> u64 {
    1_000_000
}

impl StageOptions for MailboxOptions {
    const NAME: &'static str = "mailbox";
    const EXAMPLE: &'static str = "alerts:\n  type: mailbox\n  inputs: [readings]\n  mailbox: alerts\n";
}

impl SinkOptions for MailboxOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Outbox(Box::new(Delivery { mailbox: mailbox(&self.mailbox), options: self })))
    }
}

struct Delivery {
    options: MailboxOptions,
    mailbox: Arc<Mailbox>,
}

#[async_trait]
impl OutboxSink for Delivery {
    fn pace(&self) -> Pace {
        let MailboxOptions { max_pending, when_full, .. } = self.options;
        Pace { at_most_every: Duration::ZERO, timeout: Duration::from_secs(10), max_pending, when_full }
    }

    async fn deliver(&mut self, alert: &Alert) -> Result<()> {
        self.mailbox.tried.notify_one();
        match self.options.answer {
            Answer::Fails => return Err(StageError::transient("the mailbox is closed")),
            Answer::RefusesDigests if alert.digest_of.is_some() => {
                return Err(StageError::data("the mailbox takes no digest"));
            }
            Answer::Takes | Answer::RefusesDigests => {}
        }
        self.mailbox.alerts.lock().expect("no holder panics").push(alert.clone());
        Ok(())
    }
}
