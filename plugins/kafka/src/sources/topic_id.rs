//! The ids of topics, which the rdkafka crate does not ask for: a topic that was deleted and made anew has the same name
//! and another id.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use crate::consumer::KafkaConsumer;

/// What a broker says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicFound {
    /// It is there and has this id, in the form of Kafka's own tools.
    Id(String),
    /// It is there; an old broker gives no ids.
    WithoutId,
    /// There is no such topic.
    Gone,
}

/// Asks for a topic's id. Blocks for at most `timeout`; none when there is no answer, or it may not be asked for.
pub(crate) fn topic_id(consumer: &KafkaConsumer, topic: &str, timeout: Duration) -> Option<TopicFound> {
    let topic = CString::new(topic).ok()?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: `client` lives, as `consumer` does; what is made is destroyed before it, at the end of this function.
    let queue = unsafe { rd::rd_kafka_queue_new(client) };
    let queue = Owned::new(queue, rd::rd_kafka_queue_destroy)?;
    let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: `client` lives, and `kind` is one of librdkafka's.
    let options = unsafe { rd::rd_kafka_AdminOptions_new(client, kind) };
    let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy)?;
    // SAFETY: the options live, and a message of length 0 is not written.
    unsafe { rd::rd_kafka_AdminOptions_set_request_timeout(options.pointer(), millis, ptr::null_mut(), 0) };
    let mut names = [topic.as_ptr()];
    // SAFETY: `names` has one name, which ends with NUL; librdkafka copies it.
    let topics = unsafe { rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let topics = Owned::new(topics, rd::rd_kafka_TopicCollection_destroy)?;
    // SAFETY: all four live; librdkafka copies what it keeps, but for the queue, of which it holds a reference.
    unsafe { rd::rd_kafka_DescribeTopics(client, topics.pointer(), options.pointer(), queue.pointer()) };
    // SAFETY: the queue lives, and no other thread reads it.
    let event = unsafe { rd::rd_kafka_queue_poll(queue.pointer(), millis) };
    read(&Owned::new(event, rd::rd_kafka_event_destroy)?)
}

/// Reads the answer about one topic.
fn read(event: &Owned<rd::rd_kafka_event_t>) -> Option<TopicFound> {
    // SAFETY: the event lives; the call gives null for an event of another kind.
    let result = unsafe { rd::rd_kafka_event_DescribeTopics_result(event.pointer()) };
    let result = NonNull::new(result.cast_mut())?;
    let mut count = 0;
    // SAFETY: the result belongs to the event, which lives, and `count` is a living variable.
    let descriptions = unsafe { rd::rd_kafka_DescribeTopics_result_topics(result.as_ptr(), &mut count) };
    if descriptions.is_null() || count == 0 {
        return None;
    }
    // SAFETY: there are `count` descriptions, at least one, which belong to the event.
    let description = unsafe { *descriptions };
    // SAFETY: the description belongs to the event; the error belongs to the description and may be null.
    let error = unsafe { rd::rd_kafka_TopicDescription_error(description) };
    // SAFETY: librdkafka takes null for "no error".
    match RDKafkaErrorCode::from(unsafe { rd::rd_kafka_error_code(error) }) {
        RDKafkaErrorCode::NoError => {}
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => return Some(TopicFound::Gone),
        _ => return None,
    }
    // SAFETY: as for the error.
    let id = unsafe { rd::rd_kafka_TopicDescription_topic_id(description) };
    let id = NonNull::new(id.cast_mut())?;
    // SAFETY: the id belongs to the description; its text belongs to the id and ends with NUL.
    let text = unsafe { rd::rd_kafka_Uuid_base64str(id.as_ptr()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and it ends with NUL.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().replace('+', "-").replace('/', "_");
    Some(if text == NO_ID { TopicFound::WithoutId } else { TopicFound::Id(text) })
}

/// Sixteen bytes of zero.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Something of librdkafka that is to be destroyed.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// None for null.
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        Some(Owned { pointer: NonNull::new(pointer)?, destroy })
    }

    fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the function that made it says that this one destroys it; that is done once, here.
        unsafe { (self.destroy)(self.pointer.as_ptr()) };
    }
}
