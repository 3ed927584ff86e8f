//! What the simulation remembers of the calls of the store, to compare it with what comes later.

use pipeline_runtime::store::Append;

use super::log::Letter;
use crate::world::{Logged, State};

/// Remembers what the log took.
pub fn note(state: &mut State, appends: &[Append], answers: &[bool], version: u32) {
    for (append, answer) in appends.iter().zip(answers) {
        if !answer {
            state.count("fenced appends");
            continue;
        }
        let entry = &append.entry;
        if entry.is_start() {
            let until = entry.segments.last().map_or(0, |segment| segment.until.offset);
            state.record.starts.insert(append.task.clone(), until);
        }
        if !append.replayed.is_empty() {
            state.count("letters processed again");
        }
        let logged = Logged { version, ended_at: entry.ended_at };
        state.record.logged.insert((append.task.clone(), entry.epoch), logged);
    }
}

/// A dead letter is stored with the epoch it was read in, never before.
pub fn letters_are_of_logged_epochs(state: &mut State, task: &str) {
    let log = state.store.log.seen();
    let last = log.tasks.get(task).and_then(|task| task.epoch);
    let early: Vec<String> = log
        .letters
        .values()
        .filter(|letter| letter.letter.task == task && last < Some(letter.letter.epoch))
        .map(|Letter { letter, .. }| {
            format!(
                "dead letter {} is of epoch {} of task {task}, the log ends at {last:?}",
                letter.row.offset, letter.epoch
            )
        })
        .collect();
    early.into_iter().for_each(|words| state.fail(words));
}
