//! The laws that every transform and detector obeys (DESIGN, section 9), checked by running it.

mod epoch;
mod judged;
mod output;

use arrow::array::RecordBatch;
use pipeline_stage::{Kind, MAX_BATCH_ROWS, StageType};
use serde_json::Value;

use crate::broken::Broken;
use crate::random::Random;
use crate::subject::{Store, Subject};
pub use epoch::{Clock, Epoch, cut_into_epochs};
pub use judged::an_anomaly_is_judged_the_same_again;
pub use output::{EpochOutput, run_epoch};

/// How often a law is tried, with other random numbers each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// As often as a second allows, for stages that are built in no time.
    #[default]
    Full,
    /// Twice, for stages that start a process each time they are built: one that dies after each epoch for as long as
    /// it may, and one that dies at random.
    Brief,
}

impl Effort {
    fn tries(self) -> u64 {
        match self {
            Effort::Full => 8,
            Effort::Brief => 2,
        }
    }
}

/// Enough crashes in one run to meet a crash after a crash; few enough that it ends.
const MAX_CRASHES: usize = 20;

/// What a check has done: a test that could pass without testing asserts on it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Batches given, over all tries.
    pub batches: usize,
    /// Rows that came out of an undisturbed run.
    pub rows_out: usize,
    /// How often the stage was built anew from saved state.
    pub resumed: usize,
    /// How often that state was not empty.
    pub resumed_with_state: usize,
    /// How many anomalies were judged again from their evidence.
    pub judged_again: usize,
}

impl Evidence {
    /// What the two laws were tried on together.
    fn and(&self, other: &Evidence) -> Evidence {
        Evidence {
            batches: self.batches + other.batches,
            rows_out: self.rows_out,
            resumed: self.resumed + other.resumed,
            resumed_with_state: self.resumed_with_state + other.resumed_with_state,
            judged_again: self.judged_again + other.judged_again,
        }
    }
}

/// [`laws_hold`] for tests.
///
/// # Panics
/// With the law, the epoch and the first difference, when they do not.
pub fn obeys_laws(stage: &StageType, options: &Value, rows: &RecordBatch) -> Evidence {
    laws_hold(stage, options, rows, Effort::Full).unwrap_or_else(|broken| panic!("{}: {broken}", stage.name))
}

/// [`obeys_laws`], tried less often.
///
/// # Panics
/// As [`obeys_laws`].
pub fn obeys_laws_briefly(stage: &StageType, options: &Value, rows: &RecordBatch) -> Evidence {
    laws_hold(stage, options, rows, Effort::Brief).unwrap_or_else(|broken| panic!("{}: {broken}", stage.name))
}

/// Checks that a transform or detector with one input obeys the laws on these rows:
///
/// 1. [*Batching does not matter*](batching_does_not_matter).
/// 2. [*A crash does not matter*](a_crash_does_not_matter).
/// 3. [*An anomaly is judged the same again*](an_anomaly_is_judged_the_same_again), by a detector that keeps evidence.
///
/// # Errors
/// The first that does not hold, with the first difference.
pub fn laws_hold(stage: &StageType, options: &Value, rows: &RecordBatch, effort: Effort) -> Result<Evidence, Broken> {
    let subject = Subject { stage, options };
    let mut evidence =
        batching_does_not_matter(subject, rows, effort)?.and(&a_crash_does_not_matter(subject, rows, effort)?);
    if stage.kind == Kind::Detector {
        evidence.judged_again = an_anomaly_is_judged_the_same_again(subject, rows)?;
    }
    Ok(evidence)
}

/// Any cut of the rows gives the same output; and the books balance in every epoch.
///
/// # Errors
/// When that does not hold.
pub fn batching_does_not_matter(subject: Subject<'_>, rows: &RecordBatch, effort: Effort) -> Result<Evidence, Broken> {
    let laws = Laws::new(subject, rows)?;
    let (expected, mut evidence) = laws.undisturbed()?;
    for seed in 0..effort.tries() {
        let mut random = Random::new(seed);
        let mut transform = subject.build(&rows.schema(), &Store::default())?;
        for (number, epoch) in laws.epochs.iter().enumerate() {
            let batches = cut(&epoch.rows, &mut |left| random_cut(&mut random, left));
            let output = run_epoch(&mut *transform, epoch, &batches);
            expect_same(number, output, &expected[number]).map_err(|broken| broken.about("batching matters"))?;
            evidence.batches += batches.len();
        }
    }
    Ok(evidence)
}

/// Saved, dropped, built anew and given again what it was given since, it gives the same output; saves are increments
/// put into one store, some of them written in parts while rows go on. It was really resumed, a detector with state.
///
/// # Errors
/// When that does not hold.
pub fn a_crash_does_not_matter(subject: Subject<'_>, rows: &RecordBatch, effort: Effort) -> Result<Evidence, Broken> {
    let laws = Laws::new(subject, rows)?;
    let (expected, mut evidence) = laws.undisturbed()?;
    for seed in 0..effort.tries() {
        laws.crash(seed, &expected, &mut evidence).map_err(|broken| broken.about("a crash matters"))?;
    }
    if evidence.resumed < effort.tries() as usize {
        return Err(Broken::new(format!("it was resumed {} times only", evidence.resumed)));
    }
    if subject.stage.kind == Kind::Detector && evidence.resumed_with_state == 0 {
        return Err(Broken::new("a crash matters: a detector remembers its series, but nothing was saved"));
    }
    Ok(evidence)
}

struct Laws<'a> {
    subject: Subject<'a>,
    epochs: Vec<Epoch>,
}

impl<'a> Laws<'a> {
    fn new(subject: Subject<'a>, rows: &RecordBatch) -> Result<Self, Broken> {
        match rows.num_rows() {
            0 => Err(Broken::new("the laws need rows")),
            _ => Ok(Laws { subject, epochs: cut_into_epochs(rows) }),
        }
    }

    fn undisturbed(&self) -> Result<(Vec<EpochOutput>, Evidence), Broken> {
        let mut transform = self.subject.build(&self.epochs[0].rows.schema(), &Store::default())?;
        let (mut outputs, mut evidence) = (Vec::new(), Evidence::default());
        for epoch in &self.epochs {
            let batches = cut(&epoch.rows, &mut |_| MAX_BATCH_ROWS);
            let output: EpochOutput = run_epoch(&mut *transform, epoch, &batches)?;
            evidence.batches += batches.len();
            evidence.rows_out += output.origins.len();
            outputs.push(output);
        }
        Ok((outputs, evidence))
    }

    fn crash(&self, seed: u64, expected: &[EpochOutput], evidence: &mut Evidence) -> Result<(), Broken> {
        let mut random = Random::new(seed);
        let store = if seed.is_multiple_of(2) { Store::default() } else { Store::that_drops() };
        let (mut store, mut saved_at, mut crashes) = (store, 0, 0);
        let columns = self.epochs[0].rows.schema();
        let mut transform = self.subject.build(&columns, &store)?;
        let mut number = 0;
        // What is saved in parts counts when the last one is there; rows go on meanwhile.
        let mut in_parts: Option<(Store, usize)> = None;
        while number < self.epochs.len() {
            let epoch = &self.epochs[number];
            let batches = cut(&epoch.rows, &mut |left| random_cut(&mut random, left));
            expect_same(number, run_epoch(&mut *transform, epoch, &batches), &expected[number])?;
            evidence.batches += batches.len();
            number += 1;
            if let Some((mut parts, at)) = in_parts.take() {
                match parts.take_part(&mut *transform, 1 + random.below(4))? {
                    true => (store, saved_at) = (parts, at),
                    false => in_parts = Some((parts, at)),
                }
            } else if random.once_in(2) {
                match random.once_in(2) && transform.begin_save() {
                    true => in_parts = Some((store.clone(), number)),
                    false => {
                        store.take(&mut *transform)?;
                        saved_at = number;
                    }
                }
            }
            // The first try dies after each epoch for as long as it may: a state that is restored, saved and restored.
            let dies = crashes < MAX_CRASHES && (seed == 0 || random.once_in(3));
            if dies {
                crashes += 1;
                transform = self.subject.build(&columns, &store)?;
                in_parts = None;
                number = saved_at;
                evidence.resumed += 1;
                evidence.resumed_with_state += usize::from(!store.is_empty());
            }
        }
        Ok(())
    }
}

fn expect_same(number: usize, found: Result<EpochOutput, Broken>, expected: &EpochOutput) -> Result<(), Broken> {
    let found = found.map_err(|broken| broken.about(format_args!("in epoch {number}")))?;
    match found.difference(expected) {
        Some(difference) => Err(Broken::new(format!("in epoch {number} {difference}"))),
        None => Ok(()),
    }
}

/// The rows in batches of the sizes that `size` names.
fn cut(rows: &RecordBatch, size: &mut dyn FnMut(usize) -> usize) -> Vec<RecordBatch> {
    let (mut batches, mut start) = (Vec::new(), 0);
    while start < rows.num_rows() {
        let left = rows.num_rows() - start;
        batches.push(rows.slice(start, size(left).clamp(1, left)));
        start += batches.last().map_or(left, RecordBatch::num_rows);
    }
    batches
}

/// Single rows, small batches, all that is left.
fn random_cut(random: &mut Random, left: usize) -> usize {
    match random.below(4) {
        0 => 1,
        1 => left,
        _ => 1 + random.below(left),
    }
}
