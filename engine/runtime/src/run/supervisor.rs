//! Starts a task for each partition this process owns, and stops it when it does not any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Assignment, ErrorKind, Partition, Result, StageError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};

use super::drive::{Order, TaskEnd, run_task};
use super::owned::Owned;
use super::shared::Shared;
use super::taken::Taken;

/// How long a revoked partition's task may take to commit and checkpoint before it is dropped: the next owner replays.
const REVOKE_WITHIN: Duration = Duration::from_secs(20);
/// How long a stop waits for sinks that do not answer; what is logged is computed again by the next run.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// A task whose stage dies at once must not make the machine busy with starting it.
const FIRST_RESTART_PAUSE: Duration = Duration::from_millis(100);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody wants dead letters processed again.
const LOOK_FOR_REPLAYS: Duration = Duration::from_secs(2);

/// How a run has ended that has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Everything there was to read is read and committed.
    Complete,
    /// Somebody said stop; everything that was read is committed.
    Told,
    /// Somebody said stop, but a sink did not answer: the next run computes again what is not committed.
    Uncommitted,
}

/// Runs the tasks of a process.
pub struct Supervisor {
    shared: Arc<Shared>,
    assignments: mpsc::Receiver<Result<Assignment>>,
    stop: watch::Receiver<bool>,
    tasks: JoinSet<Result<TaskEnd>>,
    running: BTreeMap<Id, Running>,
    taken: Taken,
    /// Of a source whose partitions move.
    owned: Option<Owned>,
    replays: watch::Sender<u64>,
    /// No assignment will come any more.
    is_final: bool,
    was_assigned: bool,
    is_stopping: bool,
    stop_by: Option<Instant>,
    has_given_up: bool,
}

struct Running {
    partition: Partition,
    order: watch::Sender<Order>,
    abort: AbortHandle,
    /// Set when the partition was revoked.
    drop_at: Option<Instant>,
    is_lost: bool,
    /// How often it has been started again.
    restarts: u32,
}

impl Supervisor {
    /// Nothing runs yet.
    pub fn new(
        shared: Arc<Shared>,
        assignments: mpsc::Receiver<Result<Assignment>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let moves = shared.plan.leader().is_some_and(|(_, source)| source.has_partitions);
        Supervisor {
            owned: moves.then(|| Owned::new(shared.progress.clone())),
            shared,
            assignments,
            stop,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            taken: Taken::default(),
            replays: watch::channel(0).0,
            is_final: false,
            was_assigned: false,
            is_stopping: false,
            stop_by: None,
            has_given_up: false,
        }
    }

    /// Runs until all tasks have ended, and says why they have.
    ///
    /// # Errors
    /// The first of any task, once the others have committed what they could.
    pub async fn run(mut self) -> Result<RunEnd> {
        let mut look = interval(LOOK_FOR_REPLAYS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failure = None;
        let mut stop = self.stop.clone();
        while !self.is_done() {
            let stop_by = self.stop_by;
            let drop_at = self.running.values().filter_map(|task| task.drop_at).min();
            let claim_at = self.taken.next().filter(|_| !self.is_stopping);
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop), if !self.is_stopping => self.finish_all(),
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Err(error) = self.ended(ended).await {
                        failure.get_or_insert(error);
                        self.finish_all();
                    }
                }
                assignment = self.assignments.recv(), if !self.is_final && !self.is_stopping => {
                    if let Err(error) = self.assigned(assignment) {
                        failure.get_or_insert(error);
                        self.finish_all();
                    }
                }
                _ = look.tick() => self.look_for_replays().await,
                () = sleep_until(drop_at.unwrap_or_else(Instant::now)), if drop_at.is_some() => self.drop_overdue(),
                () = sleep_until(claim_at.unwrap_or_else(Instant::now)), if claim_at.is_some() => self.claim_again(),
                () = sleep_until(stop_by.unwrap_or_else(Instant::now)), if stop_by.is_some() => self.give_up(),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if self.has_given_up => Ok(RunEnd::Uncommitted),
            None if self.is_stopping => Ok(RunEnd::Told),
            None => Ok(RunEnd::Complete),
        }
    }

    fn is_done(&self) -> bool {
        let all_came = self.is_final || (self.shared.run.once && self.was_assigned && !self.taken.is_waiting());
        let nothing_will_come = self.is_stopping || all_came;
        self.running.is_empty() && nothing_will_come
    }

    fn finish_all(&mut self) {
        self.is_stopping = true;
        self.stop_by = Some(Instant::now() + STOP_WITHIN);
        for outbox in self.shared.outboxes() {
            outbox.stop_waiting();
        }
        for task in self.running.values() {
            task.order.send_replace(Order::Finish);
        }
    }

    /// The sinks have not answered in time.
    fn give_up(&mut self) {
        (self.stop_by, self.has_given_up) = (None, true);
        for task in self.running.values() {
            warn!("task `{}` could not commit what it has read: the next run computes it again", task.partition);
            task.abort.abort();
        }
    }

    fn assigned(&mut self, assignment: Option<Result<Assignment>>) -> Result<()> {
        if let Some(Ok(change)) = &assignment {
            self.shared.progress.view.assigned();
            self.taken.said(change);
            self.owned.iter_mut().for_each(|owned| owned.change(change));
        }
        match assignment {
            Some(Ok(Assignment::Gained(partitions))) => {
                self.was_assigned = true;
                for partition in self.with_tasks(partitions) {
                    self.start(partition, 0);
                }
            }
            Some(Ok(Assignment::Revoked(partitions))) => self.revoke(&partitions),
            Some(Ok(Assignment::Lost(partitions))) => self.lose(&partitions),
            Some(Ok(Assignment::Final)) | None => self.is_final = true,
            Some(Err(error)) => {
                let id = self.shared.source_stages().next().map_or("source", |source| self.shared.id(source));
                return Err(error.named(id));
            }
        }
        Ok(())
    }

    /// A source without partitions of its own gives one, which is split into `tasks:`.
    fn with_tasks(&self, partitions: Vec<Partition>) -> Vec<Partition> {
        match self.shared.plan.leader() {
            Some((_, source)) if 1 < source.tasks => (0..source.tasks).map(Partition::numbered).collect(),
            _ => partitions,
        }
    }

    /// A task that has failed `restarts` times waits before it starts.
    fn start(&mut self, partition: Partition, restarts: u32) {
        let (order, orders) = watch::channel(Order::Run);
        let task = run_task(self.shared.clone(), partition.clone(), orders, self.replays.subscribe());
        let pause = MAX_RESTART_PAUSE.min(FIRST_RESTART_PAUSE * restarts.saturating_mul(restarts));
        let abort = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            task.await
        });
        let running = Running { partition, order, abort: abort.clone(), drop_at: None, is_lost: false, restarts };
        self.running.insert(abort.id(), running);
    }

    fn revoke(&mut self, partitions: &[Partition]) {
        for task in self.running.values_mut().filter(|task| partitions.contains(&task.partition)) {
            task.order.send_replace(Order::Finish);
            task.drop_at = Some(Instant::now() + REVOKE_WITHIN);
        }
    }

    fn lose(&mut self, partitions: &[Partition]) {
        for task in self.running.values_mut().filter(|task| partitions.contains(&task.partition)) {
            task.is_lost = true;
            task.abort.abort();
        }
    }

    fn drop_overdue(&mut self) {
        for task in self.running.values_mut().filter(|task| task.drop_at.is_some_and(|at| at <= Instant::now())) {
            warn!(
                "task `{}` could not commit in time and is dropped: its next owner computes the rest again",
                task.partition
            );
            task.drop_at = None;
            task.abort.abort();
        }
    }

    async fn ended(&mut self, ended: Result<(Id, Result<TaskEnd>), JoinError>) -> Result<()> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) if error.is_cancelled() => (error.id(), Ok(TaskEnd::Told)),
            Err(error) => (error.id(), Err(StageError::fatal("a task failed").because(error))),
        };
        let Some(task) = self.running.remove(&id) else { return Ok(()) };
        match outcome {
            Ok(end) => {
                self.let_go(&task).await;
                if end == TaskEnd::SourcesOver {
                    debug!("task `{}` has read everything there was", task.partition);
                }
                Ok(())
            }
            Err(error) if task.is_lost || task.drop_at.is_some() => {
                warn!("task `{}`, which another process takes over, has ended: {}", task.partition, error.chain());
                self.let_go(&task).await;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::TakenOver => {
                warn!("task `{}` is dropped here, and nothing of it is written: {}", task.partition, error.chain());
                self.let_go(&task).await;
                if self.is_stopping { Ok(()) } else { self.taken.add(&task.partition, &self.shared.store.place()) }
            }
            Err(error) if error.kind() == ErrorKind::Lost && !self.is_stopping => {
                warn!("task `{}`: {}; it starts again from its checkpoint", task.partition, error.chain());
                self.start(task.partition, task.restarts + 1);
                Ok(())
            }
            Err(error) => {
                self.let_go(&task).await;
                Err(error)
            }
        }
    }

    fn claim_again(&mut self) {
        for partition in self.taken.claim_again() {
            warn!(
                "task `{partition}`: its partition has not moved to the process that took it over: it is claimed again"
            );
            self.start(partition, 0);
        }
    }

    async fn let_go(&self, task: &Running) {
        if task.is_lost {
            return;
        }
        for source in self.shared.sources.values() {
            source.release(&task.partition).await;
        }
    }

    async fn look_for_replays(&self) {
        match self.shared.store.tasks_to_replay().await {
            Ok(tasks) if !tasks.is_empty() => self.replays.send_modify(|round| *round += 1),
            Ok(_) => {}
            // The next look is soon; the tasks themselves say so if the store is down.
            Err(error) => debug!("the state store cannot be asked for replays: {}", error.chain()),
        }
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
