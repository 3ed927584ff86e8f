//! Runs a plan: a task for each partition, until the sources are over or somebody says stop.

mod catch_up;
mod claim;
mod clock;
mod commit;
mod compute;
mod decode;
mod deliveries;
mod drive;
mod epoch;
mod evidence;
pub mod health;
mod input;
mod instance;
mod json_rows;
mod lease;
mod ledger;
mod log_writer;
mod origins;
mod outbox;
mod outbox_worker;
mod owned;
mod progress;
mod rebuild;
mod recovery;
mod retry;
mod shared;
mod sink_worker;
mod source_worker;
mod stored;
mod supervisor;
mod taken;
mod task;
mod told;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Assignment, Kind, Result, Role, Source, StageError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

pub use clock::{Clock, SystemClock};
pub(crate) use compute::Compute;
pub(crate) use decode::Decode;
pub(crate) use input::{latest, time_column};
pub use json_rows::{json_of, rows_of_json};
pub use ledger::Counts;
pub use progress::{Lag, Partitions, Progress, Snapshot};

use crate::changes::can_replay;
use crate::plan::{Plan, RunSettings, Stage};
use crate::store::{self, StateStore};
use deliveries::Deliveries;
use log_writer::LogWriter;
use retry::{Retry, pause_unlike_others, until_store_works};
use shared::{Shared, start_sinks};
use source_worker::SourceWorker;
pub use supervisor::RunEnd;
use supervisor::Supervisor;

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Why.
    pub end: RunEnd,
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
        pause_unlike_others();
        let (location, name) = (plan.state_location(), plan.settings.name.clone());
        let store = until_store_works(|| store::open(&location, &name)).await?;
        Run::on(plan, settings, store, Arc::new(SystemClock)).await
    }

    /// Prepares a run on a state that is open already, by another clock than the machine's: tests simulate both.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn on(
        plan: Arc<Plan>,
        settings: RunSettings,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let progress = Arc::new(Progress::new(plan.stages.len()));
        let is_new = until_store_works(|| store.setting("tasks")).await?.is_none();
        Ok(Run { plan, settings, store, clock, progress, is_new })
    }

    /// Where the state is, for people.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// The state, for those who look into it while the pipeline runs.
    pub fn store(&self) -> Arc<dyn StateStore> {
        self.store.clone()
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
        self.check_rebuild()?;
        match self.catch_up(&stop).await {
            Err(error) if self.settings.cold_start => warn!("{}; what was logged is given up", error.chain()),
            caught_up => caught_up?,
        }
        self.check_tasks().await?;
        self.run_plan(stop).await
    }

    async fn run_plan(self, stop: watch::Receiver<bool>) -> Result<Summary> {
        let began = Instant::now();
        let (sinks, outboxes) = start_sinks(&self.plan, &self.settings, &self.store, &self.clock).await?;
        self.progress.view.outboxes_are(&sinks);
        let (sources, assignments) = self.start_sources().await?;
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
        let mut deliveries = Deliveries::start(outboxes, &self.store, &self.clock);
        let supervisor = Supervisor::new(shared.clone(), assignments, stop.clone());
        let mut ended = tokio::select! {
            biased;
            ended = supervisor.run() => ended,
            failed = deliveries.failed() => Err(failed),
        };
        if matches!(ended, Ok(RunEnd::Complete)) && !self.settings.catches_up {
            let emptied = deliveries.emptied(stop.clone()).await;
            ended = emptied.map(|()| if *stop.borrow() { RunEnd::Told } else { RunEnd::Complete });
        }
        // After a failure, too: a delivery under way is noted, and its outbox is free for the next run.
        let waiting = deliveries.stop().await;
        let end = ended?;
        Ok(Summary { end, took: began.elapsed(), progress: self.progress.snapshot(), waiting: waiting? })
    }

    fn check_rebuild(&self) -> Result<()> {
        let known: Vec<String> = self.plan.stages_with_state().into_iter().map(|stage| stage.id).collect();
        if let Some(id) = self.settings.rebuild.iter().find(|id| !known.contains(id)) {
            let known: Vec<String> = known.iter().map(|id| format!("`{id}`")).collect();
            return Err(StageError::config(format!(
                "`--rebuild {id}` names no transform or detector of this pipeline, it has {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        match self.settings.rebuild.first() {
            Some(id) if !can_replay(&self.plan, &self.settings) => Err(StageError::config(format!(
                "`--rebuild {id}`: a source of this pipeline cannot be read again; `pipeline state FILE reset --stage \
                 {id}` lets the stage begin anew"
            ))),
            _ => Ok(()),
        }
    }

    /// A series' state is in the task its key falls to: with another number of tasks it would be looked for elsewhere.
    async fn check_tasks(&self) -> Result<()> {
        let store = &self.store;
        let tasks = self.plan.leader().map_or(1, |(_, source)| source.tasks).to_string();
        let found = until_store_works(|| store.setting("tasks")).await?.unwrap_or_else(|| tasks.clone());
        if found != tasks && !self.settings.cold_start {
            return Err(StageError::fatal(format!(
                "`tasks` is {tasks}, but the state in {} was made with {found}; `--cold-start` begins anew",
                store.place()
            )));
        }
        if found != tasks {
            warn!("`tasks` was {found} and is {tasks} now: all tasks begin anew");
            for task in until_store_works(|| store.tasks()).await? {
                let claimed = until_store_works(|| store.claim(&task)).await?;
                let above = claim::last_epoch(&claimed);
                until_store_works(|| store.begin_anew(&task, claimed.generation, above)).await?;
            }
        }
        until_store_works(|| store.set_setting("tasks", &tasks)).await
    }

    #[allow(clippy::type_complexity)]
    async fn start_sources(&self) -> Result<(BTreeMap<usize, SourceWorker>, mpsc::Receiver<Result<Assignment>>)> {
        let instance = self.instance().await?;
        let mut sources = Vec::new();
        for (number, stage) in self.plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Source) {
            sources.push((number, stage, self.plan.build_source(number, &self.settings, instance.as_deref())?));
        }
        if 1 < sources.len() {
            check_partitions(&mut sources).await?;
        }
        let (mut workers, mut assignments) = (BTreeMap::new(), None);
        for (number, stage, source) in sources {
            let role = stage.source.as_ref().map_or(Role::Leader, |source| source.role);
            let (worker, changes) = SourceWorker::start(&stage.id, source, role);
            if role == Role::Leader {
                assignments = Some(changes);
            }
            workers.insert(number, worker);
        }
        let assignments = assignments.ok_or_else(|| StageError::fatal("there is no source"))?;
        Ok((workers, assignments))
    }
}

/// A task reads the same partition of every source: one that has more would be read in part only.
async fn check_partitions(sources: &mut [(usize, &Stage, Box<dyn Source>)]) -> Result<()> {
    let mut first: Option<(&str, u32)> = None;
    for (_, stage, source) in sources {
        let mut retry = Retry::new(stage.id.as_str());
        let count = loop {
            match source.partition_count().await {
                Ok(count) => break count,
                Err(error) => retry.wait(error).await?,
            }
        };
        match (first, count) {
            (None, Some(count)) => first = Some((&stage.id, count)),
            (Some((leader, of_leader)), Some(count)) if of_leader != count => {
                return Err(StageError::config(format!(
                    "`{leader}` has {of_leader} partitions, `{}` has {count}: sources of one pipeline must have equally many",
                    stage.id
                )));
            }
            _ => {}
        }
    }
    Ok(())
}
