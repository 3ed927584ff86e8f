//! The compute stages of one task: rows go through them depth first, a call is a call.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use pipeline_stage::{
    ErrorKind, Kind, Origin, Outcome, Output, Result, Rows, StageError, Times, Transform, bytes_of, row_to_json,
};
use tokio::time::Instant;
use tracing::trace_span;

use super::decode::DecodedRows;
use super::evidence::{Keeper, true_rows};
use super::ledger::Counts;
use super::origins::Naming;
use super::progress::Progress;
use super::view::{Sampler, text};
use crate::expression::Expression;
use crate::plan::{Plan, RunSettings};
use crate::store::StoredRow;

mod output;
mod save;

pub use output::{Dead, EpochOutput};
use save::ToSave;

/// All stages of a task, and the books of the epoch that is being made.
pub struct Compute {
    stages: Vec<Running>,
    order: Vec<usize>,
    /// The number of the epoch that is being made.
    epoch: u64,
    output: EpochOutput,
    /// What was said last: it knows the keys of the batch that goes through the stages.
    said: Output,
    task: Arc<str>,
    progress: Arc<Progress>,
    /// New rows are read, not those of the log: what passes may be looked at.
    pub is_live: bool,
}

struct Running {
    id: Arc<str>,
    transform: Option<Box<dyn Transform>>,
    naming: Naming,
    is_sink: bool,
    when: Vec<Expression>,
    /// The stages that read it, each with the number of the edge on its side.
    readers: Vec<(usize, usize)>,
    /// Where a detector says whether a row is an anomaly.
    anomaly_column: Option<usize>,
    /// The column by which anomalies are counted.
    metric_column: Option<usize>,
    /// Of a detector whose values are in a column.
    sampler: Option<Sampler>,
    /// Of a detector: keeps what anomalies were judged by.
    keeper: Option<Keeper>,
    counts: Counts,
    /// Of a save that is under way.
    to_save: Option<ToSave>,
}

impl Running {
    /// How many rows it holds.
    fn held(&self) -> u64 {
        self.transform.as_ref().map_or(0, |transform| transform.held())
    }
}

/// What a stage was given, and by which edge.
struct Given {
    rows: Rows,
    edge: usize,
}

impl Compute {
    /// Builds a task's transforms and detectors with their state, which `state` gives by stage id.
    pub fn build(
        plan: &Plan,
        run: &RunSettings,
        task: &str,
        progress: Arc<Progress>,
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
            let anomaly_column = plan.anomaly_column(number);
            stages.push(Running {
                id: stage.id.as_str().into(),
                transform,
                naming: Naming::new(&stage.id, task),
                is_sink: stage.kind == Kind::Sink,
                when: stage.when.clone(),
                readers: readers.collect(),
                anomaly_column,
                metric_column: plan.metric_column(number),
                sampler: sampler(plan, number),
                keeper: Keeper::new(plan, number, anomaly_column)?,
                counts: Counts::default(),
                to_save: None,
            });
        }
        // What was held when state was saved is held again.
        stages.iter_mut().for_each(|stage: &mut Running| stage.counts.held_before = stage.held());
        let output = EpochOutput::of(stages.len());
        Ok(Compute {
            stages,
            order: plan.order.clone(),
            epoch: 0,
            output,
            said: Output::default(),
            task: task.into(),
            progress,
            is_live: false,
        })
    }

    /// The rows that come next are of this epoch.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        let n_tasks = self.progress.view.n_tasks();
        for stage in &mut self.stages {
            stage.naming.begin_epoch();
            stage.keeper.iter_mut().for_each(|keeper| keeper.begin_epoch(n_tasks));
        }
    }

    /// Takes what a source has read: so many bytes.
    pub fn read(&mut self, source: usize, decoded: DecodedRows, bytes: usize) -> Result<()> {
        let DecodedRows { rows, rejected } = decoded;
        self.said.next_batch();
        self.output.work[source].came(0, rows.batch.num_rows() + rejected.len(), bytes);
        let counts = &mut self.stages[source].counts;
        counts.rows_in += (rows.batch.num_rows() + rejected.len()) as u64;
        counts.dead += rejected.len() as u64;
        for rejected in rejected {
            let row = StoredRow {
                stage: self.stages[source].id.to_string(),
                place: rows.origins.place.to_string(),
                offset: rejected.offset,
                bytes: rejected.bytes,
                beside: Some(rejected.beside),
                ..StoredRow::default()
            };
            self.output.dead.push(Dead { row, reason: rejected.reason });
        }
        let rows = self.apply_when(source, 0, rows)?;
        self.stages[source].counts.out += rows.batch.num_rows() as u64;
        self.show(source, &rows);
        self.hand_on(source, rows)
    }

    /// Takes rows at a stage that is no source.
    pub fn enter(&mut self, stage: usize, edge: usize, rows: Rows) -> Result<()> {
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        self.stages[stage].counts.rows_in += rows.batch.num_rows() as u64;
        self.output.work[stage].came(edge, rows.batch.num_rows(), bytes_of(&rows.batch));
        let rows = self.apply_when(stage, edge, rows)?;
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        if self.stages[stage].is_sink {
            self.stages[stage].counts.out += rows.batch.num_rows() as u64;
            self.show(stage, &rows);
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
        let origins = rows.origins.take(&keep.values().set_indices().collect::<Vec<_>>());
        Ok(Rows { batch, origins })
    }

    fn process(&mut self, stage: usize, edge: usize, rows: Rows) -> Result<()> {
        // What is computed again has its evidence.
        let keeper = self.stages[stage].keeper.as_ref().filter(|_| self.is_live);
        let mut out = Output::with_evidence(keeper.map_or(0, Keeper::room)).after(&mut self.said);
        let Running { id, transform, .. } = &mut self.stages[stage];
        let transform = transform.as_mut().expect("a stage that is no source and no sink transforms");
        let span = trace_span!("stage", id = &**id, rows = rows.batch.num_rows());
        let began = Instant::now();
        let processed = span.in_scope(|| transform.process(edge, &rows.batch, &mut out));
        self.output.work[stage].busy += began.elapsed();
        match processed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Data => {
                out = Output::default();
                let why = error.chain();
                (0..rows.batch.num_rows()).for_each(|row| out.reject(row, why.clone()));
            }
            Err(error) => return Err(error.named(&self.stages[stage].id)),
        }
        let outcome = out.take();
        self.said = out;
        self.spread(stage, Some(Given { rows, edge }), outcome)
    }

    /// Books what a stage has said and hands its rows on.
    fn spread(&mut self, stage: usize, given: Option<Given>, outcome: Outcome) -> Result<()> {
        let counts = &mut self.stages[stage].counts;
        counts.dead += outcome.rejected.len() as u64;
        counts.late += outcome.late.len() as u64;
        counts.filtered += outcome.filtered;
        counts.created += outcome.created;
        for (row, why) in outcome.rejected {
            let given = given.as_ref().ok_or_else(|| StageError::fatal("a row was rejected outside of `process`"))?;
            self.bury(stage, given, row as usize, why)?;
        }
        let emitted: Vec<_> = outcome.emitted.iter().map(|(batch, origin)| (batch.num_rows(), origin)).collect();
        let named = self.stages[stage].naming.name(given.as_ref().map(|given| &given.rows), &emitted, self.epoch);
        let named = named.map_err(|error| error.named(&self.stages[stage].id))?;
        if let (Some(keeper), [(batch, Origin::Same)], [origins], true) =
            (&mut self.stages[stage].keeper, outcome.emitted.as_slice(), named.as_slice(), self.is_live)
        {
            keeper.keep(outcome.evidence, batch, origins, &mut self.output.evidence);
        }
        for ((batch, _), origins) in outcome.emitted.into_iter().zip(named) {
            self.stages[stage].counts.out += batch.num_rows() as u64;
            self.count_anomalies(stage, &batch);
            if let Some(sampler) = self.stages[stage].sampler.as_mut().filter(|_| self.is_live) {
                sampler.look(&batch);
            }
            let rows = Rows { batch, origins };
            self.show(stage, &rows);
            self.hand_on(stage, rows)?;
        }
        Ok(())
    }

    fn count_anomalies(&mut self, stage: usize, batch: &RecordBatch) {
        let Running { anomaly_column: Some(column), metric_column, .. } = self.stages[stage] else { return };
        let is_anomaly = batch.column(column).as_boolean();
        let count = is_anomaly.true_count() as u64;
        if count == 0 {
            return;
        }
        self.output.anomalies += count;
        let Some(metric) = metric_column else { return self.output.work[stage].anomalous("", count) };
        let metric = batch.column(metric);
        true_rows(is_anomaly).for_each(|row| self.output.work[stage].anomalous(&text(metric.as_ref(), row), 1));
    }

    fn show(&self, stage: usize, rows: &Rows) {
        if self.is_live {
            self.progress.view.taps.show(stage, rows, &self.task);
        }
    }

    fn bury(&mut self, stage: usize, given: &Given, row: usize, reason: String) -> Result<()> {
        let Given { rows: Rows { batch, origins }, edge } = given;
        let json =
            serde_json::to_vec(&row_to_json(batch, row)).map_err(|error| StageError::fatal(error.to_string()))?;
        let row = StoredRow {
            stage: self.stages[stage].id.to_string(),
            edge: *edge as u32,
            place: origins.place.to_string(),
            offset: origins.offsets[row],
            branch: origins.branch(row),
            bytes: Some(json),
            beside: None,
        };
        self.output.dead.push(Dead { row, reason });
        Ok(())
    }

    fn hand_on(&mut self, stage: usize, rows: Rows) -> Result<()> {
        for reader in 0..self.stages[stage].readers.len() {
            let (reader, edge) = self.stages[stage].readers[reader];
            self.enter(reader, edge, rows.clone())?;
        }
        Ok(())
    }

    /// What the epoch has given so far.
    pub fn output(&self) -> &EpochOutput {
        &self.output
    }

    /// For each stage, how many rows it holds.
    pub fn held(&self) -> Vec<u64> {
        self.stages.iter().map(Running::held).collect()
    }

    /// Ends the epoch: ticks, checks the books, and gives what there is to be committed.
    pub fn end_epoch(&mut self, at: Times) -> Result<EpochOutput> {
        self.said = Output::default();
        for stage in self.order.clone() {
            let Some(transform) = self.stages[stage].transform.as_mut() else { continue };
            let mut out = Output::default();
            let began = Instant::now();
            let ticked = transform.tick(at, &mut out);
            self.output.work[stage].busy += began.elapsed();
            match ticked {
                Ok(()) => self.spread(stage, None, out.take())?,
                Err(error) => return Err(error.named(&self.stages[stage].id)),
            }
        }
        if self.stages.iter().any(|stage| stage.sampler.as_ref().is_some_and(|sampler| sampler.is_fresh)) {
            self.sample();
        }
        for (stage, work) in self.stages.iter_mut().zip(&mut self.output.work) {
            work.series = stage.transform.as_ref().and_then(|transform| transform.series());
            stage.counts.held = stage.held();
            stage.counts.check(&stage.id)?;
            self.output.counts.push(stage.counts);
            stage.counts = Counts { held_before: stage.counts.held, ..Counts::default() };
        }
        Ok(std::mem::replace(&mut self.output, EpochOutput::of(self.stages.len())))
    }

    /// Samples replace those of before, so all detectors give theirs when one of them has new ones.
    fn sample(&mut self) {
        let samplers = self.stages.iter_mut().filter_map(|stage| stage.sampler.as_mut());
        self.output.samples = samplers.flat_map(Sampler::samples).collect();
    }
}

/// What looks at the values of a detector's series; none when it has no column of values.
fn sampler(plan: &Plan, stage: usize) -> Option<Sampler> {
    let key = plan.series_key(stage)?;
    let schema = &plan.stages[stage].schema;
    let value = schema.index_of(plan.stages[stage].options.get("value")?.as_str()?).ok()?;
    let key = key.iter().filter_map(|(name, _)| schema.index_of(name).ok()).collect();
    Some(Sampler::new(stage, key, value))
}
