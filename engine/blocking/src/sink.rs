//! Sinks whose calls block.

use async_trait::async_trait;
use pipeline_stage::{Alert, Claim, Commit, Delivery, EpochRows, OutboxSink, Owner, Pace, Result, Sink, StageError};

use crate::worker::Worker;

/// A [`Sink`] whose calls block. One thread makes them, one after the other.
pub trait BlockingSink: Send + 'static {
    /// See [`Sink::delivery`].
    fn delivery(&self) -> Delivery;

    /// See [`Sink::check`].
    fn check(&mut self) -> Vec<StageError> {
        Vec::new()
    }

    /// See [`Sink::claim`].
    fn claim(&mut self, owner: &Owner) -> Result<Claim>;

    /// See [`Sink::commit`].
    fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit>;
}

/// An [`OutboxSink`] whose calls block. One thread makes them, one after the other.
pub trait BlockingOutbox: Send + 'static {
    /// See [`OutboxSink::pace`].
    fn pace(&self) -> Pace;

    /// See [`OutboxSink::check`].
    fn check(&mut self) -> Vec<StageError> {
        Vec::new()
    }

    /// See [`OutboxSink::deliver`]. One that takes longer than [`Pace::timeout`] is given up, but it goes on in its
    /// thread, and the next waits for it.
    fn deliver(&mut self, alert: &Alert) -> Result<()>;
}

/// Makes a stage of a sink whose calls block. `name` is that of its thread.
pub fn sink(name: &str, sink: Box<dyn BlockingSink>) -> Box<dyn Sink> {
    Box::new(ThreadedSink { delivery: sink.delivery(), worker: Worker::new(name, sink) })
}

/// Makes a stage of an outbox sink whose calls block. `name` is that of its thread.
pub fn outbox(name: &str, sink: Box<dyn BlockingOutbox>) -> Box<dyn OutboxSink> {
    Box::new(ThreadedOutbox { pace: sink.pace(), worker: Worker::new(name, sink) })
}

struct ThreadedSink {
    delivery: Delivery,
    worker: Worker<Box<dyn BlockingSink>>,
}

#[async_trait]
impl Sink for ThreadedSink {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    async fn check(&mut self) -> Vec<StageError> {
        self.worker.ask(|sink| sink.check()).await.unwrap_or_else(|error| vec![error])
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let owner = owner.clone();
        self.worker.ask(move |sink| sink.claim(&owner)).await?
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let epochs = epochs.to_vec();
        self.worker.ask(move |sink| sink.commit(&epochs)).await?
    }
}

struct ThreadedOutbox {
    pace: Pace,
    worker: Worker<Box<dyn BlockingOutbox>>,
}

#[async_trait]
impl OutboxSink for ThreadedOutbox {
    fn pace(&self) -> Pace {
        self.pace
    }

    async fn check(&mut self) -> Vec<StageError> {
        self.worker.ask(|sink| sink.check()).await.unwrap_or_else(|error| vec![error])
    }

    async fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let alert = alert.clone();
        self.worker.ask(move |sink| sink.deliver(&alert)).await?
    }
}
