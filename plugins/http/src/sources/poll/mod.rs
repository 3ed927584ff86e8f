//! The source `http`: asks an API on an interval.
//!
//! [`rounds`] says when each request is made, [`request`] what is asked and what its answer means, [`reader`] hands it
//! over, [`told`] says what people hear of those that do not work. What was answered waits in an [`Inbox`] until it is in
//! the epoch log.

mod reader;
mod request;
mod rounds;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use pipeline_inbox::{Inbox, now};
use pipeline_stage::{
    Assignment, ByteSize, Framing, Partition, Position, Reader, Result, Secret, Source, SourceContext, SourceOptions,
    SourceOutput, Span, StageError, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use reader::PollReader;
use request::Request;
use rounds::Rounds;
use told::Told;

/// Asks an HTTP API on an interval; each answer is a row.
///
/// With `requests` there are several requests, such as one for each city; each adds its own parameters to `query`, or
/// puts them where they stand in braces in `url` (`https://host/stations/{id}/latest`). The first round begins with the
/// pipeline, the others follow `every`, also over a restart. At most 8 requests are under way at a time. A request
/// that has no answer yet is not made again: what is slow misses rounds, and rounds do not pile up. While the pipeline
/// waits for a sink, nothing is asked.
///
/// The whole body of an answer is the row's payload, which the format decodes: a document for `unnest`, with format
/// `text`, or one flat object, with format `json`. One that cannot be decoded is a dead letter, an empty one too.
/// `meta: key` is the name of the request, `meta: time` when the answer came, `meta: topic` the host.
///
/// | answer | what becomes of it | asked again |
/// |---|---|---|
/// | 200 to 299 | a row; none for 204 and 205 | in the next round |
/// | 304, or the same as the last one with `unchanged: skip` | no row | in the next round |
/// | 408, 425, 429, 5xx, none within `timeout`, a body that breaks off | no row | as `Retry-After` says; otherwise soon, then ever later, up to a minute or `every`; after 429 not before the next round |
/// | other 3xx and 4xx, more than `max_body`, compressed | no row, and a warning that says what to do | in a minute, or after `every` |
///
/// A request that does not work holds up no other one. It is told once, at once when it was refused and otherwise after a
/// minute, and once more when it is back; it counts in `pipeline_lag_rows`, as it is due. When none works any more, the source is *failing* for `/ready` and in `pipeline_failing`. A run with `--once` asks each
/// request until it has its answer, and fails when one is refused.
///
/// Answers cannot be asked for again: what comes is in the epoch log before any sink has it, and what the API says
/// while the pipeline does not run is never seen. Redirects are not followed, so that keys go to nobody else.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// What to ask; it may hold a key, so it is never printed.
    pub url: Secret,
    /// Parameters that are added to the URL, by name, as text; their values are never printed.
    #[serde(default)]
    pub query: BTreeMap<String, Secret>,
    /// Headers of every request, by name; their values are never printed.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Several requests in the place of one: names, each with its own parameters; at most 1,000.
    #[serde(default)]
    pub requests: BTreeMap<String, BTreeMap<String, Secret>>,
    /// How often, at least 10ms.
    #[serde(default = "default_every")]
    pub every: Span,
    /// What becomes of an answer that is the same, byte for byte, as the last one to its request since the start:
    /// `keep` makes a row of each, `skip` none; it also lets the API answer 304 (`ETag`).
    #[serde(default)]
    pub unchanged: Unchanged,
    /// The largest body of an answer, at most 64MiB.
    #[serde(default = "default_max_body")]
    pub max_body: ByteSize,
    /// How long a request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// What becomes of an answer that says nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unchanged {
    /// A row of each.
    #[default]
    Keep,
    /// No row.
    Skip,
}

/// What APIs allow without a contract.
fn default_every() -> Span {
    Span(Duration::from_secs(60))
}

/// A thousand readings; who asks for more knows it.
fn default_max_body() -> ByteSize {
    ByteSize(1 << 20)
}

/// Longer than any answer that is still worth something, shorter than a round.
fn default_timeout() -> Span {
    Span(Duration::from_secs(10))
}

/// Whoever asks more often means another unit.
const LEAST_EVERY: Span = Span(Duration::from_millis(10));
/// It is part of an entry of the epoch log, and of memory as often as requests are under way.
const MOST_BODY: ByteSize = ByteSize(64 << 20);
/// Each takes some kilobytes and its turn.
const MOST_REQUESTS: usize = 1_000;
/// How often a run with `--once` looks whether its rows are on disk, before it says that a request was refused.
const LOOK_AT_LOGGED: Duration = Duration::from_millis(20);

impl StageOptions for HttpOptions {
    const NAME: &'static str = "http";
    const EXAMPLE: &'static str = "
weather:
  type: http
  url: https://api.openweathermap.org/data/2.5/weather
  query: { appid: \"${OPENWEATHER_API_KEY:-none}\", units: metric }
  requests:
    Berlin: { q: 'Berlin,DE' }
    Paris: { q: 'Paris,FR' }
  every: 15s
  format: text
  schema: { document: string }
";
}

impl SourceOptions for HttpOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        match context.framing {
            Some(Framing::Lines) | None => {}
            Some(Framing::Csv { .. }) => {
                return Err(StageError::config("an answer is one row, and `csv` has several: `format: text` would do"));
            }
        }
        Ok(Box::new(Http::new(self, context.stage.id, context.stage.once)?))
    }
}

impl HttpOptions {
    fn check(&self) -> Result<()> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.every < LEAST_EVERY {
            return wrong("every", format!("`every` is {}, it must be at least {LEAST_EVERY}", self.every));
        }
        if self.max_body < ByteSize(1) || MOST_BODY < self.max_body {
            return wrong("max_body", format!("`max_body` is {}, it must be 1B to {MOST_BODY}", self.max_body));
        }
        if self.timeout.0.is_zero() {
            return wrong("timeout", "`timeout` is 0s, it must be above 0s".into());
        }
        if MOST_REQUESTS < self.requests.len() {
            let count = self.requests.len();
            return wrong("requests", format!("`requests` has {count} of them, it may have {MOST_REQUESTS}"));
        }
        Ok(())
    }
}

struct Http {
    id: String,
    options: HttpOptions,
    requests: Vec<Arc<Request>>,
    inbox: Arc<Inbox<()>>,
    once: bool,
    is_assigned: bool,
}

impl Http {
    fn new(options: HttpOptions, id: String, once: bool) -> Result<Self> {
        options.check()?;
        let requests = request::all(&options)?;
        let host = requests.first().map_or("", |request| request.host());
        let inbox = Arc::new(Inbox::new(host));
        Ok(Http { id, options, requests, inbox, once, is_assigned: false })
    }
}

#[async_trait]
impl Source for Http {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    fn is_replayable(&self) -> bool {
        false
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::of_one_partition(&mut self.is_assigned))
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        // Nobody waits for an answer of ours: what is held is given again, or is of another state.
        drop(self.inbox.open(from.map(|from| from.offset)));
        let last_round = from.and_then(|from| from.detail.clone());
        let first = match self.once {
            true => None,
            false => Some(until_next(last_round.as_deref(), self.options.every.0)),
        };
        let rounds = Rounds::new(&self.requests, &self.options, first);
        Ok(Box::new(PollReader {
            inbox: self.inbox.clone(),
            partition: partition.clone(),
            rounds,
            told: Told::new(&self.id),
            n_untold: 0,
            last_round,
            once: self.once,
        }))
    }

    async fn logged(&mut self, _partition: &Partition, through: &Position) -> Result<()> {
        drop(self.inbox.logged(through.offset));
        Ok(())
    }

    async fn release(&mut self, _partition: &Partition) -> Result<()> {
        drop(self.inbox.clear());
        Ok(())
    }
}

/// How long to wait for the first round, so that a restart keeps the rhythm. A clock that was set back does not stop it.
fn until_next(last_round: Option<&str>, every: Duration) -> Duration {
    let last = last_round.and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|time| time.timestamp_micros());
    let Some(last) = last else { return Duration::ZERO };
    match u64::try_from(now().0.saturating_sub(last)) {
        Ok(since) => every.saturating_sub(Duration::from_micros(since)),
        Err(_) => every,
    }
}
