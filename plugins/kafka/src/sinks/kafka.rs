//! The options of the sink `kafka`: what users write, what librdkafka is told.

use arrow::datatypes::SchemaRef;
use pipeline_stage::{BuiltSink, OneOrMany, Result, SinkContext, SinkOptions, StageError, StageOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::{ClientSettings, Connection, Owned};
use crate::sinks::producer::ProducerSettings;
use crate::sinks::sink::KafkaSink;

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
        Ok(BuiltSink::Epochs(Box::new(KafkaSink::new(settings, key))))
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
