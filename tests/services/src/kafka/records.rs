//! Records that tests write and read.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWERS_WITHIN, MAX_RECORD_BYTES};

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    partition: Option<i32>,
    timestamp_millis: Option<i64>,
}

impl Record {
    /// A record without a key, in any partition.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Record { key: None, payload: Some(payload.into()), partition: None, timestamp_millis: None }
    }

    /// A record without a payload, which deletes `key` when the topic is compacted.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Record { key: Some(key.into()), payload: None, partition: None, timestamp_millis: None }
    }

    /// Sets the key; without [`partition`](Self::partition), equal keys go to the same partition.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the partition, counted from 0.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time of the record, in milliseconds since 1970, UTC; else it is now.
    pub fn timestamp_millis(mut self, timestamp: i64) -> Self {
        self.timestamp_millis = Some(timestamp);
        self
    }
}

/// A record as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition, counted from 0.
    pub partition: i32,
    /// The place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, UTC.
    pub timestamp_millis: Option<i64>,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Collects what the broker says about each record.
#[derive(Clone, Default)]
struct Deliveries {
    first_error: Arc<Mutex<Option<KafkaError>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.first_error.lock().expect("nobody panics with this lock").get_or_insert(error.clone());
        }
    }
}

/// Blocks until the broker has confirmed all records.
pub(super) fn produce(mut client: ClientConfig, topic: &str, records: Vec<Record>) {
    let deliveries = Deliveries::default();
    client.set("message.max.bytes", MAX_RECORD_BYTES.to_string());
    let producer: ThreadedProducer<Deliveries> =
        client.create_with_context(deliveries.clone()).expect("the settings are valid");
    for record in &records {
        send(&producer, topic, record);
    }
    producer.flush(ANSWERS_WITHIN).unwrap_or_else(|error| panic!("records for `{topic}` are not confirmed: {error}"));
    let failed = deliveries.first_error.lock().expect("nobody panics with this lock").take();
    if let Some(error) = failed {
        panic!("the broker refused a record for `{topic}`: {error}");
    }
}

fn send(producer: &ThreadedProducer<Deliveries>, topic: &str, record: &Record) {
    let mut base = BaseRecord::<[u8], [u8]>::to(topic);
    base.key = record.key.as_deref();
    base.payload = record.payload.as_deref();
    base.partition = record.partition;
    base.timestamp = record.timestamp_millis;
    loop {
        match producer.send(base) {
            Ok(()) => return,
            // The local queue is full: it empties as fast as the broker takes records.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                std::thread::sleep(Duration::from_millis(1));
                base = refused;
            }
            Err((error, _)) => panic!("cannot write to `{topic}`: {error}"),
        }
    }
}

/// Reads every partition from its beginning to its present end, transactions that were aborted left out.
pub(super) fn read_all(mut client: ClientConfig, topic: &str) -> Vec<StoredRecord> {
    client.set("group.id", "pipeline-services-reader").set("enable.auto.commit", "false");
    client.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    // The end of a partition is news as well; by default the broker waits half a second for more records.
    client.set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = client.create().expect("the settings are valid");
    let mut unfinished = assign_from_the_beginning(&consumer, topic);
    let mut records = Vec::new();
    while !unfinished.is_empty() {
        match consumer.poll(ANSWERS_WITHIN) {
            Some(Ok(message)) => records.push(StoredRecord {
                partition: message.partition(),
                offset: message.offset(),
                timestamp_millis: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            // librdkafka connects again by itself.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            ))) => {}
            Some(Err(error)) => panic!("cannot read `{topic}`: {error}"),
            None => panic!("`{topic}`: partitions {unfinished:?} do not answer for {ANSWERS_WITHIN:?}"),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn assign_from_the_beginning(consumer: &BaseConsumer, topic: &str) -> HashSet<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWERS_WITHIN);
    let metadata = metadata.unwrap_or_else(|error| panic!("cannot describe topic `{topic}`: {error}"));
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let partitions: HashSet<i32> = partitions.map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "there is no topic `{topic}`");
    let mut assignment = TopicPartitionList::new();
    for &partition in &partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid position");
    }
    consumer.assign(&assignment).expect("a consumer can be assigned what exists");
    partitions
}
