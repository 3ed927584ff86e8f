//! Messages into Arrow arrays.

use std::sync::Arc;

use arrow::array::{BinaryArray, TimestampMicrosecondBuilder};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use pipeline_stage::{MAX_BATCH_ROWS, RawRows, SourceBatch, SourceRows, timestamp_type};
use rdkafka::error::RDKafkaErrorCode;

use crate::consumer::Place;
use crate::sources::batch_call::{MESSAGES_OF_A_CALL, Message, Messages, PartitionMessages, Room};

/// The most bytes of payloads or keys in one batch: Arrow counts them in 31 bits.
const MAX_BYTES: usize = i32::MAX as usize;

/// No more bytes of payloads or keys than this are made room for before they are there.
const MOST_GUESSED: usize = 4 << 20;

/// What a message takes on average, in bytes, of those that came last. It says what to make room for: looking at all messages
/// beforehand would bring each near the processor twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UsualBytes {
    payload: usize,
    key: usize,
}

/// What batch calls gave.
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

/// Copies messages from offset `next` on, at most [`MAX_BATCH_ROWS`], as long as there are some. After a rebalance
/// librdkafka may hand over a message a second time; those below `next` are left out.
///
/// `usual` is corrected by those that are here. None when there is nothing at all.
pub(crate) fn take(
    messages: &PartitionMessages,
    room: &mut Room,
    next: u64,
    place: &Place,
    usual: &mut UsualBytes,
) -> Option<Taken> {
    let first = messages.read(room);
    if first.len() == 0 {
        return None;
    }
    let mut taken = Taken { batch: None, next, failure: None, is_cut: false };
    // Less than there was room for: there is hardly more.
    let mut is_last = first.len() < MESSAGES_OF_A_CALL;
    let mut rows = Builder::new(if is_last { first.len() } else { MAX_BATCH_ROWS }, *usual);
    taken.add(first, &mut rows, place);
    while !is_last && !taken.is_over() && rows.offsets.len() + MESSAGES_OF_A_CALL <= MAX_BATCH_ROWS {
        let more = messages.read(room);
        is_last = more.len() < MESSAGES_OF_A_CALL;
        taken.add(more, &mut rows, place);
    }
    if !rows.offsets.is_empty() {
        usual.payload = rows.payloads.average();
        usual.key = rows.keys.as_ref().map_or(0, Bytes::average);
    }
    taken.batch = rows.finish(place);
    Some(taken)
}

impl Taken {
    /// Nothing may be added any more.
    fn is_over(&self) -> bool {
        self.is_cut || self.failure.is_some()
    }

    fn add(&mut self, messages: Messages<'_>, rows: &mut Builder, place: &Place) {
        for message in messages {
            let offset = u64::try_from(message.offset()).ok();
            match (message.error(), offset) {
                (None, Some(offset)) if self.next <= offset => {
                    if !rows.push(&message, offset) {
                        self.is_cut = true;
                        break;
                    }
                    self.next = offset + 1;
                }
                (None, _) => {}
                (Some(RDKafkaErrorCode::PartitionEOF), Some(end)) => self.next = self.next.max(end),
                (Some(code), _) if stops_reading(code) => {
                    let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                    self.failure = Some(Failure { code, text });
                    break;
                }
                (Some(code), _) => tracing::debug!(%place, ?code, "librdkafka goes on after an error"),
            }
        }
    }
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

/// Arrays in the making: nothing is allocated for a single message.
struct Builder {
    payloads: Bytes,
    /// None as long as no message has a key.
    keys: Option<Bytes>,
    times: TimestampMicrosecondBuilder,
    offsets: Vec<u64>,
    usual: UsualBytes,
}

impl Builder {
    fn new(n_messages: usize, usual: UsualBytes) -> Self {
        Builder {
            payloads: Bytes::new(n_messages, usual.payload),
            keys: None,
            times: TimestampMicrosecondBuilder::with_capacity(n_messages).with_data_type(timestamp_type()),
            offsets: Vec::with_capacity(n_messages),
            usual,
        }
    }

    /// False: there is no room for it.
    #[inline]
    fn push(&mut self, message: &Message<'_>, offset: u64) -> bool {
        let (payload, key) = (message.payload(), message.key());
        if !self.payloads.has_room_for(payload) || self.keys.as_ref().is_some_and(|keys| !keys.has_room_for(key)) {
            return false;
        }
        if key.is_some() && self.keys.is_none() {
            self.begin_keys();
        }
        self.payloads.push(payload);
        if let Some(keys) = &mut self.keys {
            keys.push(key);
        }
        // Producers may write any number; what no microsecond counter holds becomes the largest.
        self.times.append_option(message.millis().map(|millis| millis.saturating_mul(1_000)));
        self.offsets.push(offset);
        true
    }

    #[cold]
    fn begin_keys(&mut self) {
        let mut keys = Bytes::new(self.offsets.capacity(), self.usual.key);
        self.offsets.iter().for_each(|_| keys.push(None));
        self.keys = Some(keys);
    }

    fn finish(mut self, place: &Place) -> Option<SourceBatch> {
        if self.offsets.is_empty() {
            return None;
        }
        let rows = SourceRows::Raw(RawRows {
            payloads: self.payloads.finish(),
            keys: self.keys.map(Bytes::finish),
            times: Some(self.times.finish()),
            header: None,
            topic: Arc::clone(&place.topic),
            partition: place.partition.unsigned_abs(),
        });
        Some(SourceBatch { rows, offsets: self.offsets })
    }
}

/// Payloads or keys in the making.
struct Bytes {
    values: Vec<u8>,
    /// Where each ends, after a 0.
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Bytes {
    /// With room for so many that take so many bytes each, and for a little more, as growing by a little means copying all.
    fn new(n_messages: usize, usual: usize) -> Self {
        let n_bytes = n_messages.saturating_mul(usual + usual / 8 + 1).min(MOST_GUESSED);
        let mut ends = Vec::with_capacity(n_messages + 1);
        ends.push(0);
        let values = Vec::with_capacity(n_bytes);
        Bytes { values, ends, nulls: NullBufferBuilder::new(n_messages) }
    }

    /// What one of them takes, of which there is at least one.
    fn average(&self) -> usize {
        self.values.len().div_ceil(self.ends.len() - 1)
    }

    #[inline]
    fn has_room_for(&self, bytes: Option<&[u8]>) -> bool {
        self.values.len() + bytes.map_or(0, <[u8]>::len) <= MAX_BYTES
    }

    /// Adds one, which there must be room for. A call for each message would cost as much as what it does.
    #[inline(always)]
    fn push(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.values.extend_from_slice(bytes);
                self.nulls.append_non_null();
            }
            None => self.nulls.append_null(),
        }
        self.ends.push(self.values.len() as i32);
    }

    fn finish(mut self) -> BinaryArray {
        BinaryArray::new(OffsetBuffer::new(self.ends.into()), self.values.into(), self.nulls.finish())
    }
}
