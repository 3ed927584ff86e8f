//! One worker for each source: it owns the source and answers the tasks.

use pipeline_stage::{Assignment, Partition, Position, Reader, Result, Role, Source, StageError};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::retry::Retry;

/// The way to a source.
#[derive(Clone)]
pub struct SourceWorker {
    requests: mpsc::Sender<Request>,
}

/// Where a reader begins.
#[derive(Debug, Clone)]
pub enum From {
    /// Where the source's options say.
    Start,
    /// With the oldest row there is.
    Oldest,
    /// At a position of the state.
    Position(Position),
}

enum Request {
    Open(Partition, From, oneshot::Sender<Result<Box<dyn Reader>>>),
    Logged(Partition, Position),
    Forget(Partition, Position, oneshot::Sender<()>),
    Release(Partition, oneshot::Sender<()>),
}

/// Each task asks for one thing at a time.
const MAX_WAITING: usize = 256;

impl SourceWorker {
    /// Starts it. A leader sends its assignments.
    pub fn start(id: &str, source: Box<dyn Source>, role: Role) -> (Self, mpsc::Receiver<Result<Assignment>>) {
        let (requests, receiver) = mpsc::channel(MAX_WAITING);
        let (assignments, changes) = mpsc::channel(1);
        tokio::spawn(serve(id.to_string(), source, role, receiver, assignments));
        (SourceWorker { requests }, changes)
    }

    /// Opens a partition.
    pub async fn open(&self, partition: &Partition, from: From) -> Result<Box<dyn Reader>> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Open(partition.clone(), from, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// What was read before the position is in the epoch log.
    pub async fn logged(&self, partition: &Partition, through: Position) {
        // When the source is gone there is nothing left to acknowledge to.
        let _ = self.requests.send(Request::Logged(partition.clone(), through)).await;
    }

    /// What was read before the position is in a checkpoint; returns once the source has been told.
    pub async fn forget(&self, partition: &Partition, through: Position) {
        let (reply, answer) = oneshot::channel();
        let _ = self.requests.send(Request::Forget(partition.clone(), through, reply)).await;
        let _ = answer.await;
    }

    /// The partition's task has stopped.
    pub async fn release(&self, partition: &Partition) {
        let (reply, answer) = oneshot::channel();
        let _ = self.requests.send(Request::Release(partition.clone(), reply)).await;
        let _ = answer.await;
    }
}

fn gone() -> StageError {
    StageError::fatal("the source has ended")
}

async fn serve(
    id: String,
    mut source: Box<dyn Source>,
    role: Role,
    mut requests: mpsc::Receiver<Request>,
    assignments: mpsc::Sender<Result<Assignment>>,
) {
    let mut is_final = role == Role::Follower;
    let mut retry = Retry::of_source(&id, source.is_replayable());
    // While the supervisor is busy the tasks must be answered: it may be waiting for one of them.
    let mut untold = None;
    loop {
        // Assignments are few: that they come first starves no request.
        tokio::select! {
            biased;
            permit = assignments.reserve(), if untold.is_some() => match (permit, untold.take()) {
                (Ok(permit), Some(assignment)) => permit.send(assignment),
                _ => is_final = true,
            },
            assignment = next_assignment(source.as_mut(), &mut retry), if !is_final && untold.is_none() => {
                is_final = matches!(assignment, Ok(Assignment::Final) | Err(_));
                untold = Some(assignment);
            }
            request = requests.recv() => match request {
                Some(request) => answer(&id, source.as_mut(), request).await,
                None => return,
            },
        }
    }
}

/// Waits for a change; what may pass is waited for. Cancel-safe: a pause that was cut short is only a sooner try.
async fn next_assignment(source: &mut dyn Source, retry: &mut Retry) -> Result<Assignment> {
    loop {
        match source.assignment().await {
            Ok(assignment) => {
                retry.worked();
                return Ok(assignment);
            }
            Err(error) => retry.wait(error).await?,
        }
    }
}

async fn answer(id: &str, source: &mut dyn Source, request: Request) {
    // Whether the broker was told in time matters to its own book-keeping only: the checkpoint is the truth.
    let told = |told: Result<()>| {
        if let Err(error) = told {
            warn!("{id}: the source could not be told how far it was read: {}", error.chain());
        }
    };
    match request {
        Request::Open(partition, from, reply) => {
            let opened = match from {
                From::Start => source.open(&partition, None).await,
                From::Oldest => source.open_oldest(&partition).await,
                From::Position(position) => source.open(&partition, Some(&position)).await,
            };
            let _ = reply.send(opened);
        }
        Request::Logged(partition, through) => told(source.logged(&partition, &through).await),
        Request::Forget(partition, through, reply) => {
            told(source.forget(&partition, &through).await);
            let _ = reply.send(());
        }
        Request::Release(partition, reply) => {
            told(source.release(&partition).await);
            let _ = reply.send(());
        }
    }
}
