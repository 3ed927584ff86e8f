//! What a changed pipeline file means for the state that is there.

use std::collections::BTreeMap;

use pipeline_stage::{Kind, Result, SavedState, StageError};
use serde_json::{Map, Value};

use crate::plan::{Plan, RunSettings, Stage};
use crate::store::StageOf;

/// What becomes of a stage's state, or of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it was.
    Keep,
    /// The state is taken up under other options.
    Migrate,
    /// It comes into the file only now.
    New,
    /// It is not in the file any more, and has nothing that would be missed.
    Gone,
    /// Its state does not fit any more, but can be computed again: `run` refuses until it is told to.
    Rebuild,
    /// It is not in the file any more, but has state: `run` refuses until that is reset, or given to another stage.
    Drop,
    /// Its state cannot be read, or does not fit and its rows cannot be read again: `run` refuses until it is reset.
    Lost,
}

impl Verdict {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Keep => "keep",
            Verdict::Migrate => "migrate",
            Verdict::New => "new",
            Verdict::Gone => "gone",
            Verdict::Rebuild => "rebuild",
            Verdict::Drop => "drop",
            Verdict::Lost => "lost",
        }
    }

    /// What can be done about a stage that `run` refuses, because state that is there would be lost; none for the others.
    pub fn choice(self, stage: &str) -> Option<String> {
        match self {
            Verdict::Keep | Verdict::Migrate | Verdict::New | Verdict::Gone => None,
            Verdict::Rebuild => Some(format!(
                "`pipeline run FILE --rebuild {stage}` computes it again from the rows that are there, \
                 `pipeline state FILE reset --stage {stage}` lets it begin anew"
            )),
            Verdict::Drop => Some(format!(
                "`pipeline state FILE rename {stage} NEW` gives its state to a stage that is called otherwise now, \
                 `pipeline state FILE reset --stage {stage}` drops it"
            )),
            Verdict::Lost => Some(format!("`pipeline state FILE reset --stage {stage}` lets it begin anew")),
        }
    }
}

/// What has changed about a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its id.
    pub stage: String,
    /// Its kind; of a stage that is gone, the one it had.
    pub kind: Kind,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// The state that a stage has in the tasks: for each task that has some, its entries.
pub type States = BTreeMap<String, Vec<SavedState>>;

/// Compares the file with the one that the state was made by.
pub fn compare(former: &Plan, now: &Plan, mut states: States, run: &RunSettings) -> Vec<Change> {
    let mut changes = Vec::new();
    let lost = if can_replay(now, run) { Verdict::Rebuild } else { Verdict::Lost };
    for (number, stage) in now.stages.iter().enumerate() {
        let was = former.stages.iter().position(|was| was.id == stage.id);
        let (verdict, why) = match (was, stage.kind) {
            (None, Kind::Sink) => (Verdict::New, "takes the rows that come from now on".to_owned()),
            (None, Kind::Source) => (Verdict::New, "begins where its options say".to_owned()),
            (None, _) => match states.remove(&stage.id) {
                Some(given) => (Verdict::Migrate, format!("takes up {} keys that it was given", count(&given))),
                None => (Verdict::New, "begins with empty state".to_owned()),
            },
            (Some(was), Kind::Detector | Kind::Transform) => {
                let state = states.remove(&stage.id).unwrap_or_default();
                of_state((former, was), (now, number), state, run, lost)
            }
            (Some(was), Kind::Sink) => of_sink(&former.stages[was], stage),
            (Some(was), _) => of_source(&former.stages[was], stage),
        };
        changes.push(Change { stage: stage.id.clone(), kind: stage.kind, verdict, why });
    }
    for stage in &former.stages {
        if now.stages.iter().all(|other| other.id != stage.id) {
            let has_state = states.get(&stage.id).is_some_and(|states| !states.is_empty());
            let (verdict, why) = match stage.kind {
                Kind::Sink => (Verdict::Gone, "its output stays where it is".to_owned()),
                Kind::Source => (Verdict::Gone, "its positions are forgotten".to_owned()),
                _ if has_state => (Verdict::Drop, GONE_WITH_STATE.to_owned()),
                _ => (Verdict::Gone, "had no state".to_owned()),
            };
            changes.push(Change { stage: stage.id.clone(), kind: stage.kind, verdict, why });
        }
    }
    changes
}

/// What is said of a stage that was left out or is called otherwise.
pub const GONE_WITH_STATE: &str = "is not in the file any more, but has state";

/// Why the state of a stage cannot be taken up by what it is now; none when it can, as far as its options say.
pub fn why_lost(was: &StageOf, is: &StageOf) -> Option<String> {
    if was.of != is.of {
        return Some(format!("is a {} now, its state was written by a {}", is.of, was.of));
    }
    if was.key != is.key {
        let list = |key: &Option<Vec<String>>| format!("[{}]", key.as_deref().unwrap_or_default().join(", "));
        return Some(format!(
            "makes its series of {} now, they were made of {}: none of them would be found again",
            list(&is.key),
            list(&was.key)
        ));
    }
    match (&was.value, &is.value) {
        (Some(was), Some(is)) if was != is => {
            Some(format!("looks at `{is}` now, its series remember values of `{was}`"))
        }
        _ => None,
    }
}

fn of_state(
    (former, was): (&Plan, usize),
    (now, number): (&Plan, usize),
    states: Vec<SavedState>,
    run: &RunSettings,
    lost: Verdict,
) -> (Verdict, String) {
    let keys = count(&states);
    if let Some(why) = why_lost(&former.stage_of(was), &now.stage_of(number)) {
        return (if keys == 0 { Verdict::New } else { lost }, why);
    }
    let changed = changed_options(&former.stages[was], &now.stages[number]);
    if changed.is_empty() {
        return (Verdict::Keep, format!("{keys} keys"));
    }
    let read: Result<()> = states.into_iter().try_for_each(|state| now.build_transform(number, run, state).map(drop));
    match read {
        Ok(()) => (Verdict::Migrate, format!("{}; {keys} keys are read under the new options", changed.join(", "))),
        Err(error) => (Verdict::Lost, format!("{}; its state cannot be read: {}", changed.join(", "), error.chain())),
    }
}

/// Whether all sources give the same rows again.
pub fn can_replay(plan: &Plan, run: &RunSettings) -> bool {
    let mut sources = plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Source);
    sources.all(|(number, _)| plan.build_source(number, run, None).is_ok_and(|source| source.is_replayable()))
}

fn count(states: &[SavedState]) -> usize {
    states.iter().map(|state| state.entries.len()).sum()
}

fn of_sink(was: &Stage, now: &Stage) -> (Verdict, String) {
    if was.type_name != now.type_name {
        return (
            Verdict::New,
            format!("is a {} now and was a {}: takes the rows that come from now on", now.type_name, was.type_name),
        );
    }
    let changed = changed_options(was, now);
    match changed.is_empty() {
        true => (Verdict::Keep, "goes on".to_owned()),
        // Another table or database has no mark: `run` says so in words.
        false => (Verdict::Keep, format!("{}; `run` looks whether its mark is there", changed.join(", "))),
    }
}

fn of_source(was: &Stage, now: &Stage) -> (Verdict, String) {
    if was.type_name != now.type_name {
        return (Verdict::New, format!("is a {} now and was a {}", now.type_name, was.type_name));
    }
    let changed = changed_options(was, now);
    match changed.is_empty() {
        true => (Verdict::Keep, "goes on".to_owned()),
        false => (
            Verdict::Keep,
            format!("{}; partitions that it gives still go on where they were, others begin anew", changed.join(", ")),
        ),
    }
}

/// `` `window` was 30 and is 60 ``; options of which one is a secret only by their names.
fn changed_options(was: &Stage, now: &Stage) -> Vec<String> {
    let none = Map::new();
    let (old, new) = (was.options.as_object().unwrap_or(&none), now.options.as_object().unwrap_or(&none));
    let mut names: Vec<&String> = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
    names.retain(|name| old.get(*name) != new.get(*name));
    let mut changed: Vec<String> = names
        .into_iter()
        .map(|name| match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if is_plain(old) && is_plain(new) => format!("`{name}` was {old} and is {new}"),
            (None, Some(new)) if is_plain(new) => format!("`{name}` is {new} now"),
            (_, None) => format!("`{name}` is left out"),
            _ => format!("`{name}` is another one"),
        })
        .collect();
    if was.when.iter().map(|when| when.text()).ne(now.when.iter().map(|when| when.text())) {
        changed.push("`when` is another one".into());
    }
    changed
}

/// Numbers and truth values are no secrets.
fn is_plain(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

/// What `run` says when the state of a stage would be lost.
pub fn refusal(stage: &str, why: &str, verdict: Verdict) -> String {
    let choice = verdict.choice(stage).unwrap_or_default();
    format!("`{stage}` {why}; {choice}, `pipeline diff FILE` shows all changes")
}

/// The plan that a state was made by.
///
/// # Errors
/// When it cannot be used with the stages there are now.
pub fn former_plan(definition: &str, now: &Plan) -> Result<Plan> {
    crate::plan::load_definition(definition, now, crate::file::Environment::of_process()).map_err(|report| {
        StageError::config("the pipeline file that the state was made by cannot be used any more")
            .because(report.render(false))
    })
}
