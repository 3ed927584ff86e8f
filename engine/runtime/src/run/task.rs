//! The reading and computing half of a task: rows go in, epochs come out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use pipeline_stage::{Kind, Origins, Partition, Position, Result, Rows, SourceBatch, StageError, Times, Timestamp};

use super::commit::EndedEpoch;
use super::compute::{Compute, EpochOutput};
use super::epoch::{Epoch, MAX_EPOCH_ROWS};
use super::input::Input;
use super::json_rows::rows_of_json;
use super::retry::until_it_works;
use super::shared::Shared;
use crate::store::{Checkpoint, ClaimedTask, DeadLetter, EpochEntry, Segment, StoredRow};

/// Dead letters that are processed again in one epoch.
const MAX_REPLAYED: u32 = 1_000;

/// The reading and computing half of a task.
pub struct Task {
    shared: Arc<Shared>,
    partition: Partition,
    compute: Compute,
    /// In the order of the file.
    pub inputs: Vec<Input>,
    /// The last epoch that has ended.
    epoch: u64,
    ended_at: Timestamp,
    watermark: Option<Timestamp>,
    next_checkpoint: Instant,
    /// Something has happened since the last checkpoint.
    pub has_uncheckpointed: bool,
    /// Dead letters taken by this task: the store forgets them only once their epoch is logged.
    taken_letters: HashSet<i64>,
}

impl Task {
    /// A task as of its checkpoint.
    pub fn new(
        shared: Arc<Shared>,
        partition: Partition,
        compute: Compute,
        inputs: Vec<Input>,
        claimed: &ClaimedTask,
    ) -> Self {
        let checkpoint = claimed.checkpoint.clone().unwrap_or_default();
        let next_checkpoint = Instant::now() + shared.plan.settings.checkpoint_every;
        Task {
            shared,
            partition,
            compute,
            inputs,
            epoch: checkpoint.epoch,
            ended_at: checkpoint.ended_at.unwrap_or(Timestamp(i64::MIN)),
            watermark: checkpoint.watermark,
            next_checkpoint,
            has_uncheckpointed: false,
            taken_letters: HashSet::new(),
        }
    }

    /// The next epoch comes after this one.
    pub fn continue_after(&mut self, epoch: u64, ended_at: Timestamp) {
        (self.epoch, self.ended_at) = (epoch, ended_at);
    }

    /// Where each source goes on.
    pub fn positions(&self) -> Vec<(usize, Position)> {
        self.inputs.iter().map(|input| (input.source, input.position())).collect()
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.partition.name
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
        let is_full = MAX_EPOCH_ROWS <= epoch.rows;
        is_full || !epoch.stored.is_empty() || (self.has_deadline(epoch) && self.deadline(epoch) <= Instant::now())
    }

    /// Takes a batch that was read.
    pub fn take(&mut self, input: usize, batch: SourceBatch, epoch: &mut Epoch) -> Result<()> {
        self.shared.progress.read(batch.len() as u64);
        self.compute_batch(input, batch, epoch)?;
        let lag = self.inputs.iter().map(Input::lag).sum();
        self.shared.progress.set_lag(&self.partition.name, lag);
        Ok(())
    }

    fn compute_batch(&mut self, input: usize, batch: SourceBatch, epoch: &mut Epoch) -> Result<()> {
        let input = &mut self.inputs[input];
        epoch.add(&self.shared.plan.stages[input.source].id, &batch.offsets, input.position());
        let rows = input.decode(batch)?;
        self.watermark = self.watermark.max(input.latest(&rows));
        let source = input.source;
        self.compute.read(source, rows)
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
                let rows = input.decode(batch)?;
                *watermark = (*watermark).max(input.latest(&rows));
                compute.read(input.source, rows)
            })
            .await
    }

    /// Takes dead letters that somebody wants processed again into the epoch, which must be empty: when it is computed
    /// again they come first, too.
    pub async fn take_dead_letters(&mut self, epoch: &mut Epoch) -> Result<()> {
        let (store, task) = (self.shared.store.clone(), self.partition.name.clone());
        let letters = until_it_works("state store", || store.replay_requests(&task, MAX_REPLAYED)).await?;
        let letters = letters.into_iter().filter(|(number, _)| self.taken_letters.insert(*number));
        let (numbers, rows): (Vec<i64>, Vec<StoredRow>) = letters
            .map(|(number, letter)| {
                let DeadLetter { stage, place, offset, bytes, .. } = letter;
                (number, StoredRow { stage, place, offset, bytes })
            })
            .unzip();
        self.enter_stored(&rows, epoch)?;
        epoch.replayed.extend(numbers);
        Ok(())
    }

    /// Puts stored rows into the stages they were stored for.
    pub fn enter_stored(&mut self, rows: &[StoredRow], epoch: &mut Epoch) -> Result<()> {
        for row in rows {
            let Some(stage) = self.shared.stage(&row.stage) else {
                return Err(StageError::fatal(format!(
                    "a dead letter of `{}` is to be replayed, but there is no such stage",
                    row.stage
                )));
            };
            match self.inputs.iter_mut().find(|input| input.source == stage) {
                Some(input) => {
                    let decoded = input.decode_again(row.bytes.as_deref(), &row.place, row.offset)?;
                    self.compute.read(stage, decoded)?;
                }
                None => self.enter_row(stage, row)?,
            }
            epoch.stored.push(row.clone());
        }
        Ok(())
    }

    fn enter_row(&mut self, stage: usize, row: &StoredRow) -> Result<()> {
        let plan = &self.shared.plan;
        // The rows a sink takes have its own schema; those of a transform that of what it reads.
        let schema = match plan.stages[stage].kind {
            Kind::Sink => &plan.stages[stage].schema,
            _ => &plan.stages[plan.stages[stage].inputs[0]].schema,
        };
        let batch = rows_of_json(schema, row.bytes.as_deref().unwrap_or_default())?;
        let origins = Origins { place: row.place.as_str().into(), offsets: Arc::from([row.offset]) };
        self.compute.enter(stage, 0, Rows { batch, origins })
    }

    /// Ends the computation of an epoch.
    pub fn end_compute(&mut self, ended_at: Timestamp) -> Result<EpochOutput> {
        self.compute.end_epoch(Times { now: ended_at, watermark: self.watermark })
    }

    /// Ends an epoch, with a checkpoint if one is due or it is the last.
    pub fn end_epoch(&mut self, epoch: Epoch, is_last: bool) -> Result<EndedEpoch> {
        // The clock may have been set back; recorded time is never earlier than the epoch before.
        let ended_at = self.shared.clock.now().max(self.ended_at);
        let output = self.end_compute(ended_at)?;
        self.continue_after(self.epoch + 1, ended_at);
        self.has_uncheckpointed |= !epoch.is_empty();
        let wants_checkpoint = self.has_uncheckpointed && (is_last || self.next_checkpoint <= Instant::now());
        let checkpoint = if wants_checkpoint { Some((self.checkpoint(), self.compute.save()?)) } else { None };
        if wants_checkpoint {
            self.next_checkpoint = Instant::now() + self.shared.plan.settings.checkpoint_every;
            self.has_uncheckpointed = false;
        }
        let Epoch { segments, rows, hash, replayed, stored, .. } = epoch;
        let entry = EpochEntry { epoch: self.epoch, ended_at, segments, rows, hash, stored };
        Ok(EndedEpoch { entry, output, replayed, positions: self.positions(), checkpoint, ended: Instant::now() })
    }

    fn checkpoint(&self) -> Checkpoint {
        let shared = &self.shared;
        let with_state =
            shared.plan.stages.iter().filter(|stage| matches!(stage.kind, Kind::Transform | Kind::Detector));
        Checkpoint {
            epoch: self.epoch,
            ended_at: Some(self.ended_at),
            watermark: self.watermark,
            positions: self.positions().into_iter().map(|(source, at)| (shared.id(source).into(), at)).collect(),
            stages: with_state
                .map(|stage| (stage.id.clone(), format!("{}.{}", stage.kind.name(), stage.type_name)))
                .collect(),
        }
    }
}
