//! The source `kafka`: its options, and the source itself, which leaves the reading to its driver.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{
    Assignment, OneOrMany, Partition, Position, Reader, Result, Role, Source, SourceContext, SourceOptions,
    SourceOutput, StageError, StageOptions,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::connection::{ClientSettings, Connection, Owned, setting_error};
use crate::consumer::{ConsumerNotes, KafkaConsumer, Place, list_at};
use crate::health::{CALL_TIMEOUT, CHECK_TIMEOUT};
use crate::sources::driver::{self, Changes, DriverHandle, Order};
use crate::sources::held::Opening;
use crate::sources::reader::{FEED_SIZE, KafkaReader, UNKNOWN, Waker};
use crate::sources::start::{Start, StartRules, look, resolve};
use crate::topics::{partition_count, problems, thread_died};

/// Reads topics of Apache Kafka, one task for each partition.
///
/// All processes that run the same pipeline with the same `group` share the partitions; when one of them stops or
/// is added, partitions move. Which rows are read is decided by the state of the pipeline, not by the group's offsets:
/// they are committed after each checkpoint, so that other tools see the lag.
///
/// A partition that has neither state nor a committed offset begins at `start`. With a committed offset but without
/// state the pipeline stops, because windows would be missing; `--cold-start` accepts that. Rows of transactions are
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
    /// always begins at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Whether rows of transactions that are still open, or were aborted, are read.
    #[serde(default)]
    pub isolation: Isolation,
    /// A name for this process that survives its restart (`group.instance.id`): a restart within the session
    /// (10 s) then moves no partitions. Each process of the group needs its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// Settings that users may change. The figures suit small rows at millions a second and hold one partition to about
/// 16 MiB read ahead; a larger message is still read.
const DEFAULTS: &[(&str, &str)] = &[
    // The default of 1 s makes a full queue cost more than anything else.
    ("fetch.queue.backoff.ms", "2"),
    // How long the end of a partition takes to be noticed.
    ("fetch.wait.max.ms", "100"),
    ("fetch.message.max.bytes", "4194304"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "16384"),
    // A process that was killed keeps its partitions for so long.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "2000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// With `--once`: how long the group must have been quiet before a process that owns a part of the partitions takes
/// that for its share.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long a release waits for its commit; the checkpoint has the offset anyway.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

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
        if let Some(instance) = &self.instance {
            fixed.push(("group.instance.id", instance));
        }
        let defaults = [DEFAULTS, &[("client.id", client_id.as_str())]].concat();
        let config = connection.config(&defaults, &fixed);
        connection.check(&config)?;
        let rules = StartRules { start: self.start, cold_start: context.stage.cold_start, group };
        Ok(Box::new(KafkaSource {
            config,
            topics,
            rules,
            brokers: connection.brokers().to_owned(),
            role: context.role,
            once: context.stage.once,
            consuming: None,
        }))
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

struct KafkaSource {
    config: ClientConfig,
    topics: Vec<Arc<str>>,
    rules: StartRules,
    brokers: String,
    role: Role,
    once: bool,
    consuming: Option<Consuming>,
}

/// The consumer and what the source knows of it. Dropped in this order: the driver has the last hold of the consumer.
struct Consuming {
    consumer: Arc<KafkaConsumer>,
    changes: Changes,
    driver: DriverHandle,
    /// Of all topics, once they were found.
    n_partitions: Option<usize>,
    /// Those gained and not revoked or lost again.
    n_owned: usize,
    /// When the group last changed; none before its first answer.
    changed_at: Option<Instant>,
    /// What `forget` has committed, for the last commit in `release`.
    committed: HashMap<Place, u64>,
}

#[async_trait]
impl Source for KafkaSource {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    async fn check(&mut self) -> Vec<StageError> {
        let topics = self.topics.clone();
        let consumer = match self.consuming() {
            Ok(consuming) => Arc::clone(&consuming.consumer),
            Err(error) => return vec![error],
        };
        let look = move || problems(&consumer, &topics, CHECK_TIMEOUT);
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| vec![thread_died(error)])
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        let once = self.once;
        let consuming = self.ready().await?;
        loop {
            if once && consuming.n_partitions.is_some_and(|n| n <= consuming.n_owned) {
                return Ok(Assignment::Final);
            }
            let change = match consuming.changed_at.filter(|_| once) {
                Some(changed_at) => match timeout_at(changed_at + SETTLED_AFTER, consuming.changes.recv()).await {
                    Ok(change) => change,
                    Err(_) => return Ok(Assignment::Final),
                },
                None => consuming.changes.recv().await,
            };
            let change = change.unwrap_or_else(|| Err(StageError::lost("the consumer was closed")))?;
            if consuming.takes_note_of(&change) {
                return Ok(change);
            }
        }
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let place = self.place_of(partition)?;
        let rules = self.rules.clone();
        let once = self.once;
        let consuming = self.ready().await?;
        let (consumer, asked, from) = (Arc::clone(&consuming.consumer), place.clone(), from.map(|from| from.offset));
        let looking = move || {
            let found = look(&consumer, &asked, &rules)?;
            resolve(&asked, from, &rules, &found).map(|offset| (offset, found))
        };
        let (offset, found) = tokio::task::spawn_blocking(looking).await.map_err(thread_died)??;

        let (feeds, receiver) = mpsc::channel(FEED_SIZE);
        let (opened, is_open) = oneshot::channel();
        let high_watermark = Arc::new(AtomicU64::new(if found.high == 0 { UNKNOWN } else { found.high }));
        let reader = KafkaReader::new(
            receiver,
            consuming.driver.waker(),
            Arc::clone(&high_watermark),
            (offset, once.then_some(found.high)),
        );
        consuming.driver.order(Order::Open(Opening { place, offset, feeds, high_watermark, opened })).await?;
        is_open.await.map_err(|_| StageError::lost("the consumer was closed"))??;
        Ok(Box::new(reader))
    }

    async fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        let place = self.place_of(partition)?;
        let Some(consuming) = &mut self.consuming else { return Ok(()) };
        let list = list_at(&place, through.offset);
        consuming.committed.insert(place, through.offset);
        // The group's offsets are for people: a commit that fails is reported once, by the callback, and not retried.
        if let Err(error) = list.and_then(|list| consuming.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(%partition, %error, "offsets were not committed");
        }
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        let place = self.place_of(partition)?;
        let Some(consuming) = &mut self.consuming else { return Ok(()) };
        if let Some(offset) = consuming.committed.remove(&place) {
            let consumer = Arc::clone(&consuming.consumer);
            let at = place.clone();
            let commit = move || list_at(&at, offset).and_then(|list| consumer.commit(&list, CommitMode::Sync));
            if !matches!(timeout(LAST_COMMIT_TIMEOUT, tokio::task::spawn_blocking(commit)).await, Ok(Ok(Ok(())))) {
                tracing::debug!(%partition, "the last offset was not committed; the checkpoint has it");
            }
        }
        consuming.driver.order(Order::Release(place)).await
    }
}

impl Consuming {
    /// Counts what is owned. False: the engine need not hear of it.
    fn takes_note_of(&mut self, change: &Assignment) -> bool {
        self.changed_at = Some(Instant::now());
        match change {
            Assignment::Gained(gained) => {
                self.n_owned += gained.len();
                !gained.is_empty()
            }
            Assignment::Revoked(gone) | Assignment::Lost(gone) => {
                self.n_owned = self.n_owned.saturating_sub(gone.len());
                !gone.is_empty()
            }
            Assignment::Final => true,
        }
    }
}

impl KafkaSource {
    /// The place that the engine means: by name for a leader, by number for a follower.
    fn place_of(&self, partition: &Partition) -> Result<Place> {
        let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
        if self.role == Role::Follower {
            return Ok(Place { topic: Arc::clone(&self.topics[0]), partition: number });
        }
        let topic = partition.name.rsplit_once('/').map(|(topic, _)| topic);
        match self.topics.iter().find(|known| Some(&***known) == topic) {
            Some(topic) => Ok(Place { topic: Arc::clone(topic), partition: number }),
            None => {
                Err(StageError::fatal(format!("`{}` is no partition of {}", partition.name, self.topics.join(", "))))
            }
        }
    }

    /// The consumer, made at the first call. Nothing is asked of a broker yet.
    fn consuming(&mut self) -> Result<&mut Consuming> {
        if self.consuming.is_none() {
            let notes = ConsumerNotes::new(&self.brokers, &self.rules.group);
            let mut consumer: KafkaConsumer =
                self.config.create_with_context(notes).map_err(|error| setting_error(&error))?;
            let waker = Arc::new(Waker::default());
            let wakes = Arc::clone(&waker);
            consumer.set_nonempty_callback(move || wakes.wake());
            let consumer = Arc::new(consumer);
            let topic = Arc::clone(&self.topics[0]);
            let (driver, changes) = driver::start(Arc::clone(&consumer), waker, topic, self.role == Role::Follower)
                .map_err(|error| StageError::fatal("no thread can be started").because(error))?;
            self.consuming = Some(Consuming {
                consumer,
                changes,
                driver,
                n_partitions: None,
                n_owned: 0,
                changed_at: None,
                committed: HashMap::new(),
            });
        }
        Ok(self.consuming.as_mut().expect("made above"))
    }

    /// The consumer, once all topics were found; a leader joins its group then.
    async fn ready(&mut self) -> Result<&mut Consuming> {
        let (topics, role) = (self.topics.clone(), self.role);
        let consuming = self.consuming()?;
        if consuming.n_partitions.is_none() {
            let n_partitions = count_partitions(&consuming.consumer, &topics).await?;
            consuming.consumer.context().health.start();
            if role == Role::Leader {
                let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
                let subscribed = consuming.consumer.subscribe(&names);
                subscribed.map_err(|error| StageError::fatal(format!("the topics cannot be read: {error}")))?;
            }
            consuming.n_partitions = Some(n_partitions);
        }
        Ok(consuming)
    }
}

/// The partitions of all topics. An error when one of the topics is not there.
async fn count_partitions(consumer: &Arc<KafkaConsumer>, topics: &[Arc<str>]) -> Result<usize> {
    let (consumer, topics) = (Arc::clone(consumer), topics.to_vec());
    let count = move || topics.iter().map(|topic| partition_count(&consumer, topic, CALL_TIMEOUT)).sum();
    tokio::task::spawn_blocking(count).await.map_err(thread_died)?
}
