//! An anomaly can be judged again from its evidence alone: that is what `pipeline explain` does.

use arrow::array::RecordBatch;
use pipeline_stage::{Evidence, MAX_BATCH_ROWS, Origin, Outcome, Output};

use super::cut;
use crate::broken::{Broken, guarded};
use crate::subject::{Store, Subject};

/// So many anomalies of a run are judged again: each builds the stage.
const JUDGED: usize = 100;

/// The series that is kept as evidence of an anomaly gives the same score for its row again, to the last bit. Says how
/// often that was tried; a detector that keeps no evidence is none the worse.
///
/// # Errors
/// When that does not hold.
pub fn an_anomaly_is_judged_the_same_again(subject: Subject<'_>, rows: &RecordBatch) -> Result<usize, Broken> {
    let mut transform = subject.build(&rows.schema(), &Store::default())?;
    let mut judged = 0;
    for batch in cut(rows, &mut |_| MAX_BATCH_ROWS / 8) {
        let mut out = Output::with_evidence(JUDGED - judged);
        let processed = guarded(|| transform.process(0, &batch, &mut out))?;
        processed.map_err(|error| Broken::new(format!("failed: {}", error.chain())))?;
        let Outcome { emitted, evidence, .. } = out.take();
        for Evidence { row, key, before } in evidence {
            let (Ok(before), [(given, Origin::Same)]) = (before, emitted.as_slice()) else { continue };
            let mut again = subject.build(&rows.schema(), &Store::of(key, before))?;
            let mut out = Output::default();
            let processed = guarded(|| again.process(0, &batch.slice(row as usize, 1), &mut out))?;
            processed.map_err(|error| Broken::new(format!("failed on evidence: {}", error.chain())))?;
            let (found, given) = (out.take().emitted, given.slice(row as usize, 1));
            if found.len() != 1 || found[0].0 != given {
                let found = found.first().map(|(row, _)| row);
                return Err(Broken::new(format!(
                    "an anomaly is judged otherwise from the series before it: {given:?} is {found:?} again"
                )));
            }
            judged += 1;
        }
    }
    Ok(judged)
}
