//! A task becomes the owner of its state and its output, and finds out whether they belong together.

use std::collections::BTreeMap;

use pipeline_stage::{Claim, Delivery, EpochRows, Mark, Owner, Result, StageError};
use tracing::warn;

use super::catch_up::computes_the_same;
use super::commit::Committer;
use super::retry::until_store_works;
use super::shared::{Shared, SinkEnd};
use super::taken::unless_taken;
use crate::bugs::{Bug, is_there};
use crate::changes::{GONE_WITH_STATE, Verdict, can_replay, refusal, why_lost};
use crate::store::{ClaimedTask, StageOf};

/// For each sink that takes epochs, the mark it had.
pub type Marks = BTreeMap<usize, Option<Mark>>;

/// A task that was claimed.
pub enum Claimed {
    /// State and output belong together.
    Ready(Box<ClaimedTask>, Marks),
    /// Its log holds epochs that have to be computed under another definition first, this one.
    ByFormer(String),
}

/// Raises the generation in the store and then in every sink, and compares them.
///
/// # Errors
/// `Fatal`, in words, when state and output do not belong together and nobody has said `--cold-start`; `TakenOver` when
/// another process has claimed the task since.
pub async fn claim(shared: &Shared, task: &str) -> Result<Claimed> {
    let claimed = until_store_works(|| shared.store.claim(task)).await?;
    if let Some((definition, _)) = former_definition(shared, &claimed)
        && !shared.run.cold_start
    {
        return Ok(Claimed::ByFormer(definition.clone()));
    }
    let marks = claim_sinks(shared, &claimed, task, false).await?;
    let fits = match fits(shared, &claimed, &marks) {
        Ok(()) => state_fits(shared, &claimed, task).await?,
        problem => problem,
    };
    let Err(problem) = fits else { return Ok(Claimed::Ready(Box::new(claimed), marks)) };
    if !shared.run.cold_start {
        let message = format!("task `{task}`: {problem}; `--cold-start` begins anew, with empty state");
        return Err(unless_taken(shared, task, claimed.generation, StageError::fatal(message)).await);
    }
    let (claimed, marks) = begin_anew(shared, task, (&claimed, &marks), &problem).await?;
    Ok(Claimed::Ready(Box::new(claimed), marks))
}

/// Gives up the state of a task, but not its output: it is gone on with.
pub async fn begin_anew(
    shared: &Shared,
    task: &str,
    (claimed, marks): (&ClaimedTask, &Marks),
    problem: &str,
) -> Result<(ClaimedTask, Marks)> {
    warn!("task `{task}` begins anew: {problem}");
    let highest = marks.values().flatten().map(|mark| mark.epoch).max();
    let generation = claimed.generation;
    until_store_works(|| shared.store.begin_anew(task, generation, highest)).await?;
    let claimed = until_store_works(|| shared.store.claim(task)).await?;
    let marks = claim_sinks(shared, &claimed, task, true).await?;
    Ok((claimed, marks))
}

/// The last epoch there was: logged, in a checkpoint, or of a life of the state that was given up; none at a first start.
pub fn last_epoch(claimed: &ClaimedTask) -> Option<u64> {
    let logged = claimed.log.last().map(|entry| entry.epoch);
    logged.or(claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch)).or(claimed.begun_above)
}

/// What the store knows a sink by: one of another type is another sink.
pub fn known_as(shared: &Shared, sink: usize) -> String {
    format!("{} ({})", shared.id(sink), shared.plan.stages[sink].type_name)
}

async fn claim_sinks(shared: &Shared, claimed: &ClaimedTask, task: &str, takes_over: bool) -> Result<Marks> {
    let mut marks = BTreeMap::new();
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
        let mark = match worker.claim(owner).await? {
            Claim::New => None,
            Claim::At(mark) => Some(mark),
        };
        marks.insert(*stage, mark);
    }
    Ok(marks)
}

/// Whether state and output belong together; the reason in words if they do not.
fn fits(shared: &Shared, claimed: &ClaimedTask, marks: &Marks) -> Result<(), String> {
    let place = shared.store.place();
    if claimed.is_lost {
        return Err(format!(
            "epochs were committed, but neither the epoch log nor a checkpoint is in {place} any more"
        ));
    }
    for (stage, mark) in marks {
        let sink = shared.id(*stage);
        let is_known = claimed.sinks.contains(&known_as(shared, *stage));
        let checkpoint = claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch).filter(|_| is_known);
        match (mark, checkpoint) {
            (Some(mark), _) => mark_fits(sink, mark, claimed, checkpoint, &place)?,
            (None, Some(checkpoint)) => {
                return Err(format!(
                    "`{sink}` has no mark, though {checkpoint} epochs were committed into it: its output was lost or replaced"
                ));
            }
            (None, None) => {}
        }
    }
    definition_fits(shared, claimed)
}

fn mark_fits(
    sink: &str,
    mark: &Mark,
    claimed: &ClaimedTask,
    checkpoint: Option<u64>,
    place: &str,
) -> Result<(), String> {
    let epoch = mark.epoch;
    if mark.state_id != claimed.state_id && !is_there(Bug::ForeignMarkAccepted) {
        return Err(format!(
            "`{sink}` holds output up to epoch {epoch} that was made with other state than that in {place}: another \
             machine has it, or it was lost"
        ));
    }
    let last = last_epoch(claimed);
    if last.is_none_or(|last| last < epoch) {
        return Err(format!(
            "`{sink}` is at epoch {epoch}, ahead of the epoch log in {place}, which ends at {}: the state is older than \
             the output",
            last.unwrap_or(0)
        ));
    }
    match checkpoint {
        Some(checkpoint) if epoch < checkpoint => Err(format!(
            "`{sink}` is at epoch {epoch}, behind the checkpoint in {place} at {checkpoint}: the output is older than the \
             state"
        )),
        _ => Ok(()),
    }
}

/// Whether every stage that has state finds it again. What would be lost silently is refused in words, unless it is to
/// be rebuilt: see [`unfit`].
async fn state_fits(shared: &Shared, claimed: &ClaimedTask, task: &str) -> Result<Result<(), String>> {
    for (id, why) in unfit(shared, claimed) {
        if shared.run.rebuild.contains(&id) {
            continue;
        }
        let state = until_store_works(|| shared.store.load(task, &id)).await?;
        if !state.is_empty() {
            let verdict = match shared.stage(&id) {
                None => Verdict::Drop,
                Some(_) if can_replay(&shared.plan, &shared.run) => Verdict::Rebuild,
                Some(_) => Verdict::Lost,
            };
            return Ok(Err(refusal(&id, &why, verdict)));
        }
    }
    Ok(Ok(()))
}

/// The stages of the checkpoint whose state is not found again by the file as it is now, and why.
pub fn unfit(shared: &Shared, claimed: &ClaimedTask) -> Vec<(String, String)> {
    let stages = claimed.checkpoint.iter().flat_map(|checkpoint| &checkpoint.stages);
    let why = |was: &StageOf| match shared.stage(&was.id) {
        None => Some(GONE_WITH_STATE.to_owned()),
        Some(number) => why_lost(was, &shared.plan.stage_of(number)),
    };
    stages.filter_map(|was| Some((was.id.clone(), why(was)?))).collect()
}

fn definition_fits(shared: &Shared, claimed: &ClaimedTask) -> Result<(), String> {
    match former_definition(shared, claimed) {
        Some((_, pending)) => {
            Err(format!("the pipeline file has changed, and {pending} epochs had still to be computed as it was"))
        }
        None => Ok(()),
    }
}

/// The definition under which epochs of the log have still to be computed, and how many, if it is another one.
fn former_definition<'a>(shared: &Shared, claimed: &'a ClaimedTask) -> Option<(&'a String, usize)> {
    let pending = claimed.log.iter().filter(|entry| 0 < entry.rows || !entry.stored.is_empty()).count();
    let was = claimed.definition.as_ref().filter(|was| !computes_the_same(was, &shared.plan.definition))?;
    (0 < pending && !is_there(Bug::ReplayUnderNewFile)).then_some((was, pending))
}

/// A sink that came into the file later begins where the state is: its first mark says so.
pub async fn begin_new_sinks(
    shared: &Shared,
    committer: &mut Committer,
    claimed: &ClaimedTask,
    marks: &Marks,
) -> Result<()> {
    // Before the first epoch every sink is new.
    let Some(last) = last_epoch(claimed).filter(|last| 0 < *last && claimed.definition.is_some()) else {
        return Ok(());
    };
    for (stage, mark) in marks {
        let SinkEnd::Epochs(worker, delivery) = &shared.sinks[stage] else { continue };
        if mark.is_some() || claimed.sinks.contains(&known_as(shared, *stage)) {
            continue;
        }
        let mark = committer.mark(*stage, last, "{}");
        let committed = worker.commit(EpochRows { mark, rows: Vec::new() }).await?;
        committer.marks.insert(*stage, last);
        if *delivery != Delivery::Transactional {
            committer.unsaved_marks.insert(*stage, committed.mark);
        }
    }
    Ok(())
}
