//! The source: one partition, whose rows cannot be read again.

use std::sync::Arc;

use async_trait::async_trait;
use pipeline_stage::{Assignment, Partition, Position, Reader, Result, Source, SourceBatch, SourceOutput, StageError};
use tracing::info;

use crate::connection::Connection;
use crate::link::{Broker, Link};
use crate::news::News;
use crate::shared::Shared;

/// A broker's topics.
pub struct MqttSource {
    broker: Broker,
    shared: Arc<Shared>,
    /// From the first reader on, until its task has stopped.
    connection: Option<Connection>,
    once: bool,
    is_assigned: bool,
}

impl MqttSource {
    /// Without I/O.
    pub fn new(broker: Broker, once: bool) -> Self {
        let shared = Arc::new(Shared::new(&broker));
        MqttSource { broker, shared, connection: None, once, is_assigned: false }
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.stop().await;
        }
    }
}

#[async_trait]
impl Source for MqttSource {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    fn is_replayable(&self) -> bool {
        false
    }

    async fn check(&mut self) -> Vec<StageError> {
        let mut broker = self.broker.clone();
        // Under its own name it would put out a pipeline that runs.
        broker.hello.client_id.push_str("-check");
        (broker.hello.is_clean, broker.hello.session_expiry) = (true, 0);
        let checked = async { Link::open(&broker).await?.close().await };
        checked.await.err().into_iter().collect()
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::of_one_partition(&mut self.is_assigned))
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        // What an earlier reader was given and is not logged, the broker delivers again on a new connection.
        self.disconnect().await;
        self.shared.inbox.clear();
        self.shared.inbox.open(from.map(|from| from.offset));
        self.shared.restore(from.and_then(|from| from.detail.as_deref()));
        let mut news = None;
        if !self.once {
            let connection = Connection::start(self.shared.clone(), self.broker.clone()).await?;
            info!(broker = %self.broker.address, client_id = self.broker.hello.client_id, "subscribed");
            news = Some(connection.news());
            self.connection = Some(connection);
        }
        Ok(Box::new(MqttReader { shared: self.shared.clone(), partition: partition.clone(), news }))
    }

    async fn logged(&mut self, _partition: &Partition, through: &Position) -> Result<()> {
        self.shared.deliveries().logged(through.offset);
        // Makes room.
        drop(self.shared.inbox.logged(through.offset));
        self.shared.logged.notify_one();
        Ok(())
    }

    async fn release(&mut self, _partition: &Partition) -> Result<()> {
        self.disconnect().await;
        self.shared.inbox.clear();
        Ok(())
    }
}

struct MqttReader {
    shared: Arc<Shared>,
    partition: Partition,
    /// Of the connection; none in a run that reads nothing.
    news: Option<News>,
}

#[async_trait]
impl Reader for MqttReader {
    async fn next(&mut self, _until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let Some(news) = &self.news else { return Ok(None) };
        tokio::select! {
            biased;
            batch = self.shared.inbox.next(&self.partition) => Ok(Some(batch)),
            told = news.next() => told.map(|()| Some(SourceBatch::empty())),
        }
    }

    fn position(&self) -> Position {
        let deliveries = self.shared.deliveries();
        let offset = self.shared.inbox.position();
        Position { offset, detail: Some(deliveries.detail(offset)) }
    }

    fn lag(&self) -> Option<u64> {
        Some(self.shared.inbox.waiting())
    }
}
