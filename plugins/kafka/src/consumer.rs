//! The consumer's callbacks: they only take notes. The driver acts on them, outside of librdkafka's calls.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pipeline_stage::Partition;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, warn};

use crate::health::{Health, words};

/// A consumer with these callbacks.
pub(crate) type KafkaConsumer = BaseConsumer<ConsumerNotes>;

/// Lets librdkafka call back until nothing is left. Rows do not come this way, but from each partition's own queue.
pub(crate) fn serve_callbacks(consumer: &KafkaConsumer) {
    loop {
        let served_before = consumer.context().served();
        match consumer.poll(Duration::ZERO) {
            Some(Ok(_)) => tracing::error!("librdkafka gave a row where none can be; it is not processed"),
            // The callback for errors has it already.
            Some(Err(_)) => {}
            None if consumer.context().served() == served_before => return,
            None => {}
        }
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl Place {
    /// As the engine knows it: `iot-data-stream/3`.
    pub(crate) fn partition(&self) -> Partition {
        Partition { name: format!("{}/{}", self.topic, self.partition).into(), number: self.partition.unsigned_abs() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of `{}`", self.partition, self.topic)
    }
}

/// librdkafka's form of some places.
pub(crate) fn list_of<'a>(places: impl IntoIterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

/// librdkafka's form of one place and an offset in it.
pub(crate) fn list_at(place: &Place, offset: u64) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&place.topic, place.partition, Offset::Offset(offset.try_into().unwrap_or(i64::MAX)))?;
    Ok(list)
}

/// What the group's coordinator wants. Reading of all partitions pauses until it is answered.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(Vec<Place>),
    Revoke(Vec<Place>),
}

/// What the callbacks have noted.
pub(crate) struct ConsumerNotes {
    pub(crate) health: Health,
    group: String,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Counts callbacks: `poll` does not say whether it has served one.
    served: AtomicU64,
    is_closing: AtomicBool,
    commits_fail: AtomicBool,
}

impl ConsumerNotes {
    pub(crate) fn new(brokers: &str, group: &str) -> Self {
        ConsumerNotes {
            health: Health::new(brokers),
            group: group.to_owned(),
            rebalances: Mutex::default(),
            served: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            commits_fail: AtomicBool::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Rebalance>> {
        self.rebalances.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The oldest rebalance that is not answered yet.
    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        self.queue().pop_front()
    }

    /// How many callbacks there were.
    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// From now on everything is given back at once: nobody is there to be asked.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    fn count(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for ConsumerNotes {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.count();
        debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count();
        self.health.report(&error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {
        self.count();
    }
}

impl ConsumerContext for ConsumerNotes {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.count();
        if self.is_closing.load(Ordering::Acquire) {
            // An error means that they are gone already.
            let _ = consumer.incremental_unassign(partitions);
            return;
        }
        let place = |topic: &str, partition| Place { topic: topic.into(), partition };
        let places = partitions.elements().iter().map(|element| place(element.topic(), element.partition())).collect();
        self.queue().push_back(match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(places),
            _ => Rebalance::Revoke(places),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.count();
        let Err(error) = result else {
            self.commits_fail.store(false, Ordering::Relaxed);
            return;
        };
        match error.rdkafka_error_code() {
            // The group is just changing; the next commit, or the next owner's, says the same or more.
            Some(
                RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::NoOffset
                | RDKafkaErrorCode::AssignmentLost,
            ) => debug!(group = %self.group, %error, "offsets were not committed"),
            Some(code) if !self.commits_fail.swap(true, Ordering::Relaxed) => {
                let reason = words(code);
                warn!(group = %self.group, reason, "offsets cannot be committed; the checkpoints hold them, the group's lag looks too large");
            }
            _ => {}
        }
    }
}
