//! How a task comes to life: it claims its output, takes up its state, and computes again what was logged.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pipeline_stage::{Kind, Partition, Position, Result, SavedState, StageError};
use tokio::time::Instant;
use tracing::{debug, info};

use super::catch_up::catch_up_task;
use super::claim::{Claimed, Marks, begin_anew, begin_new_sinks, claim, known_as, last_epoch};
use super::commit::{Committer, EndedEpoch};
use super::compute::Compute;
use super::epoch::Epoch;
use super::input::Input;
use super::rebuild::rebuild;
use super::retry::until_store_works;
use super::shared::Shared;
use super::taken::unless_taken;
use super::task::Task;
use crate::bugs::{Bug, is_there};
use crate::store::{Append, ClaimedTask, EpochEntry, Segment};

/// Makes a task ready to go on where the last owner left it.
///
/// # Errors
/// `Fatal`, in words, when state and output do not fit together; `TakenOver` when another process has claimed the task
/// since.
pub async fn recover(shared: &Arc<Shared>, partition: &Partition) -> Result<(Task, Committer)> {
    let mut found = claim(shared, &partition.name).await?;
    if let Claimed::ByFormer(definition) = &found {
        catch_up_task(shared, partition, definition).await?;
        found = claim(shared, &partition.name).await?;
    }
    let Claimed::Ready(claimed, marks) = found else {
        return Err(StageError::fatal(format!(
            "task `{partition}` was caught up, but its log holds epochs of another pipeline file again: a process runs it \
             still, stop it"
        )));
    };
    match take_up(shared, partition, &claimed, &marks).await {
        Ok(ready) => Ok(ready),
        Err(error) => Err(unless_taken(shared, &partition.name, claimed.generation, error).await),
    }
}

async fn take_up(
    shared: &Arc<Shared>,
    partition: &Partition,
    claimed: &ClaimedTask,
    marks: &Marks,
) -> Result<(Task, Committer)> {
    let task = partition.name.to_string();
    debug!("task `{task}` is claimed: generation {}", claimed.generation);
    let mut committer = committer(shared, partition, claimed, marks);
    begin_new_sinks(shared, &mut committer, claimed, marks).await?;
    // Before anything is rebuilt: it is refused when the input is not what the state was made of.
    let (mut inputs, has_new_input) = open_inputs(shared, partition, claimed).await?;
    if let Some(source) = begins_elsewhere(shared, &inputs, claimed) {
        drop(inputs);
        let problem = format!("`{source}` does not go on where the state ends");
        begin_anew(shared, &task, (claimed, marks), &problem).await?;
        return Box::pin(recover(shared, partition)).await;
    }
    if rebuild(shared, partition, claimed).await? {
        inputs = open_inputs(shared, partition, claimed).await?.0;
    }
    let compute = build(shared, &task, claimed).await?;
    let mut ready = Task::new(shared.clone(), partition.clone(), compute, inputs, claimed);
    replay(&mut ready, &mut committer, &claimed.log).await?;
    if has_new_input && !is_there(Bug::StartNotLogged) {
        let next = last_epoch(claimed).map_or(0, |last| last + 1);
        log_start(shared, &mut ready, &committer, next).await?;
    }
    // From here on a sink without a mark has lost it: that of a new one must be on disk.
    committer.save_marks().await?;
    let sinks: Vec<String> = shared.sinks.keys().map(|stage| known_as(shared, *stage)).collect();
    let definition = &shared.plan.definition;
    let generation = claimed.generation;
    until_store_works(|| shared.store.set_sinks(&task, generation, &sinks, definition)).await?;
    ready.go_live();
    Ok((ready, committer))
}

fn committer(shared: &Arc<Shared>, partition: &Partition, claimed: &ClaimedTask, marks: &Marks) -> Committer {
    let marks = marks.iter().filter_map(|(stage, mark)| Some((*stage, mark.as_ref()?.epoch)));
    Committer {
        shared: shared.clone(),
        task: partition.name.to_string(),
        partition: partition.clone(),
        state_id: claimed.state_id.clone(),
        generation: claimed.generation,
        marks: marks.collect(),
        unsaved_marks: BTreeMap::new(),
        writing: None,
    }
}

async fn build(shared: &Shared, task: &str, claimed: &ClaimedTask) -> Result<Compute> {
    let mut saved = HashMap::new();
    if claimed.checkpoint.is_some() {
        let stages = shared.plan.stages.iter().filter(|stage| matches!(stage.kind, Kind::Transform | Kind::Detector));
        for stage in stages {
            let load = || shared.store.load(task, &stage.id);
            saved.insert(stage.id.clone(), SavedState { entries: until_store_works(load).await? });
        }
    }
    Compute::build(&shared.plan, &shared.run, task, shared.progress.clone(), |id| saved.remove(id).unwrap_or_default())
}

/// Opens the sources; says whether one of them has no position yet.
async fn open_inputs(shared: &Shared, partition: &Partition, claimed: &ClaimedTask) -> Result<(Vec<Input>, bool)> {
    let (mut inputs, mut has_new) = (Vec::new(), false);
    for source in shared.source_stages() {
        let from = start_of(claimed, shared.id(source));
        has_new |= from.is_none();
        inputs.push(match is_kept(shared, source) {
            true => Input::open_kept(shared, source, partition, (from, end_of(claimed, shared.id(source)))).await?,
            false => Input::open(shared, source, partition, from).await?,
        });
    }
    Ok((inputs, has_new))
}

fn is_kept(shared: &Shared, source: usize) -> bool {
    shared.plan.stages[source].source.as_ref().is_some_and(|source| !source.is_replayable)
}

/// With `--cold-start` a source goes on with what is there, if what the state needs is not.
fn begins_elsewhere<'s>(shared: &'s Shared, inputs: &[Input], claimed: &ClaimedTask) -> Option<&'s str> {
    let elsewhere = inputs.iter().find(|input| {
        start_of(claimed, shared.id(input.source)).is_some_and(|from| {
            let is = input.position();
            let is_another = is.detail.is_some() && from.detail.is_some() && is.detail != from.detail;
            is.offset != from.offset || is_another
        })
    })?;
    shared.run.cold_start.then(|| shared.id(elsewhere.source))
}

/// Where a source goes on: the checkpoint says so, or the entry of the log that holds its resolved start.
fn start_of(claimed: &ClaimedTask, source: &str) -> Option<Position> {
    let checkpoint = claimed.checkpoint.iter().flat_map(|checkpoint| &checkpoint.positions);
    let checkpoint = checkpoint.filter(|(id, _)| id == source).map(|(_, position)| position);
    let starts = claimed.log.iter().filter(|entry| entry.is_start()).flat_map(|entry| &entry.segments);
    let starts = starts.filter(|segment| segment.source == source).map(|segment| &segment.until);
    checkpoint.chain(starts).next().cloned()
}

/// Where what is logged of a source ends; none when nothing is known of it.
fn end_of(claimed: &ClaimedTask, source: &str) -> Option<Position> {
    let logged = claimed.log.iter().rev().flat_map(|entry| entry.segments.iter().rev());
    let last = logged.filter(|segment| segment.source == source).map(|segment| segment.until.clone()).next();
    last.or_else(|| start_of(claimed, source))
}

/// The resolved start is logged before the first row is read: `latest` must mean the same after a crash.
async fn log_start(shared: &Shared, task: &mut Task, committer: &Committer, epoch: u64) -> Result<()> {
    let segments = task.inputs.iter().map(|input| Segment {
        source: shared.id(input.source).into(),
        until: input.position(),
        rows: 0,
        kept: Vec::new(),
    });
    let entry =
        EpochEntry { epoch, ended_at: task.now(), segments: segments.collect(), rows: 0, hash: 0, stored: Vec::new() };
    task.continue_after(epoch, entry.ended_at);
    shared
        .log
        .append(Append {
            task: committer.task.clone(),
            generation: committer.generation,
            entry,
            dead_letters: Vec::new(),
            replayed: Vec::new(),
            alerts: Vec::new(),
            evidence: Vec::new(),
            marks: Vec::new(),
        })
        .await
}

/// Computes the logged epochs again, cut where they were cut; sinks get those they have not had.
async fn replay(task: &mut Task, committer: &mut Committer, log: &[EpochEntry]) -> Result<()> {
    let began = Instant::now();
    let (mut rows, mut epochs) = (0, 0);
    for entry in log {
        if entry.is_start() {
            task.continue_after(entry.epoch, entry.ended_at);
            continue;
        }
        let mut epoch = Epoch::default();
        task.begin_again(entry, &mut epoch)?;
        for segment in &entry.segments {
            task.read_again(segment, &mut epoch).await?;
        }
        check_rows(entry, &epoch)?;
        if is_there(Bug::OtherCut) && entry.epoch % 2 == 1 && log.last() != Some(entry) {
            continue;
        }
        let at = if is_there(Bug::TimeNotRestored) { committer.shared.clock.now() } else { entry.ended_at };
        let output = task.end_compute(at)?;
        // Only now: what a tick makes is named by the epoch it ends.
        task.continue_after(entry.epoch, entry.ended_at);
        let mut ended = EndedEpoch {
            entry: entry.without_rows(),
            output,
            replayed: Vec::new(),
            positions: task.positions(),
            checkpoint: None,
            reads: Vec::new(),
            ended: Instant::now(),
            span: None,
        };
        committer.commit_epoch(&mut ended).await?;
        task.has_uncheckpointed = true;
        (rows, epochs) = (rows + entry.rows, epochs + 1);
    }
    if 0 < rows {
        committer.shared.progress.replayed(rows);
        info!("task `{}`: computed {epochs} epochs ({rows} rows) again in {:.1?}", committer.task, began.elapsed());
    }
    Ok(())
}

fn check_rows(entry: &EpochEntry, epoch: &Epoch) -> Result<()> {
    if (epoch.rows, epoch.hash) == (entry.rows, entry.hash) {
        return Ok(());
    }
    Err(StageError::fatal(format!(
        "epoch {} read other rows than before the restart: the input has changed, so the output cannot be continued; \
         `--cold-start` begins anew",
        entry.epoch
    )))
}
