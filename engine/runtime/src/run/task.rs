//! The reading and computing half of a task: rows go in, epochs come out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Partition, Position, Result, SourceBatch, StageError, Times, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Span, debug_span, warn};

use super::commit::{EndedEpoch, Part};
use super::compute::{Compute, EpochOutput};
use super::epoch::Epoch;
use super::input::Input;
use super::retry::until_store_works;
use super::shared::Shared;
use super::stored::{Ready, refusal};
use crate::bugs::{Bug, is_there};
use crate::store::{ClaimedTask, DeadLetter, EpochEntry, KeptBatch, Segment};

mod saving;

/// When a checkpoint is due and the one before is not published yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// When so many bytes of rows that cannot be read again are in the log, a checkpoint is due: it is what the log holds of
/// them, and what a restart has to read.
const MAX_KEPT_BETWEEN_CHECKPOINTS: usize = 64 << 20;

/// Dead letters that are processed again in one epoch: more would be faster, but each may have megabytes.
const MAX_REPLAYED: u32 = 100;

/// The reading and computing half of a task.
pub struct Task {
    /// What it shares with others.
    pub shared: Arc<Shared>,
    partition: Partition,
    compute: Compute,
    /// In the order of the file.
    pub inputs: Vec<Input>,
    /// Which input is looked at first; see [`next_of`](super::input::next_of).
    pub turn: usize,
    /// The last epoch that has ended.
    epoch: u64,
    ended_at: Timestamp,
    watermark: Option<Timestamp>,
    next_checkpoint: Instant,
    /// Something has happened since the last checkpoint.
    pub has_uncheckpointed: bool,
    /// About how many bytes of rows the log has kept since the last checkpoint began, also by earlier owners of the task:
    /// where each of them ends before its time, nobody else would count them together.
    kept_bytes: usize,
    /// The right to begin a checkpoint: there is one at a time.
    checkpoint_permit: Arc<Semaphore>,
    /// Where the parts of the checkpoint that is under way go.
    saving: Option<mpsc::Sender<Part>>,
    /// Dead letters taken by this task: the store forgets them only once their epoch is logged.
    taken_letters: HashSet<i64>,
}

/// Of an epoch that begins: its number and its rows are known at its end.
fn new_span(task: &str) -> Span {
    debug_span!("epoch", task, epoch = Empty, rows = Empty)
}

impl Task {
    /// A task as of its checkpoint.
    pub fn new(
        shared: Arc<Shared>,
        partition: Partition,
        mut compute: Compute,
        inputs: Vec<Input>,
        claimed: &ClaimedTask,
    ) -> Self {
        let checkpoint = claimed.checkpoint.clone().unwrap_or_default();
        compute.begin_epoch(checkpoint.epoch + 1);
        let kept_bytes = claimed.log.iter().map(EpochEntry::kept_bytes).sum();
        let until_checkpoint = match MAX_KEPT_BETWEEN_CHECKPOINTS <= kept_bytes {
            // Before anything more is read.
            true => Duration::ZERO,
            false => shared.plan.settings.checkpoint_every,
        };
        Task {
            shared,
            partition,
            compute,
            inputs,
            turn: 0,
            epoch: checkpoint.epoch,
            ended_at: checkpoint.ended_at.unwrap_or(Timestamp(i64::MIN)),
            watermark: checkpoint.watermark,
            next_checkpoint: Instant::now() + until_checkpoint,
            has_uncheckpointed: false,
            kept_bytes,
            checkpoint_permit: Arc::new(Semaphore::new(1)),
            saving: None,
            taken_letters: HashSet::new(),
        }
    }

    /// The next epoch comes after this one.
    pub fn continue_after(&mut self, epoch: u64, ended_at: Timestamp) {
        (self.epoch, self.ended_at) = (epoch, ended_at);
        self.compute.begin_epoch(epoch + 1);
    }

    /// From here on it reads new rows.
    pub fn go_live(&mut self) {
        self.compute.is_live = true;
        self.shared.progress.live(&self.partition.name, self.compute.held());
    }

    /// The time to record. The clock may have been set back; what is recorded is never earlier than the epoch before.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now().max(self.ended_at)
    }

    /// Where each source goes on.
    pub fn positions(&self) -> Vec<(usize, Position)> {
        self.inputs.iter().map(|input| (input.source, input.position())).collect()
    }

    /// When the epoch is to end: its oldest row has waited long enough, or a checkpoint is due.
    pub fn deadline(&self, epoch: &Epoch) -> Instant {
        match epoch.began {
            Some(began) => began + self.shared.plan.settings.commit_every,
            None => self.next_checkpoint,
        }
    }

    /// Whether there is anything that has to end.
    pub fn has_deadline(&self, epoch: &Epoch) -> bool {
        epoch.began.is_some() || self.has_uncheckpointed
    }

    /// Whether the epoch is to end now.
    pub fn is_due(&self, epoch: &Epoch) -> bool {
        epoch.is_full() || (self.has_deadline(epoch) && self.deadline(epoch) <= Instant::now())
    }

    /// Notes how many rows are there and not read yet, and says whether there are any.
    pub fn look_at_lag(&self) -> bool {
        let lag = self.inputs.iter().map(Input::lag).sum();
        self.shared.progress.set_lag(&self.partition.name, lag);
        lag.is_some_and(|lag| 0 < lag)
    }

    /// Takes a batch that was read.
    pub fn take(&mut self, input: usize, batch: SourceBatch, epoch: &mut Epoch) -> Result<()> {
        let span = epoch.span.get_or_insert_with(|| new_span(&self.partition.name)).clone();
        let _in_span = span.enter();
        let input = &mut self.inputs[input];
        epoch.add(&self.shared.plan.stages[input.source].id, &batch.offsets, input.position());
        if input.is_kept() && !is_there(Bug::RowsNotKept) {
            epoch.keep(KeptBatch::new(&batch)?);
        }
        let bytes = batch.bytes();
        epoch.bytes += bytes;
        let rows = input.decode(batch)?;
        self.shared.progress.read((rows.rows.batch.num_rows() + rows.rejected.len()) as u64);
        self.watermark = self.watermark.max(input.latest(&rows));
        let source = input.source;
        self.compute.read(source, rows, bytes)?;
        epoch.most_made = self.compute.output().most_made();
        Ok(())
    }

    /// Reads a part of a logged epoch again.
    pub async fn read_again(&mut self, segment: &Segment, epoch: &mut Epoch) -> Result<()> {
        let source = self.shared.stage(&segment.source);
        let number = self.inputs.iter().position(|input| Some(input.source) == source);
        let number = number.ok_or_else(|| StageError::fatal(format!("there is no source `{}`", segment.source)))?;
        let (compute, watermark) = (&mut self.compute, &mut self.watermark);
        let id = &segment.source;
        self.inputs[number]
            .read_again(segment, |input, batch| {
                epoch.add(id, &batch.offsets, input.position());
                let bytes = batch.bytes();
                let rows = input.decode(batch)?;
                *watermark = (*watermark).max(input.latest(&rows));
                compute.read(input.source, rows, bytes)
            })
            .await
    }

    /// Takes dead letters that somebody wants processed again into the epoch, which must be empty: when it is computed
    /// again they come first, too. True when there are more.
    ///
    /// Those that do not fit the pipeline stay dead letters, with the reason.
    pub async fn take_dead_letters(&mut self, epoch: &mut Epoch) -> Result<bool> {
        let (letters, has_more) = self.requested_letters().await?;
        let mut refused = Vec::new();
        for (number, letter) in letters {
            match Ready::new(&self.shared.plan, &mut self.inputs, &letter.row) {
                Ok(ready) => {
                    ready.enter(&mut self.compute)?;
                    self.taken_letters.insert(number);
                    epoch.replayed.push(number);
                    epoch.stored.push(letter.row);
                }
                Err(why) => refused.push((number, refusal(&letter.reason, &why))),
            }
        }
        if let Some((number, reason)) = refused.first() {
            let (count, task) = (refused.len(), &self.partition.name);
            warn!(count, "dead letters of task `{task}` stay as they are, the first is {number}: {reason}");
            until_store_works(|| self.shared.store.refuse_replay(&refused)).await?;
        }
        Ok(has_more)
    }

    /// The next letters that are not on their way already, and whether there may be more.
    async fn requested_letters(&mut self) -> Result<(Vec<(i64, DeadLetter)>, bool)> {
        let (store, task) = (&self.shared.store, &self.partition.name);
        let mut after = 0;
        loop {
            let mut letters = until_store_works(|| store.replay_requests(task, after, MAX_REPLAYED)).await?;
            let is_full = letters.len() == MAX_REPLAYED as usize;
            after = letters.last().map_or(after, |(number, _)| *number);
            letters.retain(|(number, _)| !self.taken_letters.contains(number));
            if !letters.is_empty() || !is_full {
                return Ok((letters, is_full));
            }
        }
    }

    /// Begins to compute a logged epoch again, with the rows stored in it, which come first.
    pub fn begin_again(&mut self, entry: &EpochEntry, epoch: &mut Epoch) -> Result<()> {
        self.compute.begin_epoch(entry.epoch);
        for row in &entry.stored {
            Ready::new(&self.shared.plan, &mut self.inputs, row)?.enter(&mut self.compute)?;
            epoch.stored.push(row.clone());
        }
        Ok(())
    }

    /// Ends the computation of an epoch.
    pub fn end_compute(&mut self, ended_at: Timestamp) -> Result<EpochOutput> {
        self.compute.end_epoch(Times { now: ended_at, watermark: self.watermark })
    }

    /// Ends an epoch, with a checkpoint if one is due and the one before is published.
    pub fn end_epoch(&mut self, epoch: Epoch) -> Result<EndedEpoch> {
        self.kept_bytes += epoch.kept_bytes;
        let is_time = self.next_checkpoint <= Instant::now() || MAX_KEPT_BETWEEN_CHECKPOINTS <= self.kept_bytes;
        let is_due = is_time && (self.has_uncheckpointed || !epoch.is_empty());
        let permit = if is_due { self.checkpoint_permit.clone().try_acquire_owned().ok() } else { None };
        if is_due && permit.is_none() {
            self.next_checkpoint = Instant::now() + LOOK_AGAIN;
        }
        self.end(epoch, permit)
    }

    /// Ends the last epoch, with a checkpoint if there is anything to keep.
    pub async fn end_last_epoch(&mut self, epoch: Epoch) -> Result<EndedEpoch> {
        let permit = self.checkpoint_permit.clone().acquire_owned().await;
        self.end(epoch, permit.ok())
    }

    fn end(&mut self, epoch: Epoch, permit: Option<OwnedSemaphorePermit>) -> Result<EndedEpoch> {
        let ended_at = self.now();
        let output = self.end_compute(ended_at)?;
        self.continue_after(self.epoch + 1, ended_at);
        self.has_uncheckpointed |= !epoch.is_empty();
        let checkpoint = permit.map(|permit| self.begin_checkpoint(permit));
        let Epoch { segments, rows, hash, replayed, stored, reads, span, .. } = epoch;
        let entry = EpochEntry { epoch: self.epoch, ended_at, segments, rows, hash, stored };
        if let Some(span) = &span {
            span.record("epoch", self.epoch).record("rows", rows);
        }
        let (positions, ended) = (self.positions(), Instant::now());
        Ok(EndedEpoch { entry, output, replayed, positions, checkpoint, reads, ended, span })
    }
}
