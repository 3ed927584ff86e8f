//! The compute stages of one task: rows go through them depth first, a call is a call.

use std::sync::Arc;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use pipeline_stage::{
    ErrorKind, Kind, Origin, Origins, Outcome, Output, Result, Rows, StageError, StateWriter, Times, Transform,
    row_to_json,
};

use super::decode::DecodedRows;
use super::ledger::Counts;
use crate::expression::Expression;
use crate::plan::{Plan, RunSettings};
use crate::store::StageChanges;

/// All stages of a task, and the books of the epoch that is being made.
pub struct Compute {
    stages: Vec<Running>,
    order: Vec<usize>,
    output: EpochOutput,
}

struct Running {
    id: Arc<str>,
    transform: Option<Box<dyn Transform>>,
    is_sink: bool,
    when: Vec<Expression>,
    /// The stages that read it, each with the number of the edge on its side.
    readers: Vec<(usize, usize)>,
    /// Where a detector says whether a row is an anomaly.
    anomaly_column: Option<usize>,
    counts: Counts,
}

/// What an epoch has given so far.
#[derive(Default)]
pub struct EpochOutput {
    /// For each stage, if it is a sink, its rows.
    pub sinks: Vec<Vec<Rows>>,
    /// Rows that could not be processed.
    pub dead: Vec<Dead>,
    /// Rows that a detector called an anomaly.
    pub anomalies: u64,
    /// For each stage its books; of a sink, `out` is what it is to write.
    pub counts: Vec<Counts>,
}

/// A row that a stage could not process.
pub struct Dead {
    /// The stage's id.
    pub stage: Arc<str>,
    /// `source/partition`.
    pub place: Arc<str>,
    /// The offset of the row it came from.
    pub offset: u64,
    /// Why.
    pub reason: String,
    /// A payload, or the row as JSON.
    pub bytes: Option<Vec<u8>>,
}

impl Compute {
    /// Builds the transforms and detectors with their state, which `state` gives by stage id.
    pub fn build(
        plan: &Plan,
        run: &RunSettings,
        mut state: impl FnMut(&str) -> pipeline_stage::SavedState,
    ) -> Result<Self> {
        let mut stages = Vec::with_capacity(plan.stages.len());
        for (number, stage) in plan.stages.iter().enumerate() {
            let transform = match stage.kind {
                Kind::Transform | Kind::Detector => Some(plan.build_transform(number, run, state(&stage.id))?),
                _ => None,
            };
            let readers = plan.stages.iter().enumerate().flat_map(|(reader, other)| {
                let edges = other.inputs.iter().enumerate().filter(|(_, input)| **input == number);
                edges.map(move |(edge, _)| (reader, edge)).collect::<Vec<_>>()
            });
            let mut anomaly = stage.schema.fields().iter().rev();
            let anomaly = anomaly.find(|field| field.name().ends_with("is_anomaly"));
            let is_detector = stage.kind == Kind::Detector;
            stages.push(Running {
                id: stage.id.as_str().into(),
                transform,
                is_sink: stage.kind == Kind::Sink,
                when: stage.when.clone(),
                readers: readers.collect(),
                anomaly_column: anomaly.filter(|_| is_detector).and_then(|f| stage.schema.index_of(f.name()).ok()),
                counts: Counts::default(),
            });
        }
        let output = EpochOutput { sinks: stages.iter().map(|_| Vec::new()).collect(), ..EpochOutput::default() };
        Ok(Compute { stages, order: plan.order.clone(), output })
    }

    /// Takes what a source has read.
    pub fn read(&mut self, source: usize, decoded: DecodedRows) -> Result<()> {
        let DecodedRows { rows, rejected } = decoded;
        let counts = &mut self.stages[source].counts;
        counts.rows_in += (rows.batch.num_rows() + rejected.len()) as u64;
        counts.dead += rejected.len() as u64;
        for row in rejected {
            self.output.dead.push(Dead {
                stage: self.stages[source].id.clone(),
                place: rows.origins.place.clone(),
                offset: row.offset,
                reason: row.reason,
                bytes: row.bytes,
            });
        }
        let rows = self.apply_when(source, 0, rows)?;
        self.stages[source].counts.out += rows.batch.num_rows() as u64;
        self.hand_on(source, rows)
    }

    /// Takes rows at a stage that is no source.
    pub fn enter(&mut self, stage: usize, edge: usize, rows: Rows) -> Result<()> {
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        self.stages[stage].counts.rows_in += rows.batch.num_rows() as u64;
        let rows = self.apply_when(stage, edge, rows)?;
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        if self.stages[stage].is_sink {
            self.stages[stage].counts.out += rows.batch.num_rows() as u64;
            self.output.sinks[stage].push(rows);
            return Ok(());
        }
        self.process(stage, edge, rows)
    }

    fn apply_when(&mut self, stage: usize, edge: usize, rows: Rows) -> Result<Rows> {
        let running = &mut self.stages[stage];
        let Some(when) = running.when.get(edge) else { return Ok(rows) };
        let keep =
            when.select(&rows.batch).map_err(|error| StageError::fatal("`when` failed").because(error.to_string()))?;
        let batch = filter_record_batch(&rows.batch, &keep)?;
        running.counts.filtered += (rows.batch.num_rows() - batch.num_rows()) as u64;
        if batch.num_rows() == rows.batch.num_rows() {
            return Ok(rows);
        }
        let offsets =
            rows.origins.offsets.iter().zip(keep.values()).filter(|(_, keep)| *keep).map(|(offset, _)| *offset);
        Ok(Rows { batch, origins: Origins { place: rows.origins.place.clone(), offsets: offsets.collect() } })
    }

    fn process(&mut self, stage: usize, edge: usize, rows: Rows) -> Result<()> {
        let mut out = Output::default();
        let transform =
            self.stages[stage].transform.as_mut().expect("a stage that is no source and no sink transforms");
        match transform.process(edge, &rows.batch, &mut out) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Data => {
                out = Output::default();
                let why = error.chain();
                (0..rows.batch.num_rows()).for_each(|row| out.reject(row, why.clone()));
            }
            Err(error) => return Err(self.named(stage, error)),
        }
        self.spread(stage, Some(&rows), out.take())
    }

    /// Books what a stage has said and hands its rows on.
    fn spread(&mut self, stage: usize, given: Option<&Rows>, outcome: Outcome) -> Result<()> {
        let counts = &mut self.stages[stage].counts;
        counts.dead += outcome.rejected.len() as u64;
        counts.late += outcome.late.len() as u64;
        counts.filtered += outcome.filtered;
        counts.created += outcome.created;
        for (row, why) in outcome.rejected {
            let given = given.ok_or_else(|| StageError::fatal("a row was rejected outside of `process`"))?;
            self.bury(stage, given, row as usize, why)?;
        }
        for (batch, origin) in outcome.emitted {
            let origins = origins_of(given, &origin, batch.num_rows())?;
            self.stages[stage].counts.out += batch.num_rows() as u64;
            if let Some(column) = self.stages[stage].anomaly_column {
                self.output.anomalies += batch.column(column).as_boolean().true_count() as u64;
            }
            self.hand_on(stage, Rows { batch, origins })?;
        }
        Ok(())
    }

    fn bury(&mut self, stage: usize, given: &Rows, row: usize, reason: String) -> Result<()> {
        let json = serde_json::to_vec(&row_to_json(&given.batch, row))
            .map_err(|error| StageError::fatal(error.to_string()))?;
        self.output.dead.push(Dead {
            stage: self.stages[stage].id.clone(),
            place: given.origins.place.clone(),
            offset: given.origins.offsets[row],
            reason,
            bytes: Some(json),
        });
        Ok(())
    }

    fn hand_on(&mut self, stage: usize, rows: Rows) -> Result<()> {
        for reader in 0..self.stages[stage].readers.len() {
            let (reader, edge) = self.stages[stage].readers[reader];
            self.enter(reader, edge, rows.clone())?;
        }
        Ok(())
    }

    /// Ends the epoch: ticks, checks the books, and gives what there is to be committed.
    pub fn end_epoch(&mut self, at: Times) -> Result<EpochOutput> {
        for stage in self.order.clone() {
            let Some(transform) = self.stages[stage].transform.as_mut() else { continue };
            let mut out = Output::default();
            match transform.tick(at, &mut out) {
                Ok(()) => self.spread(stage, None, out.take())?,
                Err(error) => return Err(self.named(stage, error)),
            }
        }
        for stage in &mut self.stages {
            stage.counts.held = stage.transform.as_ref().map_or(0, |transform| transform.held());
            stage.counts.check(&stage.id)?;
            self.output.counts.push(stage.counts);
            stage.counts = Counts { held_before: stage.counts.held, ..Counts::default() };
        }
        let empty = EpochOutput { sinks: self.stages.iter().map(|_| Vec::new()).collect(), ..EpochOutput::default() };
        Ok(std::mem::replace(&mut self.output, empty))
    }

    /// What has changed in each stage's state since the last call.
    pub fn save(&mut self) -> Result<Vec<StageChanges>> {
        let mut all = Vec::new();
        for number in 0..self.stages.len() {
            let stage = &mut self.stages[number];
            let Some(transform) = stage.transform.as_mut() else { continue };
            let mut changes = Changes(StageChanges { stage: stage.id.to_string(), changes: Vec::new() });
            match transform.save(&mut changes) {
                Ok(()) => all.push(changes.0),
                Err(error) => return Err(self.named(number, error)),
            }
        }
        Ok(all)
    }

    fn named(&self, stage: usize, error: StageError) -> StageError {
        let words = format!("{}: {}", self.stages[stage].id, error.chain());
        StageError::new(error.kind(), words)
    }
}

struct Changes(StageChanges);

impl StateWriter for Changes {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.changes.push((key.to_vec(), Some(value.to_vec())));
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.changes.push((key.to_vec(), None));
    }
}

fn origins_of(given: Option<&Rows>, origin: &Origin, n_rows: usize) -> Result<Origins> {
    let wrong = || StageError::fatal("the stage names origins that are not in the batch it was given");
    match (origin, given) {
        (Origin::Same, Some(given)) if given.batch.num_rows() == n_rows => Ok(given.origins.clone()),
        (Origin::Rows(rows), Some(given)) if rows.len() == n_rows => {
            let offsets = rows.iter().map(|row| given.origins.offsets.get(*row as usize).copied());
            let offsets = offsets.collect::<Option<Arc<[u64]>>>().ok_or_else(wrong)?;
            Ok(Origins { place: given.origins.place.clone(), offsets })
        }
        (Origin::Created, given) => {
            let place = given.map_or_else(|| "created".into(), |given| given.origins.place.clone());
            Ok(Origins { place, offsets: vec![u64::MAX; n_rows].into() })
        }
        _ => Err(wrong()),
    }
}

/// The rows of a batch without some of them.
pub fn without(rows: &Rows, dropped: &[usize]) -> Result<Rows> {
    let kept: Vec<u32> = (0..rows.batch.num_rows() as u32).filter(|row| !dropped.contains(&(*row as usize))).collect();
    let offsets = kept.iter().map(|row| rows.origins.offsets[*row as usize]).collect();
    let batch = take_record_batch(&rows.batch, &UInt32Array::from(kept))?;
    Ok(Rows { batch, origins: Origins { place: rows.origins.place.clone(), offsets } })
}
