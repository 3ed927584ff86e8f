//! What the engine reads of its own state: checkpoints and the epoch log, outboxes, marks. It has written them itself,
//! but disks err, and people edit databases.

use std::fmt::Debug;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use pipeline_runtime::store::{Checkpoint, EpochEntry, Judge, Judged, StoredRow};
use pipeline_stage::{Alert, Kind, Make, MakeTransform, Mark, Outcome, Output, Result, SavedState, Transform};
use pipeline_testkit::{Store, reading_schema, stage_context, steady_readings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// The rows that a stage is given: each of these series has some.
const SERIES: usize = 4;
const WINDOW: usize = 5;

/// The first byte chooses what is read of the rest: a checkpoint's or an epoch's line, or the state of a stage.
pub fn checkpoints(bytes: &[u8]) -> bool {
    let Some((choice, rest)) = bytes.split_first() else { return false };
    match choice % 6 {
        0 => is_read_as_written::<Checkpoint>(rest),
        1 => is_read_as_written::<EpochEntry>(rest),
        2 => is_read_as_written::<Judge>(rest),
        3 => is_read_as_written::<Judged>(rest),
        4 => is_taken_or_refused(damaged(rest)),
        _ => is_taken_or_refused(made_up(rest)),
    }
}

/// The first byte chooses what is read of the rest: an alert that waits, or a row that is kept with its bytes.
pub fn outbox(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, rest)) => is_read_as_written::<StoredRow>(rest),
        Some((_, rest)) => is_read_as_written::<Alert>(rest),
        None => false,
    }
}

/// The bytes are a mark, as sinks keep it that have no columns for it.
pub fn marks(bytes: &[u8]) -> bool {
    is_read_as_written::<Mark>(bytes)
}

/// What is accepted is written in a form that is accepted as the same.
fn is_read_as_written<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return false };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(read, again);
    true
}

/// The state of a detector that has seen all series, with some bytes changed: place, then what is added to it.
fn damaged(bytes: &[u8]) -> SavedState {
    let mut state = SavedState { entries: SAVED.clone() };
    let n_bytes: usize = state.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    for change in bytes.chunks_exact(3).take(16) {
        let mut place = usize::from(u16::from_le_bytes([change[0], change[1]])) % n_bytes;
        for part in state.entries.iter_mut().flat_map(|(key, value)| [key, value]) {
            match part.get_mut(place) {
                Some(byte) => {
                    *byte = byte.wrapping_add(change[2]);
                    break;
                }
                None => place -= part.len(),
            }
        }
    }
    state
}

/// One series with the key of the first and a value made of these bytes.
fn made_up(bytes: &[u8]) -> SavedState {
    let entries = SAVED.iter().enumerate().map(|(number, (key, value))| match number {
        0 => (key.clone(), bytes.to_vec()),
        _ => (key.clone(), value.clone()),
    });
    SavedState { entries: entries.collect() }
}

/// A detector says what is wrong with its state, or goes on from it, and what it saves then is good.
fn is_taken_or_refused(state: SavedState) -> bool {
    let mut detector = match build(state) {
        Ok(detector) => detector,
        Err(error) => {
            assert!(!error.chain().trim().is_empty(), "what is refused has a reason");
            return false;
        }
    };
    let rows = rows(SERIES * 2 * WINDOW);
    let outcome = score(&mut *detector, &rows);
    assert_eq!(n_rows(&outcome) + outcome.rejected.len(), rows.num_rows(), "each row goes somewhere");
    let saved = save(&mut *detector);
    assert!(build(SavedState { entries: saved }).is_ok(), "what was saved can be read");
    true
}

fn n_rows(outcome: &Outcome) -> usize {
    outcome.emitted.iter().map(|(batch, _)| batch.num_rows()).sum()
}

fn rows(n_rows: usize) -> RecordBatch {
    steady_readings(SERIES, 0, n_rows)
}

fn build(state: SavedState) -> Result<Box<dyn Transform>> {
    static MAKE: LazyLock<std::sync::Arc<MakeTransform>> = LazyLock::new(|| {
        let stages = pipeline_builtin::stages();
        let zscore = stages.into_iter().find(|stage| stage.kind == Kind::Detector && stage.name == "zscore");
        let Make::Transform(make) = zscore.expect("it is built in").make else { panic!("a detector is a transform") };
        make
    });
    MAKE(json!({ "value": "value", "window": WINDOW }), &stage_context(), &[reading_schema()], state)
}

fn score(detector: &mut dyn Transform, rows: &RecordBatch) -> Outcome {
    let mut out = Output::default();
    detector.process(0, rows, &mut out).expect("good rows are processed");
    out.take()
}

static SAVED: LazyLock<Vec<(Vec<u8>, Vec<u8>)>> = LazyLock::new(|| {
    let mut detector = build(SavedState::default()).expect("the options are right");
    score(&mut *detector, &rows(SERIES * WINDOW));
    let saved = save(&mut *detector);
    assert!(SERIES <= saved.len(), "each series has state");
    saved
});

fn save(detector: &mut dyn Transform) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut saved = Store::default();
    detector.save(&mut saved).expect("state can be written");
    saved.saved().entries
}
