//! What the tests of source and sink share.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;

use pipeline_kafka::KafkaSourceOptions;
use pipeline_services::Kafka;
use pipeline_stage::{
    Assignment, ErrorKind, NoConsole, Partition, Position, Reader, Result, Role, Source, SourceContext, SourceOptions,
    SourceRows, StageContext, parse,
};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

/// A context as the engine gives it.
pub fn stage_context() -> StageContext {
    StageContext {
        pipeline: "iot".into(),
        id: "readings".into(),
        directory: PathBuf::from("."),
        key: vec!["sensor_id".into()],
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    }
}

/// How a source is made in a test.
pub struct Setup {
    pub options: Value,
    pub stage: StageContext,
    pub role: Role,
}

impl Setup {
    /// A source of one topic; its group has the topic's name.
    pub fn of(kafka: &Kafka, topic: &str) -> Self {
        Setup {
            options: json!({ "brokers": kafka.brokers(), "topic": topic, "group": topic }),
            stage: stage_context(),
            role: Role::Leader,
        }
    }

    pub fn with(mut self, option: &str, value: Value) -> Self {
        self.options[option] = value;
        self
    }

    pub fn once(mut self) -> Self {
        self.stage.once = true;
        self
    }

    pub fn cold(mut self) -> Self {
        self.stage.cold_start = true;
        self
    }

    pub fn follower(mut self) -> Self {
        self.role = Role::Follower;
        self
    }

    pub fn try_build(self) -> Result<Box<dyn Source>> {
        let context = SourceContext { stage: self.stage, framing: None, role: self.role };
        parse::<KafkaSourceOptions>(self.options)?.build(context)
    }

    pub fn build(self) -> Box<dyn Source> {
        self.try_build().expect("good options")
    }
}

/// Waits for partitions; fails on any other change.
pub async fn gained(source: &mut Box<dyn Source>) -> Vec<Partition> {
    match source.assignment().await.expect("an assignment") {
        Assignment::Gained(mut partitions) => {
            partitions.sort();
            partitions
        }
        other => panic!("expected partitions, got {other:?}"),
    }
}

/// Opens a partition; what may work later is tried again, as the engine does.
pub async fn open(source: &mut Box<dyn Source>, partition: &Partition, from: Option<u64>) -> Result<Box<dyn Reader>> {
    let from = from.map(Position::at);
    for _ in 0..10 {
        match source.open(partition, from.as_ref()).await {
            Err(error) if error.kind() == ErrorKind::Transient => {}
            opened => return opened,
        }
    }
    source.open(partition, from.as_ref()).await
}

/// Opens the only partition of a topic.
pub async fn open_first(source: &mut Box<dyn Source>, from: Option<u64>) -> Box<dyn Reader> {
    let partitions = gained(source).await;
    assert_eq!(partitions.len(), 1);
    open(source, &partitions[0], from).await.expect("opened")
}

/// A row as a test compares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub offset: u64,
    pub payload: Option<String>,
}

pub fn row(offset: u64, payload: &str) -> Row {
    Row { offset, payload: Some(payload.into()) }
}

/// Reads to `until` or, without one, to the end of a run with `--once`.
pub async fn read(reader: &mut Box<dyn Reader>, until: Option<u64>) -> Result<Vec<Row>> {
    let until = until.map(Position::at);
    let mut rows = Vec::new();
    while let Some(batch) = reader.next(until.as_ref()).await? {
        let SourceRows::Raw(raw) = &batch.rows else { panic!("raw rows") };
        for (idx, offset) in batch.offsets.iter().enumerate() {
            let payload = raw.payloads.iter().nth(idx).expect("a payload for each offset");
            let payload = payload.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            rows.push(Row { offset: *offset, payload });
        }
    }
    Ok(rows)
}

/// A producer of transactions.
pub fn transactional(kafka: &Kafka, id: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("transactional.id", id);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(TIMEOUT).expect("transactions");
    producer
}

pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Writes payloads to partition 0 in one transaction, which is committed or aborted.
pub fn transaction(producer: &BaseProducer, topic: &str, payloads: &[&str], is_committed: bool) {
    producer.begin_transaction().expect("begun");
    for payload in payloads {
        producer
            .send(BaseRecord::<(), str>::to(topic).partition(0).payload(*payload))
            .map_err(|(e, _)| e)
            .expect("sent");
    }
    producer.flush(TIMEOUT).expect("flushed");
    match is_committed {
        true => producer.commit_transaction(TIMEOUT).expect("committed"),
        false => producer.abort_transaction(TIMEOUT).expect("aborted"),
    }
}

/// A client that changes topics.
pub fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    config.create().expect("a client")
}
