//! A partition that this process holds: its messages, where reading stands, and the reader they go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pipeline_stage::{Position, Result, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::{mpsc, oneshot};

use crate::consumer::{ConsumerNotes, KafkaConsumer, Place, list_at};
use crate::health::grouped;
use crate::sources::batch_call::{PartitionMessages, Room};
use crate::sources::missing::{Bounds, CHOICES, missing};
use crate::sources::reader::{Feed, Waker};
use crate::sources::rows::{Failure, UsualBytes, take};

/// How long a seek may fail: librdkafka refuses it while it starts or stops a partition, which takes milliseconds.
const SEEK_DEADLINE: Duration = Duration::from_secs(10);

/// How long one try of a seek waits for librdkafka's main thread; no broker is asked.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the driver asks for the bounds of a log, to name them in an error that ends reading anyway.
const BOUNDS_TIMEOUT: Duration = Duration::from_secs(2);

/// The wish to read a partition from an offset on.
pub(crate) struct Opening {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) topic_id: Option<Arc<str>>,
    pub(crate) feeds: mpsc::Sender<Feed>,
    pub(crate) high_watermark: Arc<AtomicU64>,
    /// Told when reading has begun.
    pub(crate) opened: oneshot::Sender<Result<()>>,
}

/// A partition that this process holds. It is read only once it is opened.
pub(crate) struct Held {
    place: Place,
    messages: PartitionMessages,
    usual: UsualBytes,
    /// Keeps the callback alive that wakes the driver.
    _wakes_driver: PartitionQueue<ConsumerNotes>,
    /// librdkafka knows of it: it was opened before.
    is_assigned: bool,
    /// Its task has stopped, and did not open it again.
    is_released: bool,
    reading: Option<Reading>,
}

struct Reading {
    feeds: mpsc::Sender<Feed>,
    /// The offset to go on with.
    next: u64,
    /// librdkafka must be told to go on there before anything more is taken.
    seek: Option<Seek>,
    high_watermark: Arc<AtomicU64>,
}

struct Seek {
    deadline: Instant,
    opened: Option<oneshot::Sender<Result<()>>>,
}

impl Held {
    /// Splits the partition's messages off the consumer's queue; to be called before it is assigned to the consumer.
    pub(crate) fn new(consumer: &Arc<KafkaConsumer>, place: &Place, waker: &Arc<Waker>) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(&place.topic, place.partition)?;
        let waker = Arc::clone(waker);
        queue.set_nonempty_callback(move || waker.wake());
        let messages = PartitionMessages::new(consumer, place)?;
        Some(Held {
            place: place.clone(),
            messages,
            usual: UsualBytes::default(),
            _wakes_driver: queue,
            is_assigned: false,
            is_released: false,
            reading: None,
        })
    }

    /// True when librdkafka knows of it.
    pub(crate) fn is_assigned(&self) -> bool {
        self.is_assigned
    }

    /// True when no task has it any more.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released
    }

    /// Begins to read, instead of whoever read before.
    ///
    /// librdkafka gets the partition with the offset to begin at. With a logical one (`end`), to be corrected by a
    /// seek, it would ask a broker for the offset, and apply the answer even after the seek: rows would be skipped.
    pub(crate) fn open(&mut self, consumer: &KafkaConsumer, opening: Opening) {
        let Opening { place, offset, topic_id: _, feeds, high_watermark, opened } = opening;
        self.is_released = false;
        if self.is_assigned {
            let seek = Seek { deadline: Instant::now() + SEEK_DEADLINE, opened: Some(opened) };
            self.reading = Some(Reading { feeds, next: offset, seek: Some(seek), high_watermark });
            return;
        }
        let assigned = list_at(&place, offset).and_then(|list| consumer.incremental_assign(&list));
        let answer = match assigned {
            Ok(()) => {
                self.is_assigned = true;
                self.reading = Some(Reading { feeds, next: offset, seek: None, high_watermark });
                Ok(())
            }
            Err(error) => Err(StageError::transient(format!("{place} cannot be read: {error}"))),
        };
        // The caller may have given up meanwhile; its feeds are closed then.
        let _ = opened.send(answer);
    }

    /// Stops reading, because the task has stopped.
    pub(crate) fn release(&mut self) {
        self.is_released = true;
        self.reading = None;
    }

    /// Tells the reader why there is no more, and stops.
    pub(crate) fn fail(&mut self, failure: StageError) {
        let Some(reading) = self.reading.take() else { return };
        // Without room the reader finds the end of the feeds, which it reports as `TakenOver`.
        let _ = reading.feeds.try_send(Feed { batch: None, next: reading.next, failure: Some(failure) });
    }

    /// Makes sure that librdkafka goes on with the row it has to.
    ///
    /// For a rebalance librdkafka pauses all partitions, and goes on where it believes the application to be. After
    /// a batch call that is wrong: one too far at the end of a partition (it takes the end for a row), or too early
    /// when the call overlaps the pause.
    pub(crate) fn seek_again(&mut self) {
        if let Some(reading) = &mut self.reading
            && reading.seek.is_none()
        {
            reading.seek = Some(Seek { deadline: Instant::now() + SEEK_DEADLINE, opened: None });
        }
    }

    /// True when a seek is due.
    pub(crate) fn is_seeking(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.seek.is_some())
    }

    /// Tries the seek that is due.
    pub(crate) fn seek(&mut self, consumer: &KafkaConsumer) {
        let Some(reading) = &mut self.reading else { return };
        let Some(seek) = reading.seek.take() else { return };
        let to = Offset::Offset(i64::try_from(reading.next).unwrap_or(i64::MAX));
        match consumer.seek(&self.place.topic, self.place.partition, to, SEEK_TIMEOUT) {
            Ok(()) => {
                if let Some(opened) = seek.opened {
                    // The task may have been dropped meanwhile; its feeds are closed then.
                    let _ = opened.send(Ok(()));
                }
            }
            Err(_) if Instant::now() < seek.deadline => reading.seek = Some(seek),
            Err(error) => {
                let words = format!("{} cannot be positioned at offset {}: {error}", self.place, grouped(reading.next));
                match seek.opened {
                    Some(opened) => {
                        let _ = opened.send(Err(StageError::transient(words)));
                        self.reading = None;
                    }
                    None => self.fail(StageError::lost(words)),
                }
            }
        }
    }

    /// Hands what is there to the reader, if it has room. True when there was something.
    ///
    /// A reader without room makes librdkafka's queue of this partition fill up, and that stops its fetching.
    pub(crate) fn feed(&mut self, consumer: &KafkaConsumer, room: &mut Room) -> bool {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.seek.is_none()) else { return false };
        if let Some(high) = self.messages.high_watermark() {
            reading.high_watermark.store(high, Ordering::Relaxed);
        }
        if reading.feeds.is_closed() {
            self.reading = None;
            return false;
        }
        let Ok(permit) = reading.feeds.try_reserve() else { return false };
        let taken = take(&self.messages, room, reading.next, &self.place, &mut self.usual);
        let Some(taken) = taken else { return false };
        reading.next = taken.next;
        let has_failed = taken.failure.is_some();
        let failure = taken.failure.map(|failure| explain(consumer, &self.place, taken.next, &failure));
        permit.send(Feed { batch: taken.batch, next: taken.next, failure });
        if taken.is_cut {
            self.seek_again();
        }
        if has_failed {
            self.reading = None;
        }
        true
    }
}

/// An error that ended reading, in words.
fn explain(consumer: &KafkaConsumer, place: &Place, next: u64, failure: &Failure) -> StageError {
    let at = grouped(next);
    StageError::fatal(match failure.code {
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            let bounds = consumer.fetch_watermarks(&place.topic, place.partition, BOUNDS_TIMEOUT);
            let at_least_0 = |offset: i64| u64::try_from(offset).unwrap_or(0);
            let words = bounds.ok().and_then(|(low, high)| {
                let there = Bounds { low: at_least_0(low), high: at_least_0(high), topic_id: None };
                missing(place, &Position::at(next), there)
            });
            let words = words.unwrap_or_else(|| format!("{place} cannot be read at offset {at}: {}", failure.text));
            format!("{words}; {CHOICES}")
        }
        RDKafkaErrorCode::LogTruncation => format!(
            "{place} was truncated below offset {at}: rows that were read are gone from the brokers ({})",
            failure.text
        ),
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::UnknownTopicId => format!("{place} is no longer there, it was read up to offset {at}"),
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            format!("{place} may not be read by this user: it needs the right READ on the topic")
        }
        _ => format!("{place} cannot be read at offset {at}: {}", failure.text),
    })
}
