//! A task: one partition of the input, run from its sources to its sinks by one thread of control.

use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Partition, Result, StageError};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{OwnedPermit, Permit};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::{sleep, sleep_until};

use super::commit::{Committer, EndedEpoch, Part};
use super::epoch::Epoch;
use super::input::next_of;
use super::recovery::recover;
use super::shared::Shared;
use super::taken::unless_taken;
use super::task::Task;
use super::view::Waits;

/// One epoch is being committed, one waits, a third is being read: at most two are in flight.
const EPOCHS_WAITING: usize = 1;

/// What a task is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Run,
    /// End the epoch, commit, checkpoint.
    Finish,
}

/// Why a task has ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// All its sources are over.
    SourcesOver,
    /// It was told to.
    Told,
}

/// Runs a task until its sources are over or it is told to finish.
///
/// # Errors
/// `Lost` when its state is gone; `TakenOver` when another process has it; otherwise what made it stop.
pub async fn run_task(
    shared: Arc<Shared>,
    partition: Partition,
    mut order: watch::Receiver<Order>,
    mut replays: watch::Receiver<u64>,
) -> Result<TaskEnd> {
    let _seen = Seen::begin(&shared, &partition.name);
    let (mut task, committer) = tokio::select! {
        biased;
        recovered = recover(&shared, &partition) => recovered?,
        // Nothing was read yet: nothing is lost when the start is given up.
        _ = told_to_finish(&mut order) => return Ok(TaskEnd::Told),
    };
    let generation = committer.generation;
    match run_recovered(&shared, &mut task, committer, (&mut order, &mut replays)).await {
        Ok(end) => Ok(end),
        Err(error) => Err(unless_taken(&shared, &partition.name, generation, error).await),
    }
}

/// Runs a task that goes on where its last owner left it.
async fn run_recovered(
    shared: &Arc<Shared>,
    task: &mut Task,
    committer: Committer,
    (order, replays): (&mut watch::Receiver<Order>, &mut watch::Receiver<u64>),
) -> Result<TaskEnd> {
    let (epochs, receiver) = mpsc::channel(EPOCHS_WAITING);
    if shared.run.catches_up {
        *order = watch::channel(Order::Finish).1;
    }
    let mut commits = tokio::spawn(committer.run(receiver));
    let _guard = AbortOnDrop(commits.abort_handle());
    replays.mark_changed();
    let end = read_all(task, epochs, &mut commits, order, replays).await;
    let committed = match end {
        // The committer has said why already.
        Err(Stopped::ByCommitter(result)) => return Err(result),
        Err(Stopped::ByError(error)) => Err(error),
        Ok(end) => Ok(end),
    };
    match commits.await {
        Ok(Ok(())) => committed,
        ended => Err(why(ended)),
    }
}

/// A task that is dropped takes its committer along: the partition has another owner.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task can be seen from its beginning on; however it ends, it is seen no more.
struct Seen {
    shared: Arc<Shared>,
    task: String,
}

impl Seen {
    fn begin(shared: &Arc<Shared>, task: &str) -> Self {
        shared.progress.view.restoring(task);
        Seen { shared: shared.clone(), task: task.into() }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.shared.progress.forget_task(&self.task);
    }
}

async fn told_to_finish(order: &mut watch::Receiver<Order>) {
    if order.wait_for(|order| *order == Order::Finish).await.is_err() {
        std::future::pending::<()>().await;
    }
}

enum Stopped {
    ByCommitter(StageError),
    ByError(StageError),
}

impl From<StageError> for Stopped {
    fn from(error: StageError) -> Self {
        Stopped::ByError(error)
    }
}

/// How often a task looks how far it is behind while it takes nothing: the end of a partition may hold no rows but the
/// marks of transactions, and reading may have to wait for a sink.
const LOOK_AT_LAG: Duration = Duration::from_secs(1);

/// Reads and computes until the sources are over or the task is told to finish.
async fn read_all(
    task: &mut Task,
    epochs: mpsc::Sender<EndedEpoch>,
    commits: &mut JoinHandle<Result<()>>,
    order: &mut watch::Receiver<Order>,
    replays: &mut watch::Receiver<u64>,
) -> Result<TaskEnd, Stopped> {
    let mut epoch = Epoch::default();
    let waits = task.shared.progress.view.waits.clone();
    let mut is_behind = false;
    loop {
        let is_due = task.is_due(&epoch);
        let has_room = !epoch.is_full();
        let saving = task.saving();
        tokio::select! {
            biased;
            ended = &mut *commits => return Err(Stopped::ByCommitter(why(ended))),
            () = told_to_finish(order) => {
                finish(task, epoch, &epochs).await?;
                return Ok(TaskEnd::Told);
            }
            permit = room_for_epoch(&epochs, &waits), if is_due => {
                // The receiver ends only with the committer, whose branch comes first.
                let Ok(permit) = permit else { continue };
                permit.send(task.end_epoch(std::mem::take(&mut epoch))?);
            }
            permit = room(saving.clone()), if saving.is_some() => task.save_part(permit)?,
            () = sleep_until(task.deadline(&epoch)), if !is_due && task.has_deadline(&epoch) => {}
            changed = replays.changed(), if epoch.is_empty() => match changed {
                Ok(()) => {
                    if task.take_dead_letters(&mut epoch).await? {
                        replays.mark_changed();
                    }
                }
                Err(_) => return Err(StageError::fatal("the supervisor has ended").into()),
            },
            next = next_of(&mut task.inputs, &mut task.turn), if has_room => match next? {
                Some((input, batch)) => {
                    task.take(input, batch, &mut epoch)?;
                    is_behind = task.look_at_lag();
                }
                None => {
                    finish(task, epoch, &epochs).await?;
                    return Ok(TaskEnd::SourcesOver);
                }
            },
            () = sleep(LOOK_AT_LAG), if is_behind => is_behind = task.look_at_lag(),
        }
    }
}

/// Room for an epoch that is to end; that it has to be waited for is seen meanwhile.
async fn room_for_epoch<'e>(
    epochs: &'e mpsc::Sender<EndedEpoch>,
    waits: &Arc<Waits>,
) -> Result<Permit<'e, EndedEpoch>, SendError<()>> {
    let _wait = (epochs.capacity() == 0).then(|| waits.begin());
    epochs.reserve().await
}

/// Ends the last epoch, with a checkpoint, if there is anything to end.
async fn finish(task: &mut Task, epoch: Epoch, epochs: &mpsc::Sender<EndedEpoch>) -> Result<(), Stopped> {
    save_rest(task).await?;
    if epoch.is_empty() && !task.has_uncheckpointed {
        return Ok(());
    }
    let ended = task.end_last_epoch(epoch).await?;
    // When the committer is gone, awaiting it says why.
    let _ = epochs.send(ended).await;
    Ok(save_rest(task).await?)
}

/// Writes what is left of a checkpoint that is under way.
async fn save_rest(task: &mut Task) -> Result<()> {
    while let Some(saving) = task.saving() {
        let permit = room(Some(saving)).await;
        task.save_part(permit)?;
    }
    Ok(())
}

/// Room for the next part of a checkpoint; none when nobody wants it.
async fn room(saving: Option<mpsc::Sender<Part>>) -> Option<OwnedPermit<Part>> {
    saving?.reserve_owned().await.ok()
}

/// What a committer's end means.
fn why(ended: Result<Result<()>, JoinError>) -> StageError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => StageError::fatal("the committer has ended too early"),
        Err(error) => StageError::fatal("the committer failed").because(error),
    }
}
