//! What an epoch gives while it is made.

use pipeline_stage::Rows;

use crate::run::ledger::Counts;
use crate::run::view::{EdgeWork, Sample, Work};
use crate::store::{NewEvidence, StoredRow};

/// What an epoch has given so far.
#[derive(Default)]
pub struct EpochOutput {
    /// For each stage, if it is a sink, its rows.
    pub sinks: Vec<Vec<Rows>>,
    /// Rows that could not be processed.
    pub dead: Vec<Dead>,
    /// Rows that a detector called an anomaly.
    pub anomalies: u64,
    /// What anomalies were judged by.
    pub evidence: Vec<NewEvidence>,
    /// For each stage its books; of a sink, `out` is what it is to write.
    pub counts: Vec<Counts>,
    /// For each stage what it did beside that.
    pub work: Vec<Work>,
    /// Values of series, if it was time to look at some.
    pub samples: Vec<Sample>,
}

impl EpochOutput {
    /// Of an epoch that begins.
    pub fn of(n_stages: usize) -> Self {
        let sinks = (0..n_stages).map(|_| Vec::new()).collect();
        EpochOutput { sinks, work: vec![Work::default(); n_stages], ..EpochOutput::default() }
    }

    /// Of all stages, the most rows that came to one in this epoch, and the most bytes.
    pub fn most_made(&self) -> (u64, usize) {
        let came = self.work.iter().map(|work| {
            let sum = |of: fn(&EdgeWork) -> u64| work.edges.iter().map(of).sum::<u64>();
            (sum(|edge| edge.rows), sum(|edge| edge.bytes) as usize)
        });
        came.fold((0, 0), |most, came| (most.0.max(came.0), most.1.max(came.1)))
    }
}

/// A row that a stage could not process.
pub struct Dead {
    /// The row, and the stage.
    pub row: StoredRow,
    /// Why.
    pub reason: String,
}
