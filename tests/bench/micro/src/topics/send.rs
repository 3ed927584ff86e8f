//! Messages on their way into a topic.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::message::Message;
use crate::settings::Settings;

/// How long the broker may take for the last ones.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to wait when too many are on their way.
const PAUSE: Duration = Duration::from_millis(10);

/// At a rate, this many times a second.
const BURSTS_PER_SECOND: u64 = 10;

/// Sends to one topic.
pub struct Sender<'a> {
    producer: BaseProducer,
    topic: &'a str,
    began: Instant,
    rows_per_burst: Option<u64>,
}

impl<'a> Sender<'a> {
    /// Asks the broker for the topic, too, so that the clock of a rate begins with the first message.
    pub fn connect(brokers: &str, topic: &'a str, settings: &Settings) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        // Keeps the order when something is sent again.
        config.set("enable.idempotence", "true");
        config.set("linger.ms", "50").set("batch.size", "900000");
        config.set("batch.num.messages", settings.batch_rows.to_string());
        config.set("compression.type", &settings.compression);
        config.set("queue.buffering.max.messages", "1000000").set("delivery.report.only.error", "true");
        let producer: BaseProducer = config.create()?;
        producer.client().fetch_metadata(Some(topic), FLUSH_TIMEOUT)?;
        let rows_per_burst = settings.rows_per_second.map(|rate| (rate / BURSTS_PER_SECOND).max(1));
        Ok(Sender { producer, topic, began: Instant::now(), rows_per_burst })
    }

    /// Hands one over to librdkafka, when its time has come; waits for room when too many are on their way.
    pub fn send(&mut self, row: u64, message: Message<'_>) -> Result<(), KafkaError> {
        if let Some(n) = self.rows_per_burst.filter(|n| row.is_multiple_of(*n)) {
            let due = Duration::from_secs(1) * (row / n) as u32 / BURSTS_PER_SECOND as u32;
            sleep(due.saturating_sub(self.began.elapsed()));
        }
        loop {
            match self.producer.send(BaseRecord::to(self.topic).key(message.key).payload(message.payload)) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(PAUSE);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until the broker has them all.
    pub fn finish(self) -> Result<(), Box<dyn Error>> {
        self.producer.flush(FLUSH_TIMEOUT)?;
        match self.producer.in_flight_count() {
            0 => Ok(()),
            n => Err(format!("{n} messages were not delivered").into()),
        }
    }
}
