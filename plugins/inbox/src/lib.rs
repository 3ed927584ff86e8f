//! What has come to a source that cannot be read again, from its coming until it is in the epoch log.
//!
//! The part that such sources share (`http_push`, `mqtt`): rows are numbered as they come, given to the task's reader in
//! that order, and held until [`Inbox::logged`]; then whoever sent them can be answered, by the receipt that came with
//! them. A reader that was dropped is followed by another one, which is given again what is not logged.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::TimestampMicrosecondArray;
use arrow_array::builder::BinaryBuilder;
use bytes::Bytes;
use pipeline_stage::{MAX_BATCH_ROWS, Partition, RawRows, SourceBatch, SourceRows, Timestamp, timestamp_type};
use tokio::sync::Notify;

/// A batch ends when it has so many bytes: it is part of an entry of the epoch log, and large rows must not make that
/// much larger than the engine wants it.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Rows that came together, and are answered together.
#[derive(Debug)]
pub struct Arrival<T> {
    /// The rows.
    pub rows: Vec<Bytes>,
    /// What `meta: key` gives for each of them.
    pub key: Option<Bytes>,
    /// When they came.
    pub at: Timestamp,
    /// What is needed to answer.
    pub receipt: T,
}

/// Rows that are not logged yet; `T` is what is needed to answer for them.
pub struct Inbox<T> {
    topic: String,
    state: Mutex<State<T>>,
    news: Notify,
}

struct State<T> {
    /// In the order they came.
    held: VecDeque<Held<T>>,
    /// What the next row is called.
    next: u64,
    /// The reader has been given everything before.
    position: u64,
    /// What was called less is in the log, or belongs to an earlier life of the state. What was withdrawn leaves gaps
    /// behind it.
    logged: u64,
    /// How many rows no reader has been given.
    n_waiting: u64,
}

struct Held<T> {
    first: u64,
    arrival: Arrival<T>,
}

impl<T> Held<T> {
    fn end(&self) -> u64 {
        self.first + self.arrival.rows.len() as u64
    }
}

/// The time it is.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What becomes of what was held: by receipt.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// In the log.
    pub logged: Vec<T>,
    /// A reader was given it, and whether it was logged is not known here.
    pub unknown: Vec<T>,
    /// Given to no reader: it is in no log.
    pub not_taken: Vec<T>,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Outcome { logged: Vec::new(), unknown: Vec::new(), not_taken: Vec::new() }
    }
}

impl<T> Inbox<T> {
    /// An empty one; `topic` is what `meta: topic` gives.
    pub fn new(topic: impl Into<String>) -> Self {
        let state = State { held: VecDeque::new(), next: 0, position: 0, logged: 0, n_waiting: 0 };
        Inbox { topic: topic.into(), state: Mutex::new(state), news: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// A reader is opened where the log ends; without a log rows are numbered from the present microsecond on, so that
    /// they are not called as those of an earlier life of the state. What is not logged is given to it again, unless the
    /// state is another one.
    pub fn open(&self, from: Option<u64>) -> Outcome<T> {
        let mut state = self.state();
        if let Some(from) = from.filter(|from| state.logged <= *from && *from <= state.next) {
            let logged = state.logged(from);
            state.go_to(from);
            self.news.notify_one();
            return Outcome { logged, ..Outcome::default() };
        }
        let outcome = state.clear();
        state.next = from.unwrap_or(now().0.unsigned_abs());
        (state.position, state.logged) = (state.next, state.next);
        outcome
    }

    /// Takes what has come; gives the number of its first row.
    pub fn put(&self, arrival: Arrival<T>) -> u64 {
        let mut state = self.state();
        let (first, n_rows) = (state.next, arrival.rows.len() as u64);
        state.next += n_rows;
        state.n_waiting += n_rows;
        state.held.push_back(Held { first, arrival });
        self.news.notify_one();
        first
    }

    /// Takes back what came under a number, if no reader has been given any of it.
    pub fn withdraw(&self, first: u64) -> Option<Arrival<T>> {
        let mut state = self.state();
        if first < state.position {
            return None;
        }
        let place = state.held.binary_search_by_key(&first, |held| held.first).ok()?;
        let withdrawn = state.held.remove(place)?.arrival;
        state.n_waiting -= withdrawn.rows.len() as u64;
        Some(withdrawn)
    }

    /// What was read before `through` is in the log: the receipts of what is in it altogether.
    pub fn logged(&self, through: u64) -> Vec<T> {
        self.state().logged(through)
    }

    /// Everything that is held is given up.
    pub fn clear(&self) -> Outcome<T> {
        self.state().clear()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.state().held.is_empty()
    }

    /// How many rows no reader has been given.
    pub fn waiting(&self) -> u64 {
        self.state().n_waiting
    }

    /// Where the reader stands.
    pub fn position(&self) -> u64 {
        self.state().position
    }

    /// Waits for the next rows. Cancel-safe. There is one reader at a time.
    pub async fn next(&self, partition: &Partition) -> SourceBatch {
        loop {
            let news = self.news.notified();
            if let Some(batch) = self.take(partition) {
                return batch;
            }
            news.await;
        }
    }

    fn take(&self, partition: &Partition) -> Option<SourceBatch> {
        let mut state = self.state();
        let position = state.position;
        let start = state.held.partition_point(|held| held.end() <= position);
        let mut batch = Building::default();
        'full: for held in state.held.iter().skip(start) {
            let given = position.saturating_sub(held.first) as usize;
            for (row, offset) in held.arrival.rows.iter().zip(held.first..).skip(given) {
                if batch.is_full() {
                    break 'full;
                }
                batch.add(&held.arrival, row, offset);
            }
        }
        let last = batch.offsets.last()?;
        state.position = last + 1;
        state.n_waiting -= batch.offsets.len() as u64;
        Some(batch.finish(&self.topic, partition))
    }
}

impl<T> State<T> {
    fn logged(&mut self, through: u64) -> Vec<T> {
        self.logged = self.logged.max(through);
        let mut receipts = Vec::new();
        while self.held.front().is_some_and(|held| held.end() <= through) {
            let Some(held) = self.held.pop_front() else { break };
            receipts.push(held.arrival.receipt);
        }
        receipts
    }

    fn clear(&mut self) -> Outcome<T> {
        let mut outcome = Outcome::default();
        for Held { first, arrival } in std::mem::take(&mut self.held) {
            let is_given = first < self.position;
            if is_given { &mut outcome.unknown } else { &mut outcome.not_taken }.push(arrival.receipt);
        }
        (self.position, self.logged, self.n_waiting) = (self.next, self.next, 0);
        outcome
    }

    /// The reader is given everything from there on.
    fn go_to(&mut self, position: u64) {
        self.position = position;
        let of_each = self.held.iter().map(|held| held.end().saturating_sub(held.first.max(position)));
        self.n_waiting = of_each.sum();
    }
}

#[derive(Default)]
struct Building {
    offsets: Vec<u64>,
    payloads: BinaryBuilder,
    keys: BinaryBuilder,
    has_keys: bool,
    times: Vec<i64>,
    bytes: usize,
}

impl Building {
    fn is_full(&self) -> bool {
        self.offsets.len() == MAX_BATCH_ROWS || MAX_BATCH_BYTES <= self.bytes
    }

    fn add<T>(&mut self, arrival: &Arrival<T>, row: &Bytes, offset: u64) {
        self.offsets.push(offset);
        self.payloads.append_value(row);
        self.keys.append_option(arrival.key.as_ref());
        self.has_keys |= arrival.key.is_some();
        self.times.push(arrival.at.0);
        self.bytes += row.len() + arrival.key.as_ref().map_or(0, Bytes::len);
    }

    fn finish(mut self, topic: &str, partition: &Partition) -> SourceBatch {
        let raw = RawRows {
            payloads: self.payloads.finish(),
            keys: self.has_keys.then(|| self.keys.finish()),
            times: Some(TimestampMicrosecondArray::from(self.times).with_data_type(timestamp_type())),
            header: None,
            topic: topic.into(),
            partition: partition.number,
        };
        SourceBatch { rows: SourceRows::Raw(raw), offsets: self.offsets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(rows: usize, receipt: u32) -> Arrival<u32> {
        let rows = (0..rows).map(|row| Bytes::from(format!("{receipt}.{row}"))).collect();
        Arrival { rows, key: None, at: Timestamp(1), receipt }
    }

    fn given(inbox: &Inbox<u32>) -> Vec<u64> {
        inbox.take(&Partition::numbered(0)).map(|batch| batch.offsets).unwrap_or_default()
    }

    fn opened(from: u64) -> Inbox<u32> {
        let inbox = Inbox::new("test");
        assert_eq!(inbox.open(Some(from)), Outcome::default());
        inbox
    }

    #[test]
    fn receipts_come_when_all_their_rows_are_logged() {
        let inbox = opened(100);
        assert_eq!((inbox.put(arrival(2, 1)), inbox.put(arrival(3, 2))), (100, 102));
        assert_eq!(given(&inbox), [100, 101, 102, 103, 104]);
        assert!(inbox.logged(101).is_empty());
        assert_eq!(inbox.logged(104), [1]);
        assert_eq!(inbox.logged(105), [2]);
        assert_eq!((inbox.is_empty(), inbox.waiting(), inbox.position()), (true, 0, 105));
    }

    #[test]
    fn another_reader_is_given_again_what_is_not_logged() {
        let inbox = opened(0);
        inbox.put(arrival(2, 1));
        inbox.put(arrival(2, 2));
        assert_eq!(given(&inbox), [0, 1, 2, 3]);
        assert_eq!(inbox.open(Some(3)), Outcome { logged: vec![1], ..Outcome::default() });
        assert_eq!(given(&inbox), [3]);
        // State that was given up, or is another one.
        assert_eq!(inbox.open(Some(1_000)), Outcome { unknown: vec![2], ..Outcome::default() });
        assert_eq!(inbox.put(arrival(1, 3)), 1_000);
        assert_eq!(inbox.open(None), Outcome { not_taken: vec![3], ..Outcome::default() });
        assert!(1_000_000_000_000_000 < inbox.put(arrival(1, 4)));
    }

    #[test]
    fn only_what_no_reader_has_can_be_withdrawn() {
        let inbox = opened(0);
        inbox.put(arrival(2, 1));
        assert_eq!(given(&inbox), [0, 1]);
        let (second, third) = (inbox.put(arrival(2, 2)), inbox.put(arrival(1, 3)));
        assert!(inbox.withdraw(0).is_none());
        assert_eq!(inbox.withdraw(second).map(|arrival| arrival.receipt), Some(2));
        assert!(inbox.withdraw(second).is_none());
        assert_eq!(given(&inbox), [third]);
        assert_eq!(inbox.logged(third + 1), [1, 3]);
    }

    #[test]
    fn what_was_withdrawn_waits_no_more_and_takes_nothing_along() {
        let inbox = opened(0);
        let (first, second) = (inbox.put(arrival(2, 1)), inbox.put(arrival(3, 2)));
        assert!(inbox.withdraw(first).is_some());
        assert_eq!((inbox.waiting(), inbox.position()), (3, 0));
        // The log ends before both: a reader that was dropped had read neither.
        assert_eq!(inbox.open(Some(0)), Outcome::default());
        assert_eq!((given(&inbox), inbox.waiting()), (vec![2, 3, 4], 0));
        let last = inbox.put(arrival(1, 3));
        assert!(inbox.withdraw(second).is_none() && inbox.withdraw(last).is_some());
        assert_eq!(inbox.waiting(), 0, "nobody waits");
        assert_eq!(inbox.open(Some(3)), Outcome::default());
        assert_eq!((inbox.waiting(), given(&inbox), inbox.waiting()), (2, vec![3, 4], 0));
        assert_eq!(inbox.logged(5), [2]);
        // Numbers are not given again, and what is logged is not the state of a log that ends earlier.
        assert_eq!(inbox.put(arrival(1, 4)), 6);
        assert_eq!(inbox.open(Some(4)), Outcome { not_taken: vec![4], ..Outcome::default() });
        assert_eq!((inbox.put(arrival(1, 5)), inbox.waiting()), (4, 1));
    }

    #[test]
    fn batches_end_in_the_middle_of_what_came_together() {
        let inbox = opened(0);
        inbox.put(arrival(MAX_BATCH_ROWS + 5, 1));
        inbox.put(arrival(1, 2));
        assert_eq!(given(&inbox).len(), MAX_BATCH_ROWS);
        assert_eq!(given(&inbox).len(), 6);
        assert!(given(&inbox).is_empty());
        assert!(inbox.logged(MAX_BATCH_ROWS as u64).is_empty());
        assert_eq!(inbox.logged(u64::MAX), [1, 2]);
        let large = Arrival { rows: vec![Bytes::from(vec![0; MAX_BATCH_BYTES]); 3], ..arrival(0, 3) };
        inbox.put(large);
        assert_eq!(given(&inbox).len(), 1);
    }

    #[tokio::test]
    async fn a_reader_waits_until_something_comes() {
        let inbox = std::sync::Arc::new(opened(0));
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.next(&Partition::numbered(0)).await.offsets }
        });
        tokio::task::yield_now().await;
        inbox.put(Arrival { key: Some(Bytes::from_static(b"k")), ..arrival(1, 1) });
        assert_eq!(waiting.await.unwrap_or_default(), [0]);
    }
}
