//! The second half of a task: what it has computed becomes durable, epoch by epoch, in order.
//!
//! log → sinks, with marks → now and then a checkpoint, published when every mark has reached it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use pipeline_stage::{Alert, Delivery, EpochRows, Mark, Partition, Position, Result, Rows, StageError, row_to_json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug_span};

use super::compute::{Dead, EpochOutput};
use super::retry::until_store_works;
use super::shared::{Shared, SinkEnd};
use super::sink_worker::Committed;
use crate::bugs::{Bug, is_there};
use crate::store::{Append, DeadLetter, EpochEntry, NewAlert};

mod checkpoint;

pub use checkpoint::{NewCheckpoint, Part};

/// An epoch that has ended and waits to be made durable.
pub struct EndedEpoch {
    /// What the log is to hold.
    pub entry: EpochEntry,
    /// What was computed.
    pub output: EpochOutput,
    /// Dead letters that were processed again.
    pub replayed: Vec<i64>,
    /// Where each source goes on.
    pub positions: Vec<(usize, Position)>,
    /// A checkpoint that begins with this epoch's end.
    pub checkpoint: Option<NewCheckpoint>,
    /// When its rows were read, and how many.
    pub reads: Vec<(Instant, u64)>,
    /// When it ended.
    pub ended: Instant,
    /// From its first row to its commit, for traces.
    pub span: Option<Span>,
}

/// Who commits: a task and its place in the world.
pub struct Committer {
    /// What all tasks share.
    pub shared: Arc<Shared>,
    /// The task's name.
    pub task: String,
    /// Its partition.
    pub partition: Partition,
    /// Made with its state.
    pub state_id: String,
    /// Of this owner.
    pub generation: u64,
    /// For each sink, the epoch its mark has.
    pub marks: BTreeMap<usize, u64>,
    /// Marks that the engine keeps for sinks and has not stored yet.
    pub unsaved_marks: BTreeMap<usize, Mark>,
    /// The checkpoint being written.
    pub writing: Option<JoinHandle<Result<()>>>,
}

impl Committer {
    /// Commits whatever comes until there is no more, then waits for the last checkpoint.
    pub async fn run(mut self, mut epochs: mpsc::Receiver<EndedEpoch>) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                // A checkpoint that failed ends the task at once.
                written = self.written(), if self.writing.is_some() => written?,
                epoch = epochs.recv() => match epoch {
                    Some(epoch) => {
                        let span = epoch.span.clone().unwrap_or_else(Span::none);
                        self.commit_live(epoch).instrument(span).await?;
                    }
                    None => return self.written().await,
                },
            }
        }
    }

    async fn commit_live(&mut self, mut ended: EndedEpoch) -> Result<()> {
        let alerts = self.alerts(&mut ended.output).await;
        let put: Vec<(String, u64)> = count_by_sink(&alerts);
        let dead = self.dead_reasons(&ended.output.dead);
        let without_rows = ended.entry.without_rows();
        let entry = std::mem::replace(&mut ended.entry, without_rows);
        let append = Append {
            task: self.task.clone(),
            generation: self.generation,
            entry,
            dead_letters: self.dead_letters(&mut ended),
            replayed: std::mem::take(&mut ended.replayed),
            alerts,
            evidence: std::mem::take(&mut ended.output.evidence),
            marks: self.unsaved_marks.values().cloned().collect(),
        };
        if is_there(Bug::CommitBeforeLog) {
            self.commit_epoch(&mut ended).await?;
        }
        if is_there(Bug::LettersBeforeLog) {
            until_store_works(|| self.shared.store.add_dead_letters(&append.dead_letters)).await?;
        }
        if is_there(Bug::AcknowledgedBeforeLog) {
            self.acknowledge(&ended.positions).await;
        }
        self.shared.log.append(append).instrument(debug_span!("log")).await?;
        self.unsaved_marks.clear();
        for outbox in self.shared.outboxes() {
            let count = put.iter().find(|(sink, _)| *sink == outbox.sink).map_or(0, |(_, count)| *count);
            outbox.put(count);
        }
        self.acknowledge(&ended.positions).await;
        self.commit_epoch(&mut ended).await?;
        let output = &ended.output;
        self.shared.progress.committed(&self.task, &output.counts, output.anomalies, ended.ended.elapsed());
        self.shared.progress.view.committed(&self.task, &mut ended, &dead);
        if let Some(checkpoint) = ended.checkpoint.take() {
            self.write_checkpoint(checkpoint, ended.positions).await?;
        }
        Ok(())
    }

    /// Tells the sources up to where everything is logged.
    async fn acknowledge(&self, positions: &[(usize, Position)]) {
        for (source, position) in positions {
            self.shared.sources[source].logged(&self.partition, position.clone()).await;
        }
    }

    /// Gives the sinks their rows of an epoch, those that have not had it already.
    pub async fn commit_epoch(&mut self, ended: &mut EndedEpoch) -> Result<()> {
        let epoch = ended.entry.epoch;
        let positions = positions_text(&self.shared, &ended.positions);
        let is_checkpoint = ended.checkpoint.is_some();
        let mut commits = Vec::new();
        for (stage, end) in &self.shared.sinks {
            let SinkEnd::Epochs(worker, delivery) = end else { continue };
            let rows = std::mem::take(&mut ended.output.sinks[*stage]);
            let has_it = self.marks.get(stage).is_some_and(|mark| epoch <= *mark);
            // An epoch without rows moves no mark, but before a checkpoint all marks come up to it.
            if has_it || (rows.is_empty() && !is_checkpoint) {
                continue;
            }
            let mark = self.mark(*stage, epoch, &positions);
            let view = &self.shared.progress.view;
            let commit = async move {
                let began = Instant::now();
                let committed = worker.commit(EpochRows { mark, rows }).await?;
                view.sink_committed(*stage, began.elapsed());
                Ok((*stage, *delivery, committed))
            };
            commits.push(commit.instrument(debug_span!("commit", sink = self.shared.id(*stage))));
        }
        let committed: Vec<(usize, Delivery, Committed)> =
            try_join_all(commits).await.map_err(|error: StageError| error)?;
        for (stage, delivery, committed) in committed {
            self.marks.insert(stage, epoch);
            let refused = committed.refused.len() as u64;
            self.shared.progress.view.refused(stage, committed.refused.iter().map(|row| row.reason.clone()));
            if let Some(counts) = ended.output.counts.get_mut(stage) {
                counts.out -= refused;
                counts.dead += refused;
                counts.check(self.shared.id(stage))?;
            }
            if delivery != Delivery::Transactional {
                self.unsaved_marks.insert(stage, committed.mark);
            }
        }
        Ok(())
    }

    /// The mark of a sink after an epoch.
    pub fn mark(&self, stage: usize, epoch: u64, positions: &str) -> Mark {
        Mark {
            pipeline: self.shared.plan.settings.name.clone(),
            sink: self.shared.id(stage).into(),
            task: self.task.clone(),
            state_id: self.state_id.clone(),
            generation: self.generation,
            epoch,
            positions: positions.into(),
            detail: None,
        }
    }

    async fn alerts(&self, output: &mut EpochOutput) -> Vec<NewAlert> {
        let mut all = Vec::new();
        for (stage, end) in &self.shared.sinks {
            let SinkEnd::Outbox(outbox) = end else { continue };
            let mut alerts = Vec::new();
            for rows in std::mem::take(&mut output.sinks[*stage]) {
                alerts.extend((0..rows.batch.num_rows()).map(|row| self.alert(&outbox.sink, &rows, row)));
            }
            outbox.admit(&mut alerts).await;
            all.extend(alerts);
        }
        all
    }

    fn alert(&self, sink: &str, rows: &Rows, row: usize) -> NewAlert {
        let id = rows.origins.row_id(&self.shared.plan.settings.name, row);
        NewAlert {
            sink: sink.into(),
            alert: Alert { id, row: row_to_json(&rows.batch, row), digest_of: None },
            is_excess: false,
            place: rows.origins.place.to_string(),
            offset: rows.origins.offsets[row],
            branch: rows.origins.branch(row),
        }
    }

    fn dead_letters(&self, ended: &mut EndedEpoch) -> Vec<DeadLetter> {
        let (epoch, at) = (ended.entry.epoch, ended.entry.ended_at);
        let letters = std::mem::take(&mut ended.output.dead).into_iter();
        let letters =
            letters.map(|Dead { row, reason }| DeadLetter { row, task: self.task.clone(), epoch, reason, at });
        letters.collect()
    }

    fn dead_reasons(&self, dead: &[Dead]) -> Vec<(usize, String)> {
        dead.iter().filter_map(|dead| Some((self.shared.stage(&dead.row.stage)?, dead.reason.clone()))).collect()
    }
}

/// A task that is dropped stops writing: the partition has another owner.
impl Drop for Committer {
    fn drop(&mut self) {
        if let Some(writing) = &self.writing {
            writing.abort();
        }
    }
}

fn count_by_sink(alerts: &[NewAlert]) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for alert in alerts {
        match counts.last_mut() {
            Some((sink, count)) if *sink == alert.sink => *count += 1,
            _ => counts.push((alert.sink.clone(), 1)),
        }
    }
    counts
}

/// `{"readings":1042}`, for people who look at a mark.
fn positions_text(shared: &Shared, positions: &[(usize, Position)]) -> String {
    let offsets = positions.iter().map(|(source, position)| (shared.id(*source).to_string(), position.offset.into()));
    serde_json::Value::Object(offsets.collect()).to_string()
}
