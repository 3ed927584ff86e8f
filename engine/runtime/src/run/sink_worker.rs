//! One worker for each sink: it owns the sink, gathers what several tasks have to commit, and tries again.

use std::collections::{BTreeSet, HashMap};

use pipeline_stage::{Claim, Commit, Delivery, EpochRows, ErrorKind, Mark, Owner, Refused, Result, Sink, StageError};
use tokio::sync::{mpsc, oneshot};

use super::origins::without;
use super::retry::Retry;
use crate::bugs::{self, Bug};

/// The way to a sink.
#[derive(Clone)]
pub struct SinkWorker {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Claim(Box<Owner>, oneshot::Sender<Result<Claim>>),
    Commit(Box<EpochRows>, oneshot::Sender<Result<Committed>>),
}

/// A commit that is durable.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The mark, with the sink's detail.
    pub mark: Mark,
    /// Rows that were refused and are not there.
    pub refused: Vec<RefusedRow>,
}

/// A row that a sink can never take.
#[derive(Debug, Clone)]
pub struct RefusedRow {
    /// `source/partition`.
    pub place: std::sync::Arc<str>,
    /// The offset of the row it came from.
    pub offset: u64,
    /// By which stages it came.
    pub branch: u64,
    /// Why.
    pub reason: String,
    /// The row.
    pub row: serde_json::Map<String, serde_json::Value>,
}

/// What is stored before a commit without refused rows goes on.
#[async_trait::async_trait]
pub trait Bury: Send + Sync {
    /// Makes dead letters of a task's rows; returns once they are durable.
    async fn bury(&self, task: &str, epoch: u64, rows: &[RefusedRow]) -> Result<()>;
}

/// As many as can come at once: each task has two epochs in flight.
const MAX_WAITING: usize = 1_024;

impl SinkWorker {
    /// Starts it.
    pub fn start(id: &str, sink: Box<dyn Sink>, bury: Box<dyn Bury>) -> Self {
        let (requests, receiver) = mpsc::channel(MAX_WAITING);
        let worker = Worker {
            delivery: sink.delivery(),
            sink,
            bury,
            owners: HashMap::new(),
            id: id.into(),
            retry: Retry::new(id).meanwhile("reading pauses when 2 epochs wait"),
            refused: HashMap::new(),
        };
        tokio::spawn(worker.serve(receiver));
        SinkWorker { requests }
    }

    /// Becomes the owner of a task's output; waits until the sink can be reached.
    pub async fn claim(&self, owner: Owner) -> Result<Claim> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Claim(Box::new(owner), reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Returns once the rows and the mark are durable.
    pub async fn commit(&self, rows: EpochRows) -> Result<Committed> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Commit(Box::new(rows), reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StageError {
    StageError::fatal("the sink's worker has ended")
}

struct Worker {
    /// The stage's id.
    id: String,
    sink: Box<dyn Sink>,
    delivery: Delivery,
    bury: Box<dyn Bury>,
    /// By task; with the newest mark of sinks that cannot keep their own.
    owners: HashMap<String, Owner>,
    retry: Retry,
    /// By task and epoch, until the commit has answered.
    refused: HashMap<(String, u64), Vec<RefusedRow>>,
}

type Waiting = (EpochRows, oneshot::Sender<Result<Committed>>);

impl Worker {
    async fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            let (mut claims, mut commits): (Vec<_>, Vec<Waiting>) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Claim(owner, reply) => claims.push((*owner, reply)),
                    Request::Commit(rows, reply) => commits.push((*rows, reply)),
                }
                next = requests.try_recv().ok();
            }
            // Whoever came first, rows are locked in one order; the epochs of a task stay in theirs.
            commits.sort_by(|(one, _), (other, _)| one.mark.task.cmp(&other.mark.task));
            claims.sort_by(|(one, _): &(Owner, _), (other, _)| one.task.cmp(&other.task));
            if !commits.is_empty() {
                self.commit_all(commits).await;
            }
            for (owner, reply) in claims {
                let claim = self.claim(owner).await.map_err(|error| self.named(&error));
                let _ = reply.send(claim);
            }
        }
    }

    /// A task wants to become the owner of its output.
    async fn claim(&mut self, owner: Owner) -> Result<Claim> {
        let claim = self.reach(owner).await?;
        self.retry.worked();
        Ok(claim)
    }

    /// Claims, as often as it takes. A sink that can be claimed may still not be written to (a full disk): that it is
    /// back is not said here.
    async fn reach(&mut self, owner: Owner) -> Result<Claim> {
        loop {
            match self.sink.claim(&owner).await {
                Ok(claim) => {
                    self.owners.insert(owner.task.clone(), owner);
                    return Ok(claim);
                }
                Err(error) => self.retry.wait(error).await?,
            }
        }
    }

    /// Commits what waits in one call; if one task has lost its ownership, one by one, so that the others go on.
    async fn commit_all(&mut self, commits: Vec<Waiting>) {
        let (epochs, replies): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        match self.commit(epochs.clone()).await {
            Ok(committed) => replies.into_iter().zip(committed).for_each(|(reply, done)| drop(reply.send(Ok(done)))),
            Err(error) if error.kind() == ErrorKind::Lost && 1 < epochs.len() => {
                for (epoch, reply) in epochs.into_iter().zip(replies) {
                    let mark = epoch.mark.clone();
                    let one = self.commit_alone(epoch).await;
                    let _ = reply.send(one.map_err(|error| self.failed(&mark, &error)));
                }
            }
            Err(error) => {
                for (epoch, reply) in epochs.iter().zip(replies) {
                    let _ = reply.send(Err(self.failed(&epoch.mark, &error)));
                }
            }
        }
    }

    /// Commits an epoch after a commit of several has failed: it may have been made, with its answer lost.
    async fn commit_alone(&mut self, epoch: EpochRows) -> Result<Committed> {
        let place = (epoch.mark.task.clone(), epoch.mark.epoch);
        let mut missing = vec![epoch.clone()];
        self.claim_again(&mut missing).await?;
        if missing.is_empty() {
            let refused = self.refused.remove(&place).unwrap_or_default();
            return Ok(Committed { mark: epoch.mark, refused });
        }
        // It has its refused rows still: they are refused again.
        self.refused.remove(&place);
        let committed = self.commit(missing).await?;
        committed.into_iter().next().ok_or_else(|| StageError::fatal("a commit of one epoch gave no answer"))
    }

    /// The epoch is not there; when it comes again, its refused rows do, too.
    fn failed(&mut self, mark: &Mark, error: &StageError) -> StageError {
        self.refused.remove(&(mark.task.clone(), mark.epoch));
        self.named(error)
    }

    /// With the stage's id; what a sink calls `Lost` is an owner that came later.
    fn named(&self, error: &StageError) -> StageError {
        let error = error.named(&self.id);
        match error.kind() {
            ErrorKind::Lost => StageError::taken_over(error.to_string()),
            _ => error,
        }
    }

    async fn commit(&mut self, mut epochs: Vec<EpochRows>) -> Result<Vec<Committed>> {
        let all: Vec<Mark> = epochs.iter().map(|epoch| epoch.mark.clone()).collect();
        let mut details: HashMap<(String, u64), Option<String>> = HashMap::new();
        while !epochs.is_empty() {
            match self.sink.commit(&epochs).await {
                Ok(Commit::Done(found)) => {
                    let found = found.into_iter().chain(std::iter::repeat(None));
                    for (epoch, detail) in epochs.drain(..).zip(found) {
                        self.remember(&epoch.mark, &detail);
                        details.insert((epoch.mark.task, epoch.mark.epoch), detail);
                    }
                }
                Ok(Commit::Refused(refused)) => self.set_aside(&mut epochs, &refused).await?,
                Err(error) => {
                    self.retry.wait(error).await?;
                    if !bugs::is_there(Bug::RetryWithoutClaim) {
                        self.claim_again(&mut epochs).await?;
                    }
                }
            }
        }
        self.retry.worked();
        let answers = all.into_iter().map(|mut mark| {
            let place = (mark.task.clone(), mark.epoch);
            mark.detail = details.remove(&place).flatten();
            Committed { mark, refused: self.refused.remove(&place).unwrap_or_default() }
        });
        Ok(answers.collect())
    }

    /// Keeps the newest mark of a sink that cannot, for the case that it has to be claimed again.
    fn remember(&mut self, mark: &Mark, detail: &Option<String>) {
        if self.delivery == Delivery::Transactional {
            return;
        }
        if let Some(owner) = self.owners.get_mut(&mark.task) {
            owner.stored = Some(Mark { detail: detail.clone(), ..mark.clone() });
        }
    }

    /// Makes dead letters of refused rows, durably, before the rest is tried again.
    async fn set_aside(&mut self, epochs: &mut [EpochRows], refused: &[Refused]) -> Result<()> {
        if refused.is_empty() || !refused.iter().all(|row| is_there(epochs, row)) {
            return Err(StageError::fatal("it has refused a commit without naming a row of it"));
        }
        for (number, epoch) in epochs.iter_mut().enumerate() {
            let rows: Vec<RefusedRow> =
                refused.iter().filter(|row| row.epoch == number).map(|row| describe(epoch, row)).collect();
            if rows.is_empty() {
                continue;
            }
            self.bury.bury(&epoch.mark.task, epoch.mark.epoch, &rows).await?;
            for (batch_number, batch) in epoch.rows.iter_mut().enumerate() {
                let of_batch = refused.iter().filter(|row| row.epoch == number && row.batch == batch_number);
                let dropped: Vec<usize> = of_batch.map(|row| row.row).collect();
                if !dropped.is_empty() {
                    *batch = without(batch, &dropped)?;
                }
            }
            self.refused.entry((epoch.mark.task.clone(), epoch.mark.epoch)).or_default().extend(rows);
        }
        Ok(())
    }

    /// After a failure nobody knows whether the commit was made: the marks do.
    async fn claim_again(&mut self, epochs: &mut Vec<EpochRows>) -> Result<()> {
        let tasks: BTreeSet<String> = epochs.iter().map(|epoch| epoch.mark.task.clone()).collect();
        for task in tasks {
            let Some(owner) = self.owners.get(&task).cloned() else { continue };
            let claim = self.reach(owner).await?;
            if let Claim::At(mark) = claim {
                epochs.retain(|epoch| epoch.mark.task != task || mark.epoch < epoch.mark.epoch);
            }
        }
        Ok(())
    }
}

fn is_there(epochs: &[EpochRows], refused: &Refused) -> bool {
    let batch = epochs.get(refused.epoch).and_then(|epoch| epoch.rows.get(refused.batch));
    batch.is_some_and(|rows| refused.row < rows.batch.num_rows())
}

fn describe(epoch: &EpochRows, refused: &Refused) -> RefusedRow {
    let rows = &epoch.rows[refused.batch];
    RefusedRow {
        place: rows.origins.place.clone(),
        offset: rows.origins.offsets[refused.row],
        branch: rows.origins.branch(refused.row),
        reason: refused.why.clone(),
        row: pipeline_stage::row_to_json(&rows.batch, refused.row),
    }
}

#[cfg(test)]
mod tests;
