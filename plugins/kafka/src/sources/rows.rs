//! Messages into Arrow arrays.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, TimestampMicrosecondBuilder};
use pipeline_stage::{RawRows, SourceBatch, SourceRows, timestamp_type};
use rdkafka::error::RDKafkaErrorCode;

use crate::consumer::Place;
use crate::sources::batch_call::{Message, Messages};

/// The most bytes of payloads or keys in one batch: Arrow counts them in 31 bits.
const MAX_BYTES: usize = i32::MAX as usize;

/// What one batch call gave.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The rows; none when there were only ends and errors.
    pub(crate) batch: Option<SourceBatch>,
    /// The offset behind them, and behind all that is no row: markers of transactions, ends of the log.
    pub(crate) next: u64,
    /// An error that came after them.
    pub(crate) failure: Option<Failure>,
    /// Some messages were left out for want of room: they must be read again, from `next`.
    pub(crate) is_cut: bool,
}

/// An error that stops reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    /// librdkafka's words.
    pub(crate) text: String,
}

/// Copies the messages from offset `next` on. After a rebalance librdkafka may hand over a message a second time;
/// those below `next` are left out.
pub(crate) fn take(messages: &Messages<'_>, next: u64, place: &Place) -> Taken {
    let mut taken = Taken { batch: None, next, failure: None, is_cut: false };
    let mut rows = Builder::new(messages);
    for message in messages.iter() {
        let offset = u64::try_from(message.offset()).ok();
        match (message.error(), offset) {
            (None, Some(offset)) if taken.next <= offset => {
                if !rows.has_room_for(&message) {
                    taken.is_cut = true;
                    break;
                }
                rows.push(&message, offset);
                taken.next = offset + 1;
            }
            (None, _) => {}
            (Some(RDKafkaErrorCode::PartitionEOF), Some(end)) => taken.next = taken.next.max(end),
            (Some(code), _) if stops_reading(code) => {
                let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                taken.failure = Some(Failure { code, text });
                break;
            }
            (Some(code), _) => tracing::debug!(%place, ?code, "librdkafka goes on after an error"),
        }
    }
    taken.batch = rows.finish(place);
    taken
}

/// Errors after which librdkafka does not go on, or goes on behind what it could not read.
fn stops_reading(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::LogTruncation
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicId
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::Fatal
    )
}

/// Arrays in the making, with room for all messages: nothing is allocated for a single one.
struct Builder {
    payloads: BinaryBuilder,
    keys: BinaryBuilder,
    times: TimestampMicrosecondBuilder,
    offsets: Vec<u64>,
    n_payload_bytes: usize,
    n_key_bytes: usize,
}

impl Builder {
    fn new(messages: &Messages<'_>) -> Self {
        let (mut n_payload_bytes, mut n_key_bytes) = (0usize, 0usize);
        for message in messages.iter() {
            n_payload_bytes += message.payload().map_or(0, <[u8]>::len);
            n_key_bytes += message.key().map_or(0, <[u8]>::len);
        }
        Builder {
            payloads: BinaryBuilder::with_capacity(messages.len(), n_payload_bytes.min(MAX_BYTES)),
            keys: BinaryBuilder::with_capacity(messages.len(), n_key_bytes.min(MAX_BYTES)),
            times: TimestampMicrosecondBuilder::with_capacity(messages.len()).with_data_type(timestamp_type()),
            offsets: Vec::with_capacity(messages.len()),
            n_payload_bytes: 0,
            n_key_bytes: 0,
        }
    }

    fn has_room_for(&self, message: &Message<'_>) -> bool {
        self.n_payload_bytes + message.payload().map_or(0, <[u8]>::len) <= MAX_BYTES
            && self.n_key_bytes + message.key().map_or(0, <[u8]>::len) <= MAX_BYTES
    }

    fn push(&mut self, message: &Message<'_>, offset: u64) {
        let (payload, key) = (message.payload(), message.key());
        self.n_payload_bytes += payload.map_or(0, <[u8]>::len);
        self.n_key_bytes += key.map_or(0, <[u8]>::len);
        self.payloads.append_option(payload);
        self.keys.append_option(key);
        // Producers may write any number; what no microsecond counter holds becomes the largest.
        self.times.append_option(message.millis().map(|millis| millis.saturating_mul(1_000)));
        self.offsets.push(offset);
    }

    fn finish(mut self, place: &Place) -> Option<SourceBatch> {
        if self.offsets.is_empty() {
            return None;
        }
        let rows = SourceRows::Raw(RawRows {
            payloads: self.payloads.finish(),
            keys: Some(self.keys.finish()),
            times: Some(self.times.finish()),
            header: None,
            topic: Arc::clone(&place.topic),
            partition: place.partition.unsigned_abs(),
        });
        Some(SourceBatch { rows, offsets: self.offsets })
    }
}
