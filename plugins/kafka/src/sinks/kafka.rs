//! The sink `kafka`: its options, and the sink itself, which leaves the writing to one producer for each task.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, Mark, OneOrMany, Owner, Result, Sink, SinkContext, SinkOptions,
    StageError, StageOptions,
};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::{ClientSettings, Connection, Owned, setting_error};
use crate::consumer::{ConsumerNotes, KafkaConsumer};
use crate::health::{CALL_TIMEOUT, CHECK_TIMEOUT, words};
use crate::sinks::producer::{ProducerSettings, TaskProducer, Written};
use crate::sinks::records::Records;
use crate::topics::{partition_count, problems, thread_died};

/// Writes each row as a record of an Apache Kafka topic, exactly once.
///
/// The rows of an epoch and the mark that says how far a task has got are one transaction: consumers that read
/// committed records (`isolation.level=read_committed`) see each row once, whatever crashes in between. The topic must
/// be there.
///
/// The mark is kept as the offset of a consumer group for each task, `PIPELINE.SINK.TASK.marks`. Brokers forget such
/// offsets when a pipeline has stood still for `offsets.retention.minutes`, a week by default; it then stops and says
/// that its mark is missing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSinkOptions {
    /// The brokers to ask first, as `host:port`: one text with commas, or a list.
    pub brokers: OneOrMany,
    /// The topic; it must be there.
    pub topic: String,
    /// How a row is written.
    #[serde(default)]
    pub format: SinkFormat,
    /// The columns that make the record's key, which decides its partition: the text of one column, or those of
    /// several, joined by `|`. Default: the pipeline's `key`, if all its columns reach the sink; else no key. `[]` is
    /// no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OneOrMany>,
    /// How records are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What the transactional ids begin with, for clusters that grant them by prefix; a dash and the task follow.
    /// Default: `pipeline-PIPELINE-SINK`. Two sinks must not have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
    /// Further settings of librdkafka, by its names.
    #[serde(default)]
    pub client: ClientSettings,
}

/// How a row is written to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// One JSON object with the columns; timestamps as RFC 3339 text in UTC, numbers that are not finite as null.
    #[default]
    Json,
}

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Smaller than `lz4`, and slower.
    Gzip,
    /// About like `lz4`.
    Snappy,
    /// Fast.
    #[default]
    Lz4,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
        }
    }
}

/// What users may not set under `client`.
const OWNED: Owned = &[
    ("transactional.id", "`transactional_id` says how it begins"),
    ("enable.idempotence", "rows are written exactly once"),
    ("acks", "rows are written exactly once"),
    ("request.required.acks", "rows are written exactly once"),
    ("enable.gapless.guarantee", "rows are written exactly once"),
    ("compression.codec", "`compression` says it"),
    ("compression.type", "`compression` says it"),
    ("message.max.bytes", "it is the topic's `max.message.bytes`"),
    ("delivery.report.only.error", "each row is accounted for"),
    ("group.id", "the groups of the marks are named by pipeline, sink and task"),
];

/// Settings that users may change.
const DEFAULTS: &[(&str, &str)] = &[
    // As Java's producers do it: equal keys of all producers meet in one partition.
    ("partitioner", "murmur2_random"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// What a topic takes if the broker does not say: Kafka's own default.
const DEFAULT_MAX_BYTES: usize = 1_048_588;

/// librdkafka's bounds of `message.max.bytes`.
const MAX_BYTES_BOUNDS: (usize, usize) = (1_000, 1_000_000_000);

/// How much a producer holds that is not sent yet, unless one record is larger.
const QUEUE_KIBIBYTES: usize = 64 << 10;

impl StageOptions for KafkaSinkOptions {
    const NAME: &'static str = "kafka";
    const EXAMPLE: &'static str = "
anomalies:
  type: kafka
  inputs: [spikes]
  when: is_anomaly
  brokers: localhost:9092
  topic: iot-anomalies
";
}

impl SinkOptions for KafkaSinkOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        if self.topic.is_empty() {
            return Err(StageError::config("`topic` is empty, it must name a topic").at_option("topic"));
        }
        let key = match &self.key {
            Some(columns) => key_columns(columns.as_slice(), &context.schema)?,
            None => key_columns(&context.stage.key, &context.schema).unwrap_or_default(),
        };
        let connection = Connection::new(&self.brokers, self.client, OWNED)?;
        let (pipeline, sink) = (&context.stage.pipeline, &context.stage.id);
        let client_id = format!("pipeline-{pipeline}-{sink}");
        let defaults = [DEFAULTS, &[("client.id", client_id.as_str())]].concat();
        let producer = connection.config(&defaults, &[("compression.codec", self.compression.name())]);
        connection.check(&producer)?;
        let settings = ProducerSettings {
            producer,
            consumer: connection.config(&[], &[]),
            brokers: connection.brokers().to_owned(),
            topic: self.topic,
            prefix: self.transactional_id.unwrap_or(client_id),
        };
        Ok(BuiltSink::Epochs(Box::new(KafkaSink { settings, key, max_bytes: None, tasks: HashMap::new() })))
    }
}

/// Where the columns of the key stand.
fn key_columns(names: &[String], schema: &SchemaRef) -> Result<Vec<usize>> {
    let position = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            StageError::config(format!("no column `{name}` for `key`; there is {}", there.join(", "))).at_option("key")
        })
    };
    names.iter().map(position).collect()
}

struct KafkaSink {
    settings: ProducerSettings,
    /// The columns of the key.
    key: Vec<usize>,
    /// What the topic takes, once it was asked.
    max_bytes: Option<usize>,
    /// By the task's name. A producer is taken out while it works: if that is interrupted, the task is claimed again.
    tasks: HashMap<String, TaskProducer>,
}

#[async_trait]
impl Sink for KafkaSink {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn check(&mut self) -> Vec<StageError> {
        let settings = self.settings.clone();
        let look = move || match consumer(&settings) {
            Ok(consumer) => problems(&consumer, &[settings.topic.as_str().into()], CHECK_TIMEOUT),
            Err(error) => vec![error],
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| vec![thread_died(error)])
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        self.look_at_topic().await?;
        let old = self.tasks.remove(&owner.task);
        let (settings, owner) = (self.settings.clone(), owner.clone());
        let claiming = move || {
            drop(old);
            let claimed = TaskProducer::claim(&settings, &owner);
            claimed.map(|(claim, producer)| (claim, producer, owner.task))
        };
        let (claim, producer, task) = tokio::task::spawn_blocking(claiming).await.map_err(thread_died)??;
        if let Some(producer) = producer {
            self.tasks.insert(task, producer);
        }
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let works = self.works(epochs)?;
        let max_bytes = self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let too_large: Vec<_> = works.iter().flat_map(|work| work.records.too_large(max_bytes)).collect();
        if !too_large.is_empty() {
            return Ok(Commit::Refused(too_large));
        }
        let mut running = Vec::new();
        for Work { records, mark } in works {
            let mut producer = self.tasks.remove(&mark.task).ok_or_else(|| not_claimed(&mark.task))?;
            running.push(tokio::task::spawn_blocking(move || {
                let written = producer.commit(&records, &mark)?;
                Ok::<_, StageError>((mark.task, producer, written))
            }));
        }
        let (mut all_refused, mut failure) = (Vec::new(), None);
        for work in running {
            match work.await.map_err(thread_died).flatten() {
                Ok((task, producer, written)) => {
                    self.tasks.insert(task, producer);
                    if let Written::Refused(refused) = written {
                        all_refused.extend(refused);
                    }
                }
                // The first one is reported; each failed task has to be claimed again.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if all_refused.is_empty() => Ok(Commit::Done(Vec::new())),
            None => Ok(Commit::Refused(all_refused)),
        }
    }
}

/// What one task has to write.
struct Work {
    records: Records,
    /// Of the last epoch.
    mark: Mark,
}

impl KafkaSink {
    /// The epochs by task, without those that were written by a commit of which other tasks failed.
    fn works(&self, epochs: &[EpochRows]) -> Result<Vec<Work>> {
        let mut works: Vec<Work> = Vec::new();
        for (epoch_idx, epoch) in epochs.iter().enumerate() {
            let mark = &epoch.mark;
            let producer = self.tasks.get(&mark.task).ok_or_else(|| not_claimed(&mark.task))?;
            if !producer.expects(mark)? {
                continue;
            }
            let work = match works.iter_mut().find(|work| work.mark.task == mark.task) {
                Some(work) => work,
                None => {
                    works.push(Work { records: Records::default(), mark: mark.clone() });
                    works.last_mut().expect("just pushed")
                }
            };
            work.records.append(epoch_idx, epoch, &self.key);
            work.mark = mark.clone();
        }
        Ok(works)
    }

    /// Makes sure, once, that the topic is there, and sets the producers up for the records that it takes.
    async fn look_at_topic(&mut self) -> Result<()> {
        if self.max_bytes.is_some() {
            return Ok(());
        }
        let settings = self.settings.clone();
        let look = move || partition_count(&consumer(&settings)?, &settings.topic, CALL_TIMEOUT);
        tokio::task::spawn_blocking(look).await.map_err(thread_died)??;

        let (low, high) = MAX_BYTES_BOUNDS;
        let max_bytes = max_message_bytes(&self.settings).await?.unwrap_or(DEFAULT_MAX_BYTES).clamp(low, high);
        let kibibytes = QUEUE_KIBIBYTES.max(max_bytes >> 9);
        self.settings.producer.set("message.max.bytes", max_bytes.to_string());
        self.settings.producer.set("queue.buffering.max.kbytes", kibibytes.to_string());
        self.max_bytes = Some(max_bytes);
        Ok(())
    }
}

/// A consumer that only asks.
fn consumer(settings: &ProducerSettings) -> Result<KafkaConsumer> {
    let notes = ConsumerNotes::new(&settings.brokers, "");
    settings.consumer.create_with_context(notes).map_err(|error| setting_error(&error))
}

/// The topic's `max.message.bytes`; none when this user may not ask.
async fn max_message_bytes(settings: &ProducerSettings) -> Result<Option<usize>> {
    let admin: AdminClient<DefaultClientContext> = settings.consumer.create().map_err(|error| setting_error(&error))?;
    let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(&settings.topic)], &options).await;
    let answer = answers.map(|answers| answers.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::NoEnt)));
    match answer.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)).flatten() {
        Ok(topic) => {
            let value = topic.get("max.message.bytes").and_then(|entry| entry.value.as_deref());
            Ok(value.and_then(|bytes| bytes.parse().ok()))
        }
        Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => Ok(None),
        Err(code) => {
            let words = format!("the settings of topic `{}` cannot be read: {}", settings.topic, words(code));
            Err(StageError::transient(words))
        }
    }
}

/// The task's producer is gone with an error, or a commit was interrupted: its state must be looked up again.
fn not_claimed(task: &str) -> StageError {
    StageError::transient(format!("task `{task}` must be claimed again"))
}
