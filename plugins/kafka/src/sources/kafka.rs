//! The options of the source `kafka`: what users write, what librdkafka is told.

use std::sync::Arc;

use pipeline_stage::{OneOrMany, Result, Role, Source, SourceContext, SourceOptions, StageError, StageOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::{ClientSettings, Connection, Owned};
use crate::sources::source::{KafkaSource, SourceSettings};
use crate::sources::start::{Start, StartRules};

/// Reads topics of Apache Kafka, one task for each partition.
///
/// All processes that run the same pipeline with the same `group` share the partitions; when one of them stops or
/// is added, partitions move. Which rows are read is decided by the state of the pipeline, not by the group's offsets:
/// they are committed after each checkpoint, so that other tools see the lag.
///
/// A partition that has neither state nor a committed offset begins at `start`. With a committed offset but without
/// state the pipeline stops, because windows would be missing; `--cold-start` accepts that. So it does when the rows to go
/// on with are not there any more, or the topic was deleted and made anew. Rows of transactions are
/// read when they are committed (`isolation`). A message without a value (a tombstone) is a row without payload.
///
/// TLS and SASL are set under `client`, with the names of librdkafka:
///
/// ```yaml
/// client:
///   security.protocol: sasl_ssl
///   sasl.mechanism: SCRAM-SHA-512
///   sasl.username: pipeline
///   sasl.password: ${file:/run/secrets/kafka}
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceOptions {
    /// The brokers to ask first, as `host:port`: one text with commas, or a list.
    pub brokers: OneOrMany,
    /// The topic, or several.
    pub topic: OneOrMany,
    /// The consumer group that shares the partitions. A source that follows another one commits under this name, a
    /// dot and its own id, because it is no member.
    pub group: String,
    /// Where a partition begins that was never read: `earliest` (default), `latest`, or a time like
    /// `2025-07-20T08:19:16Z` (the first row written then or later). A partition that is added to a topic later
    /// is noticed within 30 s and always begins at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Whether rows of transactions that are still open, or were aborted, are read.
    #[serde(default)]
    pub isolation: Isolation,
    /// A name for this process that survives its restart (`group.instance.id`). With it a process that was killed has
    /// its partitions again as soon as it is back; without it they wait until its former session is over (10 s). A
    /// process that stops keeps them for the rest of its session, too. Each process of the group needs its own. Default:
    /// a name kept with the state when that is a folder; none when it is in PostgreSQL, where processes share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-names-process" = true))]
    pub instance: Option<String>,
    /// Further settings of librdkafka, by its names.
    #[serde(default)]
    pub client: ClientSettings,
}

/// Which rows of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Those that are committed.
    #[default]
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// What users may not set under `client`.
const OWNED: Owned = &[
    ("group.id", "`group` says it"),
    ("group.instance.id", "`instance` says it"),
    ("group.protocol", "partitions move by the classic protocol"),
    ("auto.offset.reset", "`start` says where a new partition begins; rows are never skipped silently"),
    ("enable.auto.commit", "offsets are committed after each checkpoint"),
    ("auto.commit.enable", "offsets are committed after each checkpoint"),
    ("auto.commit.interval.ms", "offsets are committed after each checkpoint"),
    ("enable.auto.offset.store", "offsets are committed after each checkpoint"),
    ("partition.assignment.strategy", "partitions move one by one, while the others are read on"),
    ("enable.partition.eof", "the source must see the end of a partition"),
    ("isolation.level", "`isolation` says it"),
    ("statistics.interval.ms", "the pipeline has metrics of its own"),
];

/// Settings that users may change. The figures suit small rows at millions a second; a message larger than a fetch is still
/// read. How much is read ahead depends on the number of partitions: `read_ahead.rs`.
const DEFAULTS: &[(&str, &str)] = &[
    // The default of 1 s makes a full queue cost more than anything else.
    ("fetch.queue.backoff.ms", "2"),
    // How long the end of a partition takes to be noticed, and how long a partition waits that was left out of a fetch which
    // brings nothing.
    ("fetch.wait.max.ms", "50"),
    // A process that was killed keeps its partitions for so long.
    ("session.timeout.ms", "10000"),
    // How long it takes at most until the others notice that partitions are to move.
    ("heartbeat.interval.ms", "1000"),
    // How long it takes at most until partitions that are added to a topic are noticed.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

impl StageOptions for KafkaSourceOptions {
    const NAME: &'static str = "kafka";
    const EXAMPLE: &'static str = "
readings:
  type: kafka
  brokers: localhost:9092
  topic: iot-data-stream
  group: iot-data-processing-group
  format: json
  schema: { sensor_id: string, metric_type: string, value: float, timestamp: timestamp }
";
}

impl SourceOptions for KafkaSourceOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        let topics = self.topics(context.role)?;
        if self.group.is_empty() {
            return Err(StageError::config("`group` is empty, it must name a consumer group").at_option("group"));
        }
        let connection = Connection::new(&self.brokers, self.client, OWNED)?;
        let group = match context.role {
            Role::Leader => self.group,
            Role::Follower => format!("{}.{}", self.group, context.stage.id),
        };
        let client_id = format!("pipeline-{}-{}", context.stage.pipeline, context.stage.id);
        let mut fixed = vec![
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.partition.eof", "true"),
            ("isolation.level", self.isolation.name()),
        ];
        // A follower is no member of the group.
        let instance = self.instance.filter(|_| context.role == Role::Leader);
        let is_static = instance.is_some();
        if let Some(instance) = &instance {
            fixed.push(("group.instance.id", instance));
        }
        let defaults = [DEFAULTS, &[("client.id", client_id.as_str())]].concat();
        let config = connection.config(&defaults, &fixed);
        connection.check(&config)?;
        let rules = StartRules { start: self.start, cold_start: context.stage.cold_start, group };
        let brokers = connection.brokers().to_owned();
        let (role, once) = (context.role, context.stage.once);
        Ok(Box::new(KafkaSource::new(SourceSettings { config, topics, rules, brokers, role, is_static, once })))
    }
}

impl KafkaSourceOptions {
    fn topics(&self, role: Role) -> Result<Vec<Arc<str>>> {
        let topics = self.topic.as_slice();
        if topics.is_empty() || topics.iter().any(String::is_empty) {
            return Err(StageError::config("`topic` is empty, it must name a topic or several").at_option("topic"));
        }
        if let Some(pattern) = topics.iter().find(|topic| topic.starts_with('^')) {
            let words = format!("`topic` is `{pattern}`, it must be a name: patterns are not supported");
            return Err(StageError::config(words).at_option("topic"));
        }
        if role == Role::Follower && topics.len() > 1 {
            let words = format!(
                "`topic` names {} topics, a source that follows another one must have exactly one: its partitions are \
                 opened by number",
                topics.len()
            );
            return Err(StageError::config(words).at_option("topic"));
        }
        Ok(topics.iter().map(|topic| topic.as_str().into()).collect())
    }
}
