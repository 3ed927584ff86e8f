//! State that cannot be taken up any more is computed again from the rows that the sources still have.

use std::collections::BTreeMap;

use pipeline_stage::{Partition, Position, Result, SavedState, StageError, Times, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};

use super::claim::unfit;
use super::compute::Compute;
use super::epoch::Epoch;
use super::input::Input;
use super::retry::until_store_works;
use super::shared::Shared;
use crate::store::{Checkpoint, ClaimedTask, StageChanges};

/// How often a long one says how far it is.
const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Rebuilds the state of those stages that are to be rebuilt and do not fit, as if the file had always been what it is:
/// everything from the oldest rows there are up to the checkpoint is read and computed, and the output is dropped. Several
/// sources are read one after the other. False when nothing is to be done, so that a task
/// that starts again goes on with what was rebuilt.
///
/// # Errors
/// `Fatal` when epochs are pending, which have to be computed with the state that is there.
pub async fn rebuild(shared: &Shared, partition: &Partition, claimed: &ClaimedTask) -> Result<bool> {
    let unfit: Vec<String> = unfit(shared, claimed).into_iter().map(|(id, _)| id).collect();
    let wanted: Vec<&String> = shared.run.rebuild.iter().filter(|id| unfit.contains(id)).collect();
    let Some(checkpoint) = claimed.checkpoint.as_ref().filter(|_| !wanted.is_empty()) else { return Ok(false) };
    if claimed.log.iter().any(|entry| !entry.is_start()) {
        let task = &partition.name;
        return Err(StageError::fatal(format!(
            "task `{task}` has epochs that are not in a checkpoint yet: state can be rebuilt only after a stop in good \
             order; `pipeline run FILE --once`, or Ctrl-C, ends with a checkpoint"
        )));
    }
    let mut again = Again::new(shared, partition, checkpoint)?;
    for (source, until) in &checkpoint.positions {
        // A source that is not in the file any more has nothing to give.
        let Some(number) = shared.stage(source) else { continue };
        again.read(number, until).await?;
    }
    let mut states = again.states()?;
    states.retain(|state| wanted.contains(&&state.stage));
    let checkpoint = Checkpoint { stages: shared.plan.stages_with_state(), ..checkpoint.clone() };
    let replace = || shared.store.replace_state(&partition.name, claimed.generation, &checkpoint, &states);
    until_store_works(replace).await?;
    Ok(true)
}

/// The whole graph once more, from its beginning.
struct Again<'a> {
    shared: &'a Shared,
    partition: &'a Partition,
    compute: Compute,
    epochs: u64,
    ended_at: Timestamp,
    watermark: Option<Timestamp>,
    rows: u64,
    said: Instant,
}

impl<'a> Again<'a> {
    fn new(shared: &'a Shared, partition: &'a Partition, checkpoint: &Checkpoint) -> Result<Self> {
        let mut compute = Compute::build(&shared.plan, &shared.run, &partition.name, shared.progress.clone(), |_| {
            SavedState::default()
        })?;
        compute.begin_epoch(1);
        Ok(Again {
            shared,
            partition,
            compute,
            epochs: 1,
            ended_at: checkpoint.ended_at.unwrap_or(Timestamp(i64::MIN)),
            watermark: None,
            rows: 0,
            said: Instant::now(),
        })
    }

    async fn read(&mut self, source: usize, until: &Position) -> Result<()> {
        let mut input = Input::open_first(self.shared, source, self.partition).await?;
        let first = input.position();
        let mut epoch = Epoch::default();
        while let Some(batch) = input.next(Some(until)).await? {
            epoch.add(self.shared.id(source), &batch.offsets, input.position());
            self.rows += batch.len() as u64;
            let bytes = batch.bytes();
            let rows = input.decode(batch)?;
            self.watermark = self.watermark.max(input.latest(&rows));
            self.compute.read(source, rows, bytes)?;
            if epoch.is_full() {
                self.end_epoch()?;
                epoch = Epoch::default();
            }
            if SAY_EVERY <= self.said.elapsed() {
                self.said = Instant::now();
                let (task, at) = (&self.partition.name, input.position().offset);
                info!("task `{task}`: rebuilding, at offset {at} of {}", until.offset);
            }
        }
        self.end_epoch()?;
        let (task, id, rows) = (&self.partition.name, self.shared.id(source), self.rows);
        let (from, to) = (first.offset, until.offset);
        match rows {
            0 => warn!("task `{task}`: `{id}` has no rows before offset {to} any more: what is rebuilt begins empty"),
            _ => info!("task `{task}`: rebuilt from {rows} rows, offsets {from} to {to} of `{id}`"),
        }
        Ok(())
    }

    /// Ends an epoch for the stages that live by ticks, and drops what it gave.
    fn end_epoch(&mut self) -> Result<()> {
        self.compute.end_epoch(Times { now: self.ended_at, watermark: self.watermark })?;
        self.epochs += 1;
        self.compute.begin_epoch(self.epochs);
        Ok(())
    }

    /// What each stage would save.
    fn states(mut self) -> Result<Vec<StageChanges>> {
        let mut all: BTreeMap<String, BTreeMap<Vec<u8>, Option<Vec<u8>>>> = BTreeMap::new();
        self.compute.begin_save();
        while let Some(part) = self.compute.save_part()? {
            let changes = part.changes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
            all.entry(part.stage).or_default().extend(changes);
        }
        Ok(all
            .into_iter()
            .map(|(stage, changes)| StageChanges {
                stage,
                changes: changes.into_iter().collect(),
                ..StageChanges::default()
            })
            .collect())
    }
}
