//! What all tasks of a run share.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_stage::{BuiltSink, Delivery, Kind, OutboxSink, Result, StageError};

use super::clock::Clock;
use super::log_writer::LogWriter;
use super::outbox::Outbox;
use super::progress::Progress;
use super::retry::until_store_works;
use super::sink_worker::{Bury, RefusedRow, SinkWorker};
use super::source_worker::SourceWorker;
use crate::plan::{Plan, RunSettings};
use crate::store::{DeadLetter, StateStore, StoredRow};

/// What all tasks of a run share.
pub struct Shared {
    /// What is run.
    pub plan: Arc<Plan>,
    /// How.
    pub run: RunSettings,
    /// Where state is kept.
    pub store: Arc<dyn StateStore>,
    /// The way to the epoch log.
    pub log: LogWriter,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is done so far.
    pub progress: Arc<Progress>,
    /// The sources by stage.
    pub sources: BTreeMap<usize, SourceWorker>,
    /// The sinks by stage.
    pub sinks: BTreeMap<usize, SinkEnd>,
}

/// The two ends a row can have.
pub enum SinkEnd {
    /// Committed by epochs.
    Epochs(SinkWorker, Delivery),
    /// Put into an outbox.
    Outbox(Arc<Outbox>),
}

impl Shared {
    /// The id of a stage.
    pub fn id(&self, stage: usize) -> &str {
        &self.plan.stages[stage].id
    }

    /// The number of a stage.
    pub fn stage(&self, id: &str) -> Option<usize> {
        self.plan.stages.iter().position(|stage| stage.id == id)
    }

    /// The sources in the order of the file; the first leads.
    pub fn source_stages(&self) -> impl Iterator<Item = usize> {
        self.sources.keys().copied()
    }

    /// The outboxes.
    pub fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.sinks.values().filter_map(|sink| match sink {
            SinkEnd::Outbox(outbox) => Some(outbox),
            SinkEnd::Epochs(..) => None,
        })
    }
}

/// Builds the sinks of a plan and starts their workers. Gives the outboxes' sinks too: their workers come last.
pub async fn start_sinks(
    plan: &Plan,
    run: &RunSettings,
    store: &Arc<dyn StateStore>,
    clock: &Arc<dyn Clock>,
) -> Result<(BTreeMap<usize, SinkEnd>, Vec<(Arc<Outbox>, Box<dyn OutboxSink>)>)> {
    let (mut ends, mut outboxes) = (BTreeMap::new(), Vec::new());
    let sinks = plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Sink);
    for (number, stage) in sinks {
        let end = match plan.build_sink(number, run)? {
            BuiltSink::Epochs(sink) => {
                let bury = Graveyard { sink: stage.id.clone(), store: store.clone(), clock: clock.clone() };
                let delivery = sink.delivery();
                SinkEnd::Epochs(SinkWorker::start(&stage.id, sink, Box::new(bury)), delivery)
            }
            BuiltSink::Outbox(sink) => {
                let mut pace = sink.pace();
                // An outbox that holds nothing could never be emptied into.
                pace.max_pending = pace.max_pending.max(1);
                let outbox = Outbox::open(&stage.id, pace, store.clone()).await?;
                outboxes.push((outbox.clone(), sink));
                SinkEnd::Outbox(outbox)
            }
        };
        ends.insert(number, end);
    }
    Ok((ends, outboxes))
}

/// Where a sink's refused rows go.
struct Graveyard {
    sink: String,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Bury for Graveyard {
    async fn bury(&self, task: &str, epoch: u64, rows: &[RefusedRow]) -> Result<()> {
        let letters: Vec<DeadLetter> = rows
            .iter()
            .map(|row| {
                let bytes = serde_json::to_vec(&row.row).map_err(|error| StageError::fatal(error.to_string()))?;
                let stored = StoredRow {
                    stage: self.sink.clone(),
                    place: row.place.to_string(),
                    offset: row.offset,
                    branch: row.branch,
                    bytes: Some(bytes),
                    ..StoredRow::default()
                };
                let (reason, at) = (row.reason.clone(), self.clock.now());
                Ok(DeadLetter { row: stored, task: task.into(), epoch, reason, at })
            })
            .collect::<Result<_>>()?;
        until_store_works(|| self.store.add_dead_letters(&letters)).await
    }
}
