//! The appends of all tasks share one fsync: whoever comes while one is under way goes with the next.

use std::sync::Arc;

use pipeline_stage::{Result, StageError};
use tokio::sync::{mpsc, oneshot};

use super::retry::until_store_works;
use crate::store::{Append, StateStore};

/// Appends to the epoch log.
#[derive(Clone)]
pub struct LogWriter {
    requests: mpsc::Sender<(Append, oneshot::Sender<Result<bool>>)>,
}

/// More than any process has tasks with an epoch to end: nobody waits to hand one over.
const MAX_WAITING: usize = 1_024;

impl LogWriter {
    /// Starts it.
    pub fn start(store: Arc<dyn StateStore>) -> Self {
        let (requests, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(serve(store, receiver));
        LogWriter { requests }
    }

    /// Returns once the epoch is on disk.
    ///
    /// # Errors
    /// `TakenOver` when another owner has the task; `Fatal` when the store cannot be written.
    pub async fn append(&self, append: Append) -> Result<()> {
        let task = append.task.clone();
        let (reply, answer) = oneshot::channel();
        let gone = || StageError::fatal("the epoch log is closed");
        self.requests.send((append, reply)).await.map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())?? {
            true => Ok(()),
            false => Err(StageError::taken_over(format!("another process has taken over task `{task}`"))),
        }
    }
}

async fn serve(store: Arc<dyn StateStore>, mut requests: mpsc::Receiver<(Append, oneshot::Sender<Result<bool>>)>) {
    while let Some(first) = requests.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = requests.try_recv() {
            waiting.push(next);
        }
        // Whoever came first, rows are locked in one order.
        waiting.sort_by(|(one, _), (other, _)| one.task.cmp(&other.task));
        let (appends, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        match until_store_works(|| store.append(&appends)).await {
            Ok(answers) => {
                for (reply, is_owner) in replies.into_iter().zip(answers) {
                    // A task that was dropped meanwhile does not wait for its answer.
                    let _ = reply.send(Ok(is_owner));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(StageError::new(error.kind(), error.chain())));
                }
            }
        }
    }
}
