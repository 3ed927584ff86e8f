//! The source `http_push`: a server that rows are posted to.
//!
//! A request waits until the epoch that has its rows is on disk, and is answered then: [`request`] says with what. The
//! server has a thread of its own ([`server`]); what it has taken waits in an [`Inbox`] for the task.

mod request;
mod server;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_connections::Limits;
use pipeline_inbox::{Inbox, Outcome};
use pipeline_stage::{
    Assignment, ByteSize, Framing, Partition, Position, Reader, Result, Secret, Source, SourceBatch, SourceContext,
    SourceOptions, SourceOutput, Span, StageError, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::info;

use request::Posts;
use server::Server;

/// Takes rows that are posted to it, one a line.
///
/// `curl -d '{"sensor_id":"a","value":1.5}' http://127.0.0.1:8088/` sends one row. The answer comes when the rows are on
/// disk, about `commit_every` after they came, later when the pipeline is behind: with the number of rows and the offset
/// of the first, `{"accepted":1,"offset":1764133552123456}`. Accepted is every line that is not empty: whether it can be
/// decoded is found later, and one that cannot is a dead letter, with its bytes and its offset.
///
/// | status | means | and then |
/// |---|---|---|
/// | 200 | all rows are on disk and are not lost any more | |
/// | 400, 413, 415 | no rows, a body that breaks off, is too large or is compressed, a key of more than 256 bytes: nothing was taken | send something else |
/// | 401, 403 | the token is missing or wrong; or a web page has sent it, and there is no token | |
/// | 404, 405 | another path than `path`, another method than POST, such as GET or PUT: nothing was taken; the answer has no body | send it right |
/// | 408 | the body has not come in time: nothing was taken | send it again |
/// | 429 | too much waits, or your address has too many connections: nothing was taken | send it again after `Retry-After` |
/// | 503 | the pipeline stops, or has not come to it in time: nothing was taken | send it again after `Retry-After` |
/// | 504 | it is not known whether it was taken | send it again, if twice is better than never |
///
/// What is sent twice is there twice; the header `Idempotency-Key` is what `meta: key` gives, so that later stages or
/// a table can tell. `meta: time` is when the rows came, `meta: topic` the path. A run with `--once` listens to nobody.
///
/// A connection that is idle for 20 s, or whose sender takes nothing of an answer for 30 s, is closed.
///
/// While a sink is down, the rows of two epochs are taken and the others wait: requests end with 504 or 503 then.
///
/// The connection is not encrypted: outside of a machine or a private network put a proxy with TLS before it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpPushOptions {
    /// The address and port to listen on, such as `127.0.0.1:8088`. Any other address than that of the machine itself
    /// (`0.0.0.0:8088`) needs a `token`.
    pub listen: String,
    /// The path to post to.
    #[serde(default = "default_path")]
    pub path: String,
    /// What the header `Authorization: Bearer …` must say; it is never printed.
    #[serde(default)]
    pub token: Option<Secret>,
    /// The largest body, at most 64MiB.
    #[serde(default = "default_max_body")]
    pub max_body: ByteSize,
    /// How much may wait to be on disk, at most 1GiB; more is refused with 429.
    #[serde(default = "default_max_waiting")]
    pub max_waiting: ByteSize,
    /// How many connections there may be; further ones wait until one is closed.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_connections: u32,
    /// How many of them one address may have, so that one sender does not keep out all others (of IPv6, the 64 bits of a
    /// network); of further ones some are answered with 429 and the others closed, and nothing was taken. Behind a proxy
    /// or a gateway all senders have its address: as many as `max_connections` leave it all.
    #[serde(default = "default_max_connections_per_address")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_connections_per_address: u32,
    /// How long a request may wait to be on disk.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_path() -> String {
    "/".into()
}

/// Some ten thousand readings: larger bodies make nothing faster.
fn default_max_body() -> ByteSize {
    ByteSize(1 << 20)
}

/// What a pipeline of middling speed works off in a second.
fn default_max_waiting() -> ByteSize {
    ByteSize(16 << 20)
}

/// A fourth of the file descriptors that a process usually has.
fn default_max_connections() -> u32 {
    256
}

/// Half of all: a hundred senders behind one address are usual, and others still find a place.
fn default_max_connections_per_address() -> u32 {
    128
}

/// Longer than any hiccup of a disk, shorter than most clients wait.
fn default_timeout() -> Span {
    Span(std::time::Duration::from_secs(30))
}

/// A batch of rows that large is part of an entry of the epoch log.
const MOST_BODY: ByteSize = ByteSize(64 << 20);
const MOST_WAITING: ByteSize = ByteSize(1 << 30);

impl StageOptions for HttpPushOptions {
    const NAME: &'static str = "http_push";
    const EXAMPLE: &'static str = "
readings:
  type: http_push
  listen: 127.0.0.1:8088
  format: json
  schema: { sensor_id: string, metric_type: string, value: float, timestamp: timestamp }
";
}

impl SourceOptions for HttpPushOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        match context.framing {
            Some(Framing::Lines) | None => {}
            Some(Framing::Csv { .. }) => {
                return Err(StageError::config("its rows are lines, and `csv` is not: `format: json` would do"));
            }
        }
        Ok(Box::new(HttpPush::new(self, context.stage.once)?))
    }
}

impl HttpPushOptions {
    fn check(&self) -> Result<SocketAddr> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        let Ok(address) = self.listen.parse::<SocketAddr>() else {
            return wrong(
                "listen",
                format!("`{}` is no address with a port, it would be like `127.0.0.1:8088`", self.listen),
            );
        };
        let token = self.token.as_ref().map(Secret::expose);
        if token.is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return wrong("token", "`token` is empty or has characters that no header can have".into());
        }
        if token.is_none() && !address.ip().is_loopback() {
            let message = format!("others can reach `{address}`, so it needs a `token`: `token: ${{PUSH_TOKEN}}`");
            return wrong("listen", message);
        }
        let is_pattern = self.path.split('/').any(|part| part.starts_with([':', '*']));
        if !self.path.starts_with('/') || self.path.contains(['{', '}', '?', '#', ' ']) || is_pattern {
            return wrong("path", format!("`{}` is no path, it would be like `/readings`", self.path));
        }
        if self.max_body < ByteSize(1) || MOST_BODY < self.max_body {
            return wrong("max_body", format!("`max_body` is {}, it must be 1B to {MOST_BODY}", self.max_body));
        }
        if self.max_waiting < self.max_body || MOST_WAITING < self.max_waiting {
            let (is, least) = (self.max_waiting, self.max_body);
            return wrong(
                "max_waiting",
                format!("`max_waiting` is {is}, it must be `max_body` ({least}) to {MOST_WAITING}"),
            );
        }
        for (option, is) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_address", self.max_connections_per_address),
        ] {
            if !(1..=10_000).contains(&is) {
                return wrong(option, format!("`{option}` is {is}, it must be 1 to 10000"));
            }
        }
        if self.timeout.0.is_zero() {
            return wrong("timeout", "`timeout` is 0s, it must be above 0s".into());
        }
        Ok(address)
    }
}

struct HttpPush {
    address: SocketAddr,
    options: HttpPushOptions,
    limits: Limits,
    posts: Arc<Posts>,
    /// From the first reader on, until its task has stopped.
    server: Option<Server>,
    once: bool,
    is_assigned: bool,
}

impl HttpPush {
    fn new(options: HttpPushOptions, once: bool) -> Result<Self> {
        let (address, posts) = (options.check()?, Arc::new(Posts::new(&options)));
        let limits = server::limits(&options);
        Ok(HttpPush { address, options, limits, posts, server: None, once, is_assigned: false })
    }
}

#[async_trait]
impl Source for HttpPush {
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
        // Before anybody is told anything: without its address it cannot begin.
        let listener = match self.server.is_none() && !self.once {
            true => Some(listen(self.address)?),
            false => None,
        };
        self.posts.answer(self.posts.inbox.open(from.map(|from| from.offset)));
        if let Some(listener) = listener {
            let server = Server::start(listener, &self.options, self.limits, self.posts.clone())?;
            info!("rows can be posted to http://{}{}", server.address, self.options.path);
            self.posts.set_open(true);
            self.server = Some(server);
        }
        Ok(Box::new(PushReader { posts: self.posts.clone(), partition: partition.clone(), once: self.once }))
    }

    async fn logged(&mut self, _partition: &Partition, through: &Position) -> Result<()> {
        let logged = self.posts.inbox.logged(through.offset);
        self.posts.answer(Outcome { logged, ..Outcome::default() });
        Ok(())
    }

    async fn release(&mut self, _partition: &Partition) -> Result<()> {
        self.posts.set_open(false);
        self.posts.answer(self.posts.inbox.clear());
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| {
        let message = format!("it cannot listen on {address}");
        match error.kind() {
            // Whoever has it may be about to end.
            std::io::ErrorKind::AddrInUse => StageError::transient(message).because(error),
            _ => StageError::config(message).because(error),
        }
    })
}

struct PushReader {
    posts: Arc<Posts>,
    partition: Partition,
    once: bool,
}

#[async_trait]
impl Reader for PushReader {
    async fn next(&mut self, _until: Option<&Position>) -> Result<Option<SourceBatch>> {
        if self.once {
            return Ok(None);
        }
        Ok(Some(self.posts.inbox.next(&self.partition).await))
    }

    fn position(&self) -> Position {
        Position::at(self.posts.inbox.position())
    }

    fn lag(&self) -> Option<u64> {
        Some(self.posts.inbox.waiting())
    }
}
