//! Runs a plan: a task for each partition, until the sources are over or somebody says stop.

mod catch_up;
mod clock;
mod commit;
mod compute;
mod decode;
mod drive;
mod epoch;
mod input;
mod json_rows;
mod ledger;
mod log_writer;
mod outbox_worker;
mod progress;
mod recovery;
mod retry;
mod shared;
mod sink_worker;
mod source_worker;
mod supervisor;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline_stage::{Assignment, Kind, OutboxSink, Result, Role, StageError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use clock::{Clock, SystemClock};
pub use ledger::Counts;
pub use progress::{Lag, Progress, Snapshot};

use crate::plan::{Plan, RunSettings};
use crate::store::{self, StateStore};
use log_writer::LogWriter;
use outbox_worker::{Outbox, OutboxWorker};
use retry::until_it_works;
use shared::{Shared, start_sinks};
use source_worker::SourceWorker;
use supervisor::Supervisor;

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Everything there was to read is read; otherwise somebody said stop.
    pub is_complete: bool,
    /// How long it took.
    pub took: Duration,
    /// The books and the rest.
    pub progress: Snapshot,
    /// Alerts that wait still: by sink.
    pub waiting: Vec<(String, u64)>,
}

/// A run that was prepared: its state is open, nothing is read yet.
pub struct Run {
    plan: Arc<Plan>,
    settings: RunSettings,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    is_new: bool,
}

impl Run {
    /// Opens the state of a pipeline.
    ///
    /// # Errors
    /// When the state cannot be used; see [`store::open`].
    pub async fn prepare(plan: Arc<Plan>, settings: RunSettings) -> Result<Self> {
        let (location, name) = (plan.state_location(), plan.settings.name.clone());
        let store = until_it_works("state store", || store::open(&location, &name)).await?;
        let progress = Arc::new(Progress::new(plan.stages.len()));
        let is_new = until_it_works("state store", || store.setting("tasks")).await?.is_none();
        Ok(Run { plan, settings, store, clock: Arc::new(SystemClock), progress, is_new })
    }

    /// Where the state is, for people.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// Whether nothing was there before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// What is done so far; may be looked at while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Runs until the sources are over or `stop` becomes true. A stop ends the epoch, commits and checkpoints.
    ///
    /// # Errors
    /// What made the pipeline stop; everything before the last commit is safe.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<Summary> {
        self.check_tasks().await?;
        if !self.settings.cold_start {
            self.catch_up(&stop).await?;
        }
        self.run_plan(stop).await
    }

    async fn run_plan(self, stop: watch::Receiver<bool>) -> Result<Summary> {
        let began = Instant::now();
        let (sinks, outboxes) = start_sinks(&self.plan, &self.settings, &self.store, &self.clock).await?;
        let (sources, assignments) = self.start_sources()?;
        let shared = Arc::new(Shared {
            plan: self.plan.clone(),
            run: self.settings.clone(),
            store: self.store.clone(),
            log: LogWriter::start(self.store.clone()),
            clock: self.clock.clone(),
            progress: self.progress.clone(),
            sources,
            sinks,
        });
        let (stop_outboxes, outboxes_stop) = watch::channel(false);
        let mut workers = self.start_outboxes(outboxes, &outboxes_stop);
        let supervisor = Supervisor::new(shared.clone(), assignments, stop.clone());
        let is_complete = tokio::select! {
            ended = supervisor.run() => ended?,
            failed = first_failure(&mut workers) => return Err(failed),
        };
        if is_complete && !self.settings.catches_up {
            wait_for_outboxes(&shared, &mut workers, stop).await?;
        }
        // Receivers are gone only when the workers are.
        let _ = stop_outboxes.send(true);
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|error| StageError::fatal("an outbox failed").because(error))??;
        }
        let waiting = shared.outboxes().map(|outbox| (outbox.sink.clone(), outbox.waiting()));
        Ok(Summary {
            is_complete,
            took: began.elapsed(),
            progress: self.progress.snapshot(),
            waiting: waiting.filter(|(_, waiting)| 0 < *waiting).collect(),
        })
    }

    /// A series' state is in the task its key falls to: with another number of tasks it would be looked for elsewhere.
    async fn check_tasks(&self) -> Result<()> {
        let tasks = self.plan.leader().map_or(1, |(_, source)| source.tasks).to_string();
        let found = until_it_works("state store", || self.store.setting("tasks")).await?;
        match found {
            Some(found) if found != tasks && !self.settings.cold_start => Err(StageError::fatal(format!(
                "`tasks` is {tasks}, but the state in {} was made with {found}; `--cold-start` begins anew",
                self.store.place()
            ))),
            _ => until_it_works("state store", || self.store.set_setting("tasks", &tasks)).await,
        }
    }

    #[allow(clippy::type_complexity)]
    fn start_sources(&self) -> Result<(BTreeMap<usize, SourceWorker>, mpsc::Receiver<Result<Assignment>>)> {
        let (mut workers, mut assignments) = (BTreeMap::new(), None);
        let sources = self.plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Source);
        for (number, stage) in sources {
            let role = stage.source.as_ref().map_or(Role::Leader, |source| source.role);
            let source = self.plan.build_source(number, &self.settings)?;
            let (worker, changes) = SourceWorker::start(&stage.id, source, role);
            if role == Role::Leader {
                assignments = Some(changes);
            }
            workers.insert(number, worker);
        }
        let assignments = assignments.ok_or_else(|| StageError::fatal("there is no source"))?;
        Ok((workers, assignments))
    }

    fn start_outboxes(
        &self,
        outboxes: Vec<(Arc<Outbox>, Box<dyn OutboxSink>)>,
        stop: &watch::Receiver<bool>,
    ) -> JoinSet<Result<()>> {
        let mut workers = JoinSet::new();
        let holder = format!("{}-{:?}", std::process::id(), self.clock.now());
        for (outbox, sink) in outboxes {
            let worker = OutboxWorker {
                outbox,
                sink,
                store: self.store.clone(),
                clock: self.clock.clone(),
                holder: holder.clone(),
                leased_until: None,
                stop: stop.clone(),
            };
            workers.spawn(worker.run());
        }
        workers
    }
}

/// Waits for a worker that fails; for ever if none does.
async fn first_failure(workers: &mut JoinSet<Result<()>>) -> StageError {
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return StageError::fatal("an outbox failed").because(error),
        }
    }
    std::future::pending().await
}

/// A run that is complete has delivered its alerts; somebody who does not want to wait says stop.
async fn wait_for_outboxes(
    shared: &Shared,
    workers: &mut JoinSet<Result<()>>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let emptied = async {
        for outbox in shared.outboxes() {
            outbox.emptied().await;
        }
    };
    tokio::select! {
        () = emptied => Ok(()),
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        failed = first_failure(workers) => Err(failed),
    }
}
