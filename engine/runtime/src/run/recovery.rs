//! How a task comes to life: it claims its output, takes up its state, and computes again what was logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pipeline_stage::{Claim, EpochRows, Kind, Mark, Owner, Partition, Position, Result, SavedState, StageError};
use tracing::{info, warn};

use super::catch_up::computes_the_same;
use super::commit::{Committer, EndedEpoch};
use super::compute::Compute;
use super::epoch::Epoch;
use super::input::Input;
use super::retry::until_it_works;
use super::shared::{Shared, SinkEnd};
use super::task::Task;
use crate::store::{Append, ClaimedTask, EpochEntry, Segment};

/// Makes a task ready to go on where the last owner left it.
///
/// # Errors
/// `Fatal`, in words, when state and output do not fit together.
pub async fn recover(shared: &Arc<Shared>, partition: &Partition) -> Result<(Task, Committer)> {
    let task = partition.name.to_string();
    let mut claimed = until_it_works("state store", || shared.store.claim(&task)).await?;
    let mut marks = claim_sinks(shared, &claimed, &task, false).await?;
    if let Err(problem) = fits(shared, &claimed, &marks) {
        if !shared.run.cold_start {
            return Err(StageError::fatal(format!(
                "task `{task}`: {problem}; `--cold-start` begins anew, with empty state"
            )));
        }
        warn!("task `{task}` begins anew: {problem}");
        claimed = anew(shared, &task, claimed.generation).await?;
        marks = claim_sinks(shared, &claimed, &task, true).await?;
    }
    let mut committer = committer(shared, partition, &claimed, &marks);
    let last = last_epoch(&claimed);
    begin_new_sinks(shared, &mut committer, &claimed, &marks, last).await?;
    let compute = build(shared, &task, &claimed).await?;
    let inputs = open_inputs(shared, partition, &claimed).await?;
    let highest_mark = marks.values().flatten().map(|mark| mark.epoch).max();
    let mut ready = Task::new(shared.clone(), partition.clone(), compute, inputs, &claimed);
    match last {
        Some(_) => replay(&mut ready, &mut committer, &claimed.log).await?,
        None => log_start(shared, &mut ready, &committer, highest_mark.map_or(0, |epoch| epoch + 1)).await?,
    }
    let sinks: Vec<String> = shared.sinks.keys().map(|stage| shared.id(*stage).to_string()).collect();
    let definition = &shared.plan.definition;
    let generation = claimed.generation;
    until_it_works("state store", || shared.store.set_sinks(&task, generation, &sinks, definition)).await?;
    Ok((ready, committer))
}

/// The last epoch that was logged; none at a first start.
fn last_epoch(claimed: &ClaimedTask) -> Option<u64> {
    let logged = claimed.log.last().map(|entry| entry.epoch);
    logged.or(claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch))
}

async fn anew(shared: &Shared, task: &str, generation: u64) -> Result<ClaimedTask> {
    let state_id = until_it_works("state store", || shared.store.begin_anew(task, generation)).await?;
    Ok(ClaimedTask {
        state_id,
        generation,
        sinks: Vec::new(),
        definition: None,
        checkpoint: None,
        log: Vec::new(),
        marks: Vec::new(),
    })
}

async fn claim_sinks(
    shared: &Shared,
    claimed: &ClaimedTask,
    task: &str,
    takes_over: bool,
) -> Result<HashMap<usize, Option<Mark>>> {
    let mut marks = HashMap::new();
    for (stage, end) in &shared.sinks {
        let SinkEnd::Epochs(worker, _) = end else { continue };
        let sink = shared.id(*stage);
        let owner = Owner {
            pipeline: shared.plan.settings.name.clone(),
            sink: sink.into(),
            task: task.into(),
            state_id: claimed.state_id.clone(),
            generation: claimed.generation,
            stored: claimed.marks.iter().find(|mark| mark.sink == sink).cloned(),
            takes_over,
        };
        let named = |error: StageError| StageError::new(error.kind(), format!("{sink}: {}", error.chain()));
        let mark = match worker.claim(owner).await.map_err(named)? {
            Claim::New => None,
            Claim::At(mark) => Some(mark),
        };
        marks.insert(*stage, mark);
    }
    Ok(marks)
}

/// Whether state and output belong together; the reason in words if they do not.
fn fits(shared: &Shared, claimed: &ClaimedTask, marks: &HashMap<usize, Option<Mark>>) -> Result<(), String> {
    let last = last_epoch(claimed);
    let checkpoint = claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch);
    let place = shared.store.place();
    for (stage, mark) in marks {
        let sink = shared.id(*stage);
        let is_known = claimed.sinks.iter().any(|known| known == sink);
        match (mark, checkpoint) {
            (Some(mark), _) if mark.state_id != claimed.state_id => {
                return Err(format!(
                    "`{sink}` holds output up to epoch {} that was made with other state than that in {place}: \
                     another machine has it, or it was lost",
                    mark.epoch
                ));
            }
            (Some(mark), _) if last.is_none_or(|last| last < mark.epoch) => {
                return Err(format!(
                    "`{sink}` is at epoch {}, ahead of the epoch log in {place}, which ends at {}: the state is older than the output",
                    mark.epoch,
                    last.unwrap_or(0)
                ));
            }
            (Some(mark), Some(checkpoint)) if is_known && mark.epoch < checkpoint => {
                return Err(format!(
                    "`{sink}` is at epoch {}, behind the checkpoint in {place} at {checkpoint}: the output is older than the state",
                    mark.epoch
                ));
            }
            (None, Some(checkpoint)) if is_known => {
                return Err(format!(
                    "`{sink}` has no mark, though {checkpoint} epochs were committed into it: its output was lost or replaced"
                ));
            }
            _ => {}
        }
    }
    types_fit(shared, claimed)?;
    definition_fits(shared, claimed)
}

fn types_fit(shared: &Shared, claimed: &ClaimedTask) -> Result<(), String> {
    let Some(checkpoint) = &claimed.checkpoint else { return Ok(()) };
    for (id, was) in &checkpoint.stages {
        let Some(stage) = shared.plan.stages.iter().find(|stage| stage.id == *id) else { continue };
        let is = format!("{}.{}", stage.kind.name(), stage.type_name);
        if is != *was {
            return Err(format!("`{id}` is a {is} now, its state was written by a {was}"));
        }
    }
    Ok(())
}

fn definition_fits(shared: &Shared, claimed: &ClaimedTask) -> Result<(), String> {
    let pending = claimed.log.iter().filter(|entry| 0 < entry.rows || !entry.stored.is_empty()).count();
    match &claimed.definition {
        Some(was) if 0 < pending && !computes_the_same(was, &shared.plan.definition) => Err(format!(
            "the pipeline file has changed, and {pending} epochs have still to be computed as it was: start again, which \
             does that first"
        )),
        _ => Ok(()),
    }
}

fn committer(
    shared: &Arc<Shared>,
    partition: &Partition,
    claimed: &ClaimedTask,
    marks: &HashMap<usize, Option<Mark>>,
) -> Committer {
    let marks = marks.iter().filter_map(|(stage, mark)| Some((*stage, mark.as_ref()?.epoch)));
    Committer {
        shared: shared.clone(),
        task: partition.name.to_string(),
        partition: partition.clone(),
        state_id: claimed.state_id.clone(),
        generation: claimed.generation,
        marks: marks.collect(),
        unsaved_marks: HashMap::new(),
        writing: None,
    }
}

/// A sink that came into the file later begins where the state is: its first mark says so.
async fn begin_new_sinks(
    shared: &Shared,
    committer: &mut Committer,
    claimed: &ClaimedTask,
    marks: &HashMap<usize, Option<Mark>>,
    last: Option<u64>,
) -> Result<()> {
    let (Some(last), Some(_)) = (last, &claimed.definition) else { return Ok(()) };
    for (stage, mark) in marks {
        let SinkEnd::Epochs(worker, delivery) = &shared.sinks[stage] else { continue };
        let is_known = claimed.sinks.iter().any(|known| known == shared.id(*stage));
        if mark.is_some() || is_known {
            continue;
        }
        let mark = committer.mark(*stage, last, "{}");
        let committed = worker.commit(EpochRows { mark, rows: Vec::new() }).await?;
        committer.marks.insert(*stage, last);
        if *delivery != pipeline_stage::Delivery::Transactional {
            committer.unsaved_marks.insert(*stage, committed.mark);
        }
    }
    Ok(())
}

async fn build(shared: &Shared, task: &str, claimed: &ClaimedTask) -> Result<Compute> {
    let mut saved = HashMap::new();
    if claimed.checkpoint.is_some() {
        let stages = shared.plan.stages.iter().filter(|stage| matches!(stage.kind, Kind::Transform | Kind::Detector));
        for stage in stages {
            let load = || shared.store.load(task, &stage.id);
            saved.insert(stage.id.clone(), SavedState { entries: until_it_works("state store", load).await? });
        }
    }
    Compute::build(&shared.plan, &shared.run, |id| saved.remove(id).unwrap_or_default())
}

async fn open_inputs(shared: &Shared, partition: &Partition, claimed: &ClaimedTask) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for source in shared.source_stages() {
        let from = start_of(claimed, shared.id(source));
        inputs.push(Input::open(shared, source, partition, from).await?);
    }
    Ok(inputs)
}

/// Where a source goes on: the checkpoint says so, or the first entry of the log.
fn start_of(claimed: &ClaimedTask, source: &str) -> Option<Position> {
    if let Some(checkpoint) = &claimed.checkpoint {
        return checkpoint.positions.iter().find(|(id, _)| id == source).map(|(_, position)| position.clone());
    }
    let first = claimed.log.first()?;
    first.segments.iter().find(|segment| segment.source == source).map(|segment| segment.until.clone())
}

/// The resolved start is logged before the first row is read: `latest` must mean the same after a crash.
async fn log_start(shared: &Shared, task: &mut Task, committer: &Committer, epoch: u64) -> Result<()> {
    let segments = task.inputs.iter().map(|input| Segment {
        source: shared.id(input.source).into(),
        until: input.position(),
        rows: 0,
    });
    let entry = EpochEntry {
        epoch,
        ended_at: shared.clock.now(),
        segments: segments.collect(),
        rows: 0,
        hash: 0,
        stored: Vec::new(),
    };
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
            marks: Vec::new(),
        })
        .await
}

/// Computes the logged epochs again, cut where they were cut; sinks get those they have not had.
async fn replay(task: &mut Task, committer: &mut Committer, log: &[EpochEntry]) -> Result<()> {
    let began = Instant::now();
    let (mut rows, mut epochs) = (0, 0);
    for entry in log {
        task.continue_after(entry.epoch, entry.ended_at);
        if entry.rows == 0 && entry.stored.is_empty() {
            continue;
        }
        let mut epoch = Epoch::default();
        task.enter_stored(&entry.stored, &mut epoch)?;
        for segment in &entry.segments {
            task.read_again(segment, &mut epoch).await?;
        }
        if (epoch.rows, epoch.hash) != (entry.rows, entry.hash) {
            return Err(StageError::fatal(format!(
                "epoch {} read other rows than before the restart: the input has changed, so the output cannot be \
                 continued; `--cold-start` begins anew",
                entry.epoch
            )));
        }
        let output = task.end_compute(entry.ended_at)?;
        let mut ended = EndedEpoch {
            entry: entry.clone(),
            output,
            replayed: Vec::new(),
            positions: task.positions(),
            checkpoint: None,
            ended: Instant::now(),
        };
        committer.commit_epoch(&mut ended).await?;
        (rows, epochs) = (rows + entry.rows, epochs + 1);
    }
    if 0 < epochs {
        committer.shared.progress.replayed(rows);
        task.has_uncheckpointed = true;
        info!("task `{}`: computed {epochs} epochs ({rows} rows) again in {:.1?}", committer.task, began.elapsed());
    }
    Ok(())
}
