//! What stands in the store's log file: tasks, epochs, marks, dead letters.

use std::collections::BTreeMap;

use pipeline_runtime::store::{
    Append, DeadLetter, EVIDENCE_AGE_MICROS, EpochEntry, Evidence, EvidenceLine, MAX_EVIDENCE, evidence_number,
    evidence_rows, series_of,
};
use pipeline_stage::{Mark, Result, StageError, Timestamp, decode};

use super::outbox::Outboxes;
use crate::bugs::{WorldBug, is_there};

/// The log file.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// By name.
    pub settings: BTreeMap<String, String>,
    /// By task.
    pub tasks: BTreeMap<String, Task>,
    /// By task and number.
    pub epochs: BTreeMap<(String, u64), EpochEntry>,
    /// By task and sink.
    pub marks: BTreeMap<(String, String), Mark>,
    /// By number.
    pub letters: BTreeMap<i64, Letter>,
    /// What anomalies were judged by, by number.
    pub evidence: BTreeMap<i64, (EvidenceLine, Evidence)>,
    /// Alerts and leases.
    pub outboxes: Outboxes,
    last_letter: i64,
    last_evidence: i64,
}

/// A dead letter as it is stored.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What it is.
    pub letter: DeadLetter,
    /// Somebody wants it processed again.
    pub is_requested: bool,
}

/// The row of a task.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Made with the state.
    pub state_id: String,
    /// Of its owner.
    pub generation: u64,
    /// The last that was logged.
    pub epoch: Option<u64>,
    /// See [`ClaimedTask`](pipeline_runtime::store::ClaimedTask).
    pub begun_above: Option<u64>,
    /// The sinks that have had all epochs.
    pub sinks: Vec<String>,
    /// What wrote the log.
    pub definition: Option<String>,
}

/// Says that somebody else owns a task.
pub fn taken_over(task: &str) -> StageError {
    StageError::taken_over(format!("another process has taken over task `{task}`"))
}

impl Log {
    /// Raises the generation of a task, which is made if it is not there.
    pub fn raise(&mut self, task: &str, new_state_id: &str) -> Task {
        let task =
            self.tasks.entry(task.into()).or_insert_with(|| Task { state_id: new_state_id.into(), ..Task::default() });
        task.generation += 1;
        task.clone()
    }

    /// The task, if the writer owns it.
    pub fn owned(&mut self, task: &str, generation: u64) -> Result<&mut Task> {
        let found = self.tasks.get_mut(task).ok_or_else(|| taken_over(task))?;
        match found.generation == generation || is_there(WorldBug::NoFenceInStore) {
            true => Ok(found),
            false => Err(taken_over(task)),
        }
    }

    /// Whether the writer owns the task.
    pub fn check_owner(&self, task: &str, generation: u64) -> Result<()> {
        let found = self.tasks.get(task).ok_or_else(|| taken_over(task))?;
        match found.generation == generation || is_there(WorldBug::NoFenceInStore) {
            true => Ok(()),
            false => Err(taken_over(task)),
        }
    }

    /// Appends epochs of several tasks in one transaction: all or, after an error, none.
    pub fn append(&mut self, appends: &[Append]) -> Result<Vec<bool>> {
        // The answers are in the order of the question; what is written, in the order of the tasks.
        let mut order: Vec<usize> = (0..appends.len()).collect();
        order.sort_by(|a, b| appends[*a].task.cmp(&appends[*b].task).then(a.cmp(b)));
        for append in appends {
            self.check_append(append)?;
        }
        let mut answers = vec![false; appends.len()];
        for number in order {
            answers[number] = self.append_one(&appends[number]);
        }
        Ok(answers)
    }

    /// Tells a lost answer (the append is there already) from a log that is ahead of its owner.
    fn check_append(&mut self, append: &Append) -> Result<()> {
        let (task, epoch) = (&append.task, append.entry.epoch);
        let is_known = self.epochs.contains_key(&(task.clone(), epoch));
        match self.owned(task, append.generation) {
            Ok(row) if row.epoch.is_some_and(|last| epoch <= last) && !is_known => Err(StageError::fatal(format!(
                "epoch {epoch} of task `{task}` cannot be logged: the log is ahead of it"
            ))),
            _ => Ok(()),
        }
    }

    fn append_one(&mut self, append: &Append) -> bool {
        let (task, epoch) = (&append.task, append.entry.epoch);
        let Ok(row) = self.owned(task, append.generation) else { return false };
        if row.epoch.is_some_and(|last| epoch <= last) {
            return true;
        }
        row.epoch = Some(epoch);
        self.epochs.insert((task.clone(), epoch), append.entry.clone());
        self.put_marks(&append.marks);
        append.replayed.iter().for_each(|number| drop(self.letters.remove(number)));
        self.add_letters(&append.dead_letters);
        self.outboxes.insert(append);
        self.add_evidence(append);
        true
    }

    /// Stores marks of sinks that keep none.
    pub fn put_marks(&mut self, marks: &[Mark]) {
        for mark in marks {
            self.marks.insert((mark.task.clone(), mark.sink.clone()), mark.clone());
        }
    }

    /// Stores dead letters that are not there yet.
    pub fn add_letters(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            let row = &letter.row;
            let is_same = |known: &Letter| {
                let other = &known.letter.row;
                (&other.stage, &other.place, other.offset, other.branch)
                    == (&row.stage, &row.place, row.offset, row.branch)
            };
            // As the real one: a letter that is there already takes a number, too.
            self.last_letter += 1;
            if self.letters.values().any(is_same) {
                continue;
            }
            self.letters.insert(self.last_letter, Letter { letter: letter.clone(), is_requested: false });
        }
    }

    fn add_evidence(&mut self, append: &Append) {
        for row in evidence_rows(&append.evidence) {
            self.last_evidence += 1;
            for (place, new) in row.iter().enumerate() {
                let line = EvidenceLine {
                    number: evidence_number(self.last_evidence, place).expect("there are few"),
                    stage: new.stage.to_string(),
                    ids: new.ids.clone(),
                    series: series_of(&new.series).expect("the engine has just written it"),
                    row_at: new.row_at,
                    task: append.task.clone(),
                    epoch: append.entry.epoch,
                    at: append.entry.ended_at,
                };
                let judge = decode(&new.judge).expect("the engine has just written it");
                self.evidence.insert(line.number, (line, Evidence { judge, judged: new.judged.clone() }));
            }
        }
    }

    /// Drops evidence that is too old at a time, and what is too much.
    pub fn prune_evidence(&mut self, now: Timestamp) {
        let oldest = now.0.saturating_sub(EVIDENCE_AGE_MICROS);
        self.evidence.retain(|_, (line, _)| oldest <= line.at.0);
        while MAX_EVIDENCE < self.evidence.len() as u64 {
            self.evidence.pop_first();
        }
    }

    /// Drops the log and gives the task another state id.
    pub fn begin_anew(&mut self, task: &str, generation: u64, above: Option<u64>, state_id: &str) -> Result<()> {
        let row = self.owned(task, generation)?;
        *row = Task {
            state_id: state_id.into(),
            generation: row.generation,
            epoch: above,
            begun_above: above,
            ..Task::default()
        };
        self.epochs.retain(|(of, _), _| of != task);
        self.marks.retain(|(of, _), _| of != task);
        Ok(())
    }

    /// The epochs of a task above a number, in order.
    pub fn above(&self, task: &str, epoch: Option<u64>) -> Vec<EpochEntry> {
        let of_task = self.epochs.iter().filter(|((of, number), _)| of == task && epoch < Some(*number));
        of_task.map(|(_, entry)| entry.clone()).collect()
    }

    /// Drops the epochs of a task up to a number.
    pub fn drop_through(&mut self, task: &str, epoch: u64) {
        self.epochs.retain(|(of, number), _| of != task || epoch < *number);
    }
}
