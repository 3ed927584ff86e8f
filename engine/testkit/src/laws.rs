//! The laws that every transform and detector obeys (DESIGN, section 9), checked by running it.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use pipeline_stage::{
    Kind, MAX_BATCH_ROWS, Make, Origin, Outcome, Output, SavedState, StageType, StateWriter, Times, Timestamp,
    Transform,
};
use serde_json::Value;

use crate::random::Random;
use crate::readings::stage_context;

/// How often each law is tried, with other random numbers each time.
const TRIES: u64 = 8;
/// One that dies after each epoch for as long as it may, and one that dies at random.
const BRIEF_TRIES: u64 = 2;

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
}

/// Checks that a transform or detector with one input obeys the laws on these rows:
///
/// 1. *Batching does not matter*: any cut of the rows gives the same output.
/// 2. *A crash does not matter*: saved, dropped, built anew and given again what it was given since, it gives the
///    same output; saves are increments put into one store.
///
/// and that its books balance in every epoch. It was really resumed, a detector with state.
///
/// # Panics
/// With the law, the epoch and the first difference, when it does not.
pub fn obeys_laws(stage: &StageType, options: &Value, rows: &RecordBatch) -> Evidence {
    obeys_laws_in(TRIES, stage, options, rows)
}

/// [`obeys_laws`], tried less often: for stages that start a process each time they are built.
///
/// # Panics
/// As [`obeys_laws`].
pub fn obeys_laws_briefly(stage: &StageType, options: &Value, rows: &RecordBatch) -> Evidence {
    obeys_laws_in(BRIEF_TRIES, stage, options, rows)
}

fn obeys_laws_in(tries: u64, stage: &StageType, options: &Value, rows: &RecordBatch) -> Evidence {
    let laws = Laws { stage, options, epochs: cut_into_epochs(rows) };
    let mut evidence = Evidence::default();
    let expected = laws.undisturbed(&mut evidence);
    for seed in 0..tries {
        laws.batching_does_not_matter(seed, &expected, &mut evidence);
        laws.a_crash_does_not_matter(seed, &expected, &mut evidence);
    }
    assert!(tries as usize <= evidence.resumed, "{} was resumed {} times only", stage.name, evidence.resumed);
    if stage.kind == Kind::Detector {
        assert!(0 < evidence.resumed_with_state, "{} was never resumed with state", stage.name);
    }
    evidence
}

struct Laws<'a> {
    stage: &'a StageType,
    options: &'a Value,
    epochs: Vec<Epoch>,
}

struct Epoch {
    /// The number of its first row among all rows.
    first: usize,
    rows: RecordBatch,
    times: Times,
}

/// What came out in one epoch, with rows numbered among all rows.
#[derive(Debug, Default, PartialEq)]
struct EpochOutput {
    batches: Option<RecordBatch>,
    /// The input row of each row; none for rows that were made.
    origins: Vec<Option<usize>>,
    rejected: Vec<(usize, String)>,
    late: Vec<usize>,
    filtered: u64,
    created: u64,
    held: u64,
}

#[derive(Default)]
struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateWriter for Store {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl Laws<'_> {
    fn build(&self, store: &Store) -> Box<dyn Transform> {
        let Make::Transform(make) = &self.stage.make else {
            panic!("{} is a {}, the laws are about transforms and detectors", self.stage.name, self.stage.kind.name());
        };
        let state = SavedState { entries: store.0.clone().into_iter().collect() };
        let inputs = [self.epochs[0].rows.schema()];
        make(self.options.clone(), &stage_context(), &inputs, state)
            .unwrap_or_else(|error| panic!("{} cannot be built: {}", self.stage.name, error.chain()))
    }

    fn undisturbed(&self, evidence: &mut Evidence) -> Vec<EpochOutput> {
        let mut transform = self.build(&Store::default());
        let outputs: Vec<EpochOutput> = self
            .epochs
            .iter()
            .map(|epoch| run_epoch(&mut *transform, epoch, &mut |_| MAX_BATCH_ROWS, evidence))
            .collect();
        evidence.rows_out = outputs.iter().map(|output| output.origins.len()).sum();
        outputs
    }

    fn batching_does_not_matter(&self, seed: u64, expected: &[EpochOutput], evidence: &mut Evidence) {
        let mut random = Random::new(seed);
        let mut transform = self.build(&Store::default());
        for (number, epoch) in self.epochs.iter().enumerate() {
            let output = run_epoch(&mut *transform, epoch, &mut |left| random_cut(&mut random, left), evidence);
            self.expect_same("batching matters", number, &output, &expected[number]);
        }
    }

    fn a_crash_does_not_matter(&self, seed: u64, expected: &[EpochOutput], evidence: &mut Evidence) {
        let mut random = Random::new(seed);
        let (mut store, mut saved_at, mut crashes) = (Store::default(), 0, 0);
        let mut transform = self.build(&store);
        let mut number = 0;
        while number < self.epochs.len() {
            let epoch = &self.epochs[number];
            let output = run_epoch(&mut *transform, epoch, &mut |left| random_cut(&mut random, left), evidence);
            self.expect_same("a crash matters", number, &output, &expected[number]);
            number += 1;
            if random.once_in(2) {
                transform.save(&mut store).unwrap_or_else(|error| panic!("cannot be saved: {}", error.chain()));
                saved_at = number;
            }
            // The first try dies after each epoch for as long as it may: a state that is restored, saved and restored.
            let dies = crashes < MAX_CRASHES && (seed == 0 || random.once_in(3));
            if dies {
                crashes += 1;
                transform = self.build(&store);
                number = saved_at;
                evidence.resumed += 1;
                evidence.resumed_with_state += usize::from(!store.0.is_empty());
            }
        }
    }

    fn expect_same(&self, law: &str, number: usize, found: &EpochOutput, expected: &EpochOutput) {
        if found == expected {
            return;
        }
        let row = (0..found.origins.len().min(expected.origins.len())).find(|&row| {
            found.origins[row] != expected.origins[row] || row_of(&found.batches, row) != row_of(&expected.batches, row)
        });
        let difference = match row {
            Some(row) => format!(
                "row {row} of the output is\n{:?} from {:?}, it must be\n{:?} from {:?}",
                row_of(&found.batches, row),
                found.origins[row],
                row_of(&expected.batches, row),
                expected.origins[row]
            ),
            None => format!("the output is\n{found:?}, it must be\n{expected:?}"),
        };
        panic!("{}: {law}: in epoch {number} {difference}", self.stage.name);
    }
}

fn row_of(batch: &Option<RecordBatch>, row: usize) -> Option<RecordBatch> {
    batch.as_ref().map(|batch| batch.slice(row, 1))
}

/// Gives a transform the rows of an epoch, in batches of the sizes that `cut` names, and then the end of the epoch.
fn run_epoch(
    transform: &mut dyn Transform,
    epoch: &Epoch,
    cut: &mut dyn FnMut(usize) -> usize,
    evidence: &mut Evidence,
) -> EpochOutput {
    let held_before = transform.held();
    let mut found = EpochOutput::default();
    let mut emitted = Vec::new();
    let mut out = Output::default();
    let mut start = 0;
    while start < epoch.rows.num_rows() {
        let left = epoch.rows.num_rows() - start;
        let batch = epoch.rows.slice(start, cut(left).min(left));
        transform.process(0, &batch, &mut out).unwrap_or_else(|error| panic!("failed: {}", error.chain()));
        found.add(out.take(), epoch.first + start, batch.num_rows(), &mut emitted);
        evidence.batches += 1;
        start += batch.num_rows();
    }
    transform.tick(epoch.times, &mut out).unwrap_or_else(|error| panic!("failed at a tick: {}", error.chain()));
    found.add(out.take(), 0, 0, &mut emitted);
    found.held = transform.held();
    found.batches =
        (!emitted.is_empty()).then(|| concat_batches(&transform.schema(), &emitted).expect("all have one schema"));
    let taken = held_before + epoch.rows.num_rows() as u64 + found.created;
    let rejected_or_late = (found.rejected.len() + found.late.len()) as u64;
    let given = found.origins.len() as u64 + found.filtered + rejected_or_late + found.held;
    assert_eq!(taken, given, "the books do not balance: held before + in + created ≠ out + … + held after");
    found
}

impl EpochOutput {
    fn add(&mut self, outcome: Outcome, first: usize, rows_in: usize, emitted: &mut Vec<RecordBatch>) {
        let global = |row: u32| {
            assert!((row as usize) < rows_in, "row {row} of a batch of {rows_in} rows");
            first + row as usize
        };
        for (batch, origin) in outcome.emitted {
            match origin {
                Origin::Same => {
                    assert_eq!(batch.num_rows(), rows_in, "`Origin::Same` means as many rows as came in");
                    self.origins.extend((0..rows_in as u32).map(|row| Some(global(row))));
                }
                Origin::Rows(rows) => {
                    assert_eq!(batch.num_rows(), rows.len(), "one origin for each row");
                    self.origins.extend(rows.into_iter().map(|row| Some(global(row))));
                }
                Origin::Created => self.origins.extend((0..batch.num_rows()).map(|_| None)),
            }
            emitted.push(batch);
        }
        self.rejected.extend(outcome.rejected.into_iter().map(|(row, why)| (global(row), why)));
        self.late.extend(outcome.late.into_iter().map(global));
        self.filtered += outcome.filtered;
        self.created += outcome.created;
    }
}

/// Single rows, small batches, all that is left.
fn random_cut(random: &mut Random, left: usize) -> usize {
    match random.below(4) {
        0 => 1,
        1 => left,
        _ => 1 + random.below(left),
    }
}

/// Epochs of random lengths, always the same for the same rows, with the times that the engine would record.
fn cut_into_epochs(rows: &RecordBatch) -> Vec<Epoch> {
    assert!(0 < rows.num_rows(), "the laws need rows");
    let mut random = Random::new(rows.num_rows() as u64);
    let longest = rows.num_rows() / 8 + 2;
    let (mut epochs, mut first, mut now, mut watermark) = (Vec::new(), 0, Timestamp(0), None);
    while first < rows.num_rows() {
        let count = random.below(longest).min(rows.num_rows() - first);
        let batch = rows.slice(first, count);
        watermark = watermark.max(latest_time(&batch));
        now = now.max(watermark.unwrap_or(now));
        epochs.push(Epoch { first, rows: batch, times: Times { now, watermark } });
        first += count;
    }
    epochs
}

fn latest_time(batch: &RecordBatch) -> Option<Timestamp> {
    let column = batch.columns().iter().find(|column| matches!(column.data_type(), DataType::Timestamp(..)))?;
    column.as_primitive::<TimestampMicrosecondType>().iter().flatten().max().map(Timestamp)
}
