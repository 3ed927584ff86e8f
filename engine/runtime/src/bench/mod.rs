//! What a row costs: the compute of a pipeline on rows in memory, without its outside services.
//!
//! Everything between a source's reader and its sinks runs as in a task: decoding, stages, names of rows, books. Sinks
//! take their rows and drop them; nothing is logged.

mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Array;
use pipeline_stage::{Kind, RawRows, Result, SavedState, SourceBatch, SourceRows, Times, Timestamp};

use crate::plan::{Plan, RunSettings};
use crate::run::view::Work;
use crate::run::{Compute, Decode, Progress, latest, time_column};
use rows::Made;

/// Rows of one batch, as readers give them.
const BATCH_ROWS: usize = pipeline_stage::MAX_BATCH_ROWS;

/// Rows of one epoch, as a source that is read at full speed fills it.
const EPOCH_ROWS: u64 = 50_000;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// How many rows, for each source.
    pub rows: u64,
    /// How many series the rows are of.
    pub series: u64,
    /// Payloads to be taken instead of made ones, again and again if there are fewer.
    pub payloads: Option<RawRows>,
}

/// What a row cost.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Rows that were read.
    pub rows: u64,
    /// Those that could not be decoded or processed.
    pub dead: u64,
    /// All of it, on one thread.
    pub took: Duration,
    /// For each source, how long decoding took.
    pub sources: Vec<StageCost>,
    /// For each transform and detector, how long it took.
    pub stages: Vec<StageCost>,
    /// What of the time is neither: names of rows, `when:`, books.
    pub rest: Duration,
}

/// What a row cost in one stage.
#[derive(Debug, Clone)]
pub struct StageCost {
    /// Its id.
    pub id: String,
    /// Rows that came in.
    pub rows: u64,
    /// How long it took.
    pub took: Duration,
    /// Series that it keeps; none when it keeps none.
    pub series: Option<u64>,
    /// What a checkpoint of all its state has, in bytes.
    pub state_bytes: u64,
}

/// Measures a pipeline: the rows once to warm up, so that there are series, and then again for each round, which
/// `measured` is told of.
///
/// # Errors
/// When a stage fails, or a source's format can only read and there are no payloads.
pub fn measure(plan: &Plan, settings: &BenchSettings, rounds: u32, mut measured: impl FnMut(Cost)) -> Result<()> {
    let mut bench = Bench::new(plan, settings)?;
    bench.pass(settings.rows)?;
    bench.end_epoch()?;
    let state_bytes = bench.save(plan)?;
    for _ in 0..rounds {
        bench.forget();
        let began = Instant::now();
        bench.pass(settings.rows)?;
        bench.end_epoch()?;
        measured(bench.cost(plan, began.elapsed(), &state_bytes));
        // As a checkpoint would, now and then.
        bench.save(plan)?;
    }
    Ok(())
}

struct Bench {
    compute: Compute,
    inputs: Vec<Input>,
    epoch: u64,
    watermark: Option<Timestamp>,
    in_epoch: u64,
    /// For each stage: rows that came in, and what it did.
    done: Vec<(u64, Work)>,
    dead: u64,
}

/// Rows of one source, as its reader would give them.
struct Input {
    stage: usize,
    decode: Decode,
    time: Option<usize>,
    batches: Vec<SourceRows>,
    next: usize,
    offset: u64,
    took: Duration,
}

impl Input {
    fn new(plan: &Plan, stage: usize, settings: &BenchSettings) -> Result<Self> {
        let format = plan.build_format(stage)?;
        let batches = match (&settings.payloads, &format) {
            (Some(payloads), Some(_)) => in_batches(payloads),
            _ => Made::new(plan, stage, settings.series).batches(settings.rows, format.as_deref())?,
        };
        let place = format!("{}/bench", plan.stages[stage].id).into();
        let decode = Decode::new(format, place, None);
        let time = time_column(&plan.stages[stage].schema);
        Ok(Input { stage, decode, time, batches, next: 0, offset: 0, took: Duration::ZERO })
    }

    /// The next batch, of the first again after the last.
    fn batch(&mut self) -> SourceBatch {
        let rows = self.batches[self.next].clone();
        self.next = (self.next + 1) % self.batches.len();
        let n_rows = match &rows {
            SourceRows::Raw(raw) => raw.payloads.len(),
            SourceRows::Columns(batch) => batch.num_rows(),
        } as u64;
        let offsets = (self.offset..self.offset + n_rows).collect();
        self.offset += n_rows;
        SourceBatch { rows, offsets }
    }
}

fn in_batches(payloads: &RawRows) -> Vec<SourceRows> {
    let n_rows = payloads.payloads.len();
    let starts = (0..n_rows).step_by(BATCH_ROWS);
    let cut = starts.map(|start| {
        let payloads_cut = payloads.payloads.slice(start, BATCH_ROWS.min(n_rows - start));
        SourceRows::Raw(RawRows { payloads: payloads_cut, ..payloads.clone() })
    });
    cut.collect()
}

impl Bench {
    fn new(plan: &Plan, settings: &BenchSettings) -> Result<Self> {
        let (n_stages, run) = (plan.stages.len(), RunSettings::default());
        let progress = Arc::new(Progress::new(n_stages));
        let mut compute = Compute::build(plan, &run, "bench", progress, |_| SavedState::default())?;
        compute.is_live = true;
        compute.begin_epoch(1);
        let sources = (0..n_stages).filter(|stage| plan.stages[*stage].source.is_some());
        let inputs = sources.map(|stage| Input::new(plan, stage, settings)).collect::<Result<_>>()?;
        Ok(Bench {
            compute,
            inputs,
            epoch: 1,
            watermark: None,
            in_epoch: 0,
            done: vec![Default::default(); n_stages],
            dead: 0,
        })
    }

    /// Reads so many rows of each source, a batch of each in turn.
    fn pass(&mut self, rows: u64) -> Result<()> {
        let mut left = vec![rows; self.inputs.len()];
        while left.iter().any(|left| 0 < *left) {
            for (input, left) in left.iter_mut().enumerate().filter(|(_, left)| 0 < **left) {
                *left = left.saturating_sub(self.read(input)?);
            }
        }
        Ok(())
    }

    fn read(&mut self, input: usize) -> Result<u64> {
        let input = &mut self.inputs[input];
        let batch = input.batch();
        let (n_rows, bytes) = (batch.len() as u64, batch.bytes());
        let began = Instant::now();
        let decoded = input.decode.decode(batch)?;
        input.took += began.elapsed();
        self.watermark = self.watermark.max(input.time.and_then(|time| latest(&decoded.rows.batch, time)));
        self.compute.read(input.stage, decoded, bytes)?;
        self.in_epoch += n_rows;
        if EPOCH_ROWS <= self.in_epoch {
            self.end_epoch()?;
        }
        Ok(n_rows)
    }

    fn end_epoch(&mut self) -> Result<()> {
        let at = Times { now: Timestamp(self.epoch as i64), watermark: self.watermark };
        let output = self.compute.end_epoch(at)?;
        (self.epoch, self.in_epoch) = (self.epoch + 1, 0);
        self.compute.begin_epoch(self.epoch);
        self.dead += output.dead.len() as u64;
        for ((rows, sum), (counts, work)) in self.done.iter_mut().zip(output.counts.iter().zip(&output.work)) {
            *rows += counts.rows_in;
            sum.add(work);
            sum.series = work.series;
        }
        Ok(())
    }

    /// What a checkpoint of all state has, in bytes, for each stage.
    fn save(&mut self, plan: &Plan) -> Result<Vec<u64>> {
        let mut bytes = vec![0; plan.stages.len()];
        self.compute.begin_save();
        while let Some(part) = self.compute.save_part()? {
            if let Some(stage) = plan.stages.iter().position(|stage| stage.id == part.stage) {
                bytes[stage] += part.changes.bytes() as u64;
            }
        }
        Ok(bytes)
    }

    /// What was done until here is not measured.
    fn forget(&mut self) {
        self.done.fill(Default::default());
        self.dead = 0;
        self.inputs.iter_mut().for_each(|input| input.took = Duration::ZERO);
    }

    fn cost(&self, plan: &Plan, took: Duration, state_bytes: &[u64]) -> Cost {
        let of = |stage: usize, took: Duration| {
            let (rows, work) = &self.done[stage];
            let state_bytes = state_bytes[stage];
            StageCost { id: plan.stages[stage].id.clone(), rows: *rows, took, series: work.series, state_bytes }
        };
        let sources: Vec<_> = self.inputs.iter().map(|input| of(input.stage, input.took)).collect();
        let transforms =
            (0..plan.stages.len()).filter(|stage| matches!(plan.stages[*stage].kind, Kind::Transform | Kind::Detector));
        let stages: Vec<_> = transforms.map(|stage| of(stage, self.done[stage].1.busy)).collect();
        let rows = sources.iter().map(|source| source.rows).sum();
        let known: Duration = sources.iter().chain(&stages).map(|stage| stage.took).sum();
        Cost { rows, dead: self.dead, took, rest: took.saturating_sub(known), sources, stages }
    }
}
