//! librdkafka's batch call, which the rdkafka crate does not wrap: many messages of one partition for one call.
//!
//! It hands over millions of small messages a second, twice as many as message by message. One of two files of this
//! crate with `unsafe`, as `topic_id.rs`; what it gives out is safe to use.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use crate::consumer::{KafkaConsumer, Place};

/// The queue of one partition's messages. Not `Send`: librdkafka wants all batch calls of a consumer on one thread.
pub(crate) struct PartitionMessages {
    queue: NonNull<rd::rd_kafka_queue_t>,
    topic: CString,
    partition: i32,
    /// Dropped after the queue: a queue must not outlive its client.
    consumer: Arc<KafkaConsumer>,
}

/// How many messages a call gives at most. librdkafka passes over them twice and we once more: with some hundred, what it
/// has of each (about 400 bytes) is still near the processor then.
pub(crate) const MESSAGES_OF_A_CALL: usize = 512;

/// Room for the messages of one call, used again and again.
pub(crate) struct Room(Vec<*mut rd::rd_kafka_message_t>);

impl Room {
    /// Room for one call.
    pub(crate) fn new() -> Self {
        Room(vec![ptr::null_mut(); MESSAGES_OF_A_CALL])
    }
}

impl PartitionMessages {
    /// The queue of a partition, which must have been split off the consumer's. None when librdkafka has none.
    pub(crate) fn new(consumer: &Arc<KafkaConsumer>, place: &Place) -> Option<Self> {
        let topic = CString::new(place.topic.as_bytes()).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: `client` lives, as `consumer` does, and `topic` ends with NUL; both are only read in the call.
        let queue = unsafe { rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), place.partition) };
        let queue = NonNull::new(queue)?;
        Some(PartitionMessages { queue, topic, partition: place.partition, consumer: Arc::clone(consumer) })
    }

    /// Takes what is there, as much as there is room for; does not wait.
    pub(crate) fn read<'r>(&'r self, room: &'r mut Room) -> Messages<'r> {
        let (messages, size) = (room.0.as_mut_ptr(), room.0.len());
        // SAFETY: `self.queue` is valid until it is dropped, and `messages` has room for `size` pointers.
        let n = unsafe { rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages, size) };
        let n = usize::try_from(n).unwrap_or(0).min(size);
        Messages { rest: &room.0[..n], queue: PhantomData }
    }

    /// The first offset that is not written yet, as of the latest answer of the broker.
    pub(crate) fn high_watermark(&self) -> Option<u64> {
        let client = self.consumer.client().native_ptr();
        let (mut low, mut high) = (0i64, 0i64);
        // SAFETY: the client lives, `topic` ends with NUL, and both results point to living integers.
        let code = unsafe {
            rd::rd_kafka_get_watermark_offsets(client, self.topic.as_ptr(), self.partition, &mut low, &mut high)
        };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // Negative: not known yet.
        u64::try_from(high).ok()
    }
}

impl Drop for PartitionMessages {
    fn drop(&mut self) {
        // SAFETY: the reference that `rd_kafka_queue_get_partition` gave is returned once, here, and its client lives.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// The messages of one call, in the order of their offsets. Those that are left are given back to librdkafka when it is
/// dropped.
pub(crate) struct Messages<'r> {
    rest: &'r [*mut rd::rd_kafka_message_t],
    queue: PhantomData<&'r PartitionMessages>,
}

impl<'r> Iterator for Messages<'r> {
    type Item = Message<'r>;

    fn next(&mut self) -> Option<Message<'r>> {
        let (pointer, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(Message { pointer: *pointer, queue: PhantomData })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len(), Some(self.rest.len()))
    }
}

impl ExactSizeIterator for Messages<'_> {}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// A message, or an error in its place; given back to librdkafka when dropped, while it is still near the processor.
pub(crate) struct Message<'r> {
    pointer: *mut rd::rd_kafka_message_t,
    /// It must not outlive its client.
    queue: PhantomData<&'r PartitionMessages>,
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: the batch call made this message ours; it is destroyed once, and no borrow of it is left.
        unsafe { rd::rd_kafka_message_destroy(self.pointer) };
    }
}

impl Message<'_> {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the batch call gave a valid message, which lives until this is dropped; nobody changes it.
        unsafe { &*self.pointer }
    }

    /// What there is instead of a message; then the payload is its text.
    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        match self.raw().err {
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            code => Some(code.into()),
        }
    }

    /// Its offset; of an error the offset it is about, negative when it is about none.
    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Its bytes; none for a tombstone.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        let raw = self.raw();
        let start = NonNull::new(raw.payload)?.cast::<u8>();
        // SAFETY: librdkafka says that `len` bytes from `payload` on belong to the message, which `self` owns.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), raw.len) })
    }

    /// Its key; none when it has none.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        let start = NonNull::new(raw.key)?.cast::<u8>();
        // SAFETY: librdkafka says that `key_len` bytes from `key` on belong to the message, which `self` owns.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), raw.key_len) })
    }

    /// When it was written, in milliseconds since 1970; none when nobody said so.
    pub(crate) fn millis(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, as for `raw`, and `kind` is a living variable.
        let millis = unsafe { rd::rd_kafka_message_timestamp(self.pointer, &mut kind) };
        match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => None,
            _ => Some(millis),
        }
    }
}
