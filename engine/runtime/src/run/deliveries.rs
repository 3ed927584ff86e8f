//! The outboxes of a process at work.

use std::sync::Arc;

use pipeline_stage::{OutboxSink, Result, StageError};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::clock::Clock;
use super::lease::Lease;
use super::outbox::Outbox;
use super::outbox_worker::OutboxWorker;
use super::told::Stop;
use crate::store::StateStore;

/// A worker for each outbox.
pub struct Deliveries {
    outboxes: Vec<Arc<Outbox>>,
    workers: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
}

impl Deliveries {
    /// Starts them.
    pub fn start(
        outboxes: Vec<(Arc<Outbox>, Box<dyn OutboxSink>)>,
        store: &Arc<dyn StateStore>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let holder = format!("{}-{}", std::process::id(), clock.now().0);
        let (mut started, mut workers) = (Vec::new(), JoinSet::new());
        for (outbox, sink) in outboxes {
            started.push(outbox.clone());
            let lease = Lease::new(&outbox.sink, &outbox.pace, store.clone(), holder.clone());
            let worker = OutboxWorker::new(outbox, sink, store.clone(), clock.clone(), lease);
            workers.spawn(worker.run(Stop::new(stopped.clone())));
        }
        Deliveries { outboxes: started, workers, stop }
    }

    /// Waits for a worker that fails; for ever if none does.
    pub async fn failed(&mut self) -> StageError {
        while let Some(ended) = self.workers.join_next().await {
            if let Err(error) = why(ended) {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Waits until all alerts are delivered; somebody who does not want to wait says stop.
    ///
    /// # Errors
    /// When a worker fails.
    pub async fn emptied(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let outboxes = self.outboxes.clone();
        let emptied = async {
            for outbox in &outboxes {
                outbox.emptied().await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            emptied = emptied => emptied,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            failed = self.failed() => Err(failed),
        }
    }

    /// Stops them: a delivery under way is finished and noted. Says what waits in which outbox.
    ///
    /// # Errors
    /// The first of any worker, once all have ended.
    pub async fn stop(mut self) -> Result<Vec<(String, u64)>> {
        // Receivers are gone only when the workers are.
        let _ = self.stop.send(true);
        let mut failure = None;
        while let Some(ended) = self.workers.join_next().await {
            failure = failure.or(why(ended).err());
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let mut waiting = Vec::new();
        for outbox in &self.outboxes {
            match outbox.left().await {
                0 => {}
                left => waiting.push((outbox.sink.clone(), left)),
            }
        }
        Ok(waiting)
    }
}

fn why(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.map_err(|error| StageError::fatal("an outbox failed").because(error))?
}
