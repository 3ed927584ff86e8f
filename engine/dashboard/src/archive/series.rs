//! `/api/series`: the readings of a series with the band its detector expected them in.
//!
//! Few readings are read one by one, with some before them, and given to the same detector as the pipeline's, so the band
//! is what it was. Many are made few by the database, without a band: zooming in brings it.

use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use axum::extract::{Query, State};
use axum::response::Json;
use pipeline_runtime::plan::{Plan, RunSettings};
use pipeline_stage::{Cell, Kind, Output, Page, Selection, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::questions::next_page;
use super::{Problem, Table};
use crate::scores::score_columns;
use crate::server::Shared;

/// More readings are made few by the database.
const MAX_READINGS: u64 = 20_000;
/// Readings that are asked for at once.
const AT_ONCE: u32 = 5_000;
/// A picture is about so many points wide.
const POINTS: u32 = 800;
/// Readings before the time that is shown, which the detector must have seen: its window, or so many.
const WARM_UP: u64 = 500;
const MAX_WARM_UP: u64 = 5_000;

/// Which part of which series.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// The detector.
    detector: String,
    /// The series: columns and values of its key, as JSON.
    series: String,
    /// From this time on, in milliseconds since 1970.
    from: i64,
    /// Before this time.
    until: i64,
}

/// A part of a series, column by column; all of the same length.
#[derive(Debug, Default, Serialize)]
pub struct Points {
    /// `readings`: each is one; `unjudged`: the same, without a band; `summary`: each stands for several.
    kind: &'static str,
    /// How many readings there are.
    count: u64,
    /// The sink whose table was read.
    table: String,
    /// Milliseconds since 1970; of a summary, when its part begins.
    at: Vec<f64>,
    /// The reading, or the mean.
    value: Vec<Option<f64>>,
    /// Of a summary.
    min: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
    /// What the detector expected.
    expected: Vec<Option<f64>>,
    lower: Vec<Option<f64>>,
    upper: Vec<Option<f64>>,
    score: Vec<Option<f64>>,
    is_anomaly: Vec<bool>,
}

impl Points {
    /// With fewer readings, if they are more than a picture has room for: of each some, the least and the greatest, and all
    /// anomalies.
    fn thinned(self) -> Self {
        let rows = self.at.len();
        if rows <= 2 * POINTS as usize {
            return self;
        }
        let mut kept: Vec<usize> = Vec::with_capacity(2 * POINTS as usize);
        let some: Vec<usize> = (0..rows).collect();
        for part in some.chunks(rows.div_ceil(POINTS as usize)) {
            let of = |row: &&usize| self.value[**row].unwrap_or(f64::NAN);
            kept.extend(part.iter().min_by(|one, other| of(one).total_cmp(&of(other))));
            kept.extend(part.iter().max_by(|one, other| of(one).total_cmp(&of(other))));
            kept.extend(part.iter().filter(|row| self.is_anomaly[**row]));
        }
        kept.sort_unstable();
        kept.dedup();
        let pick = |column: &[Option<f64>]| kept.iter().filter_map(|row| column.get(*row).copied()).collect();
        Points {
            at: kept.iter().map(|row| self.at[*row]).collect(),
            value: pick(&self.value),
            expected: pick(&self.expected),
            lower: pick(&self.lower),
            upper: pick(&self.upper),
            score: pick(&self.score),
            is_anomaly: kept.iter().map(|row| self.is_anomaly[*row]).collect(),
            ..self
        }
    }
}

/// A part of a series.
pub async fn points(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> Result<Json<Points>, Problem> {
    let plan = &shared.watched.plan;
    let is_meant = |stage: &pipeline_runtime::plan::Stage| stage.kind == Kind::Detector && stage.id == wanted.detector;
    let detector = plan.stages.iter().position(is_meant);
    let detector = detector.ok_or_else(|| Problem::missing(format!("no detector is called `{}`", wanted.detector)))?;
    let series: Map<String, Value> =
        serde_json::from_str(&wanted.series).map_err(|error| Problem::wrong(format!("`series`: {error}")))?;
    let columns = Columns::of(plan, detector)?;
    let table = readings_of(&shared, detector, &columns)?;
    let value = &columns.value;
    if wanted.until <= wanted.from {
        return Err(Problem::wrong("`until` must be after `from`"));
    }
    let (from, until) = (Timestamp(wanted.from.saturating_mul(1_000)), Timestamp(wanted.until.saturating_mul(1_000)));
    let of_series = Selection { equal: series.into_iter().collect(), time: None, only: None };
    let readings = Readings { table, of_series, columns: &columns };
    let summary = table.history.summary(&readings.selection(None, None), value, from, until, POINTS).await?;
    let count = sum(&summary, "count");
    if MAX_READINGS < count {
        return Ok(Json(Points { table: table.info.sink.clone(), ..of_summary(&summary, count) }));
    }
    if !can_be_judged(plan, detector) {
        let rows = readings.between(from, until).await?;
        let points = Points { kind: "unjudged", ..of_readings(&rows, &columns) };
        return Ok(Json(Points { table: table.info.sink.clone(), ..points.thinned() }));
    }
    let before = readings.before(from, warm_up(&shared, detector)).await?;
    let rows = readings.between(from, until).await?;
    let (n_before, n_rows) = (before.num_rows(), rows.num_rows());
    let judge = shared.clone();
    let scored = shared.computing.run(move || score(&judge, detector, &[before, rows])).await??;
    let scored = scored.slice(n_before, n_rows);
    Ok(Json(Points { table: table.info.sink.clone(), ..of_readings(&scored, &columns).thinned() }))
}

/// The columns that a detector reads.
struct Columns {
    key: Vec<String>,
    value: String,
    time: String,
}

impl Columns {
    fn of(plan: &Plan, detector: usize) -> Result<Self, Problem> {
        let stage = &plan.stages[detector];
        let option = |name: &str| stage.options.get(name).and_then(Value::as_str).map(str::to_owned);
        let key = plan.series_key(detector).map(|key| key.into_iter().map(|(name, _)| name).collect());
        match (key, option("value"), option("time")) {
            (Some(key), Some(value), Some(time)) => Ok(Columns { key, value, time }),
            _ => Err(Problem::missing(format!(
                "`{}` needs `value` and `time`: without them there is no picture",
                stage.id
            ))),
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.key.iter().chain([&self.value, &self.time])
    }
}

/// The table with the readings that a detector takes: all of them, whichever way they came there.
fn readings_of<'s>(shared: &'s Shared, detector: usize, columns: &Columns) -> Result<&'s Table, Problem> {
    let plan = &shared.watched.plan;
    let has_all = |table: &Table| {
        let schema = table.history.schema();
        columns.all().all(|name| schema.column_with_name(name).is_some())
    };
    let takes_all =
        |table: &Table| plan.stages[detector].inputs.iter().all(|input| has_all_rows(plan, table.stage, *input));
    let found = shared.archive.tables.iter().find(|table| takes_all(table) && has_all(table));
    found.ok_or_else(|| {
        let names: Vec<String> = columns.all().map(|name| format!("`{name}`")).collect();
        Problem::missing(format!(
            "no `postgres` or `sqlite` sink stores all readings that `{}` takes, with {}",
            plan.stages[detector].id,
            names.join(", ")
        ))
    })
}

/// Whether all rows that a stage gives, and no others, come to another one below it: through detectors, which leave none
/// out.
fn has_all_rows(plan: &Plan, stage: usize, above: usize) -> bool {
    let of = &plan.stages[stage];
    let is_passed = stage == above || (of.when.is_empty() && matches!(of.kind, Kind::Detector | Kind::Sink));
    is_passed && (stage == above || of.inputs.iter().all(|input| has_all_rows(plan, *input, above)))
}

/// Whether a detector that sees some readings from before comes to the verdicts of then: not if it saw only some of the
/// readings, nor if what it remembers depends on all that came before.
fn can_be_judged(plan: &Plan, detector: usize) -> bool {
    let stage = &plan.stages[detector];
    let leaves_out = stage.options.get("include_anomalies") == Some(&Value::Bool(false));
    let window = stage.options.get("window").and_then(Value::as_u64).unwrap_or_default();
    stage.when.is_empty() && !leaves_out && window <= MAX_WARM_UP
}

fn warm_up(shared: &Shared, detector: usize) -> u64 {
    let window = shared.watched.plan.stages[detector].options.get("window").and_then(Value::as_u64);
    window.unwrap_or(WARM_UP).min(MAX_WARM_UP)
}

struct Readings<'t> {
    table: &'t Table,
    of_series: Selection,
    columns: &'t Columns,
}

impl Readings<'_> {
    fn selection(&self, from: Option<Timestamp>, until: Option<Timestamp>) -> Selection {
        Selection { time: Some((self.columns.time.clone(), from, until)), ..self.of_series.clone() }
    }

    /// The last readings before a time, in their order.
    async fn before(&self, until: Timestamp, count: u64) -> Result<RecordBatch, Problem> {
        let page = Page { by: self.columns.time.clone(), descending: true, after: None, limit: count.max(1) as u32 };
        let found = self.table.history.page(&self.selection(None, Some(until)), &page).await?;
        let turned: UInt64Array = (0..found.num_rows() as u64).rev().collect();
        Ok(take_record_batch(&self.only_what_is_read(&found)?, &turned)?)
    }

    /// The readings between two times, in their order.
    async fn between(&self, from: Timestamp, until: Timestamp) -> Result<RecordBatch, Problem> {
        let mut page = Page { by: self.columns.time.clone(), descending: false, after: None, limit: AT_ONCE };
        let (selection, mut pages, mut rows) = (self.selection(Some(from), Some(until)), Vec::new(), 0);
        loop {
            let found = self.table.history.page(&selection, &page).await?;
            rows += found.num_rows() as u64;
            page.after = next_page(&found, &page);
            pages.push(self.only_what_is_read(&found)?);
            if page.after.is_none() || MAX_READINGS <= rows {
                return Ok(concat_batches(&pages[0].schema(), &pages)?);
            }
        }
    }

    /// The table may hold the scores of then, which are not to be mixed with those of now.
    fn only_what_is_read(&self, rows: &RecordBatch) -> Result<RecordBatch, Problem> {
        let schema = rows.schema();
        let mut columns = self.columns.all().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        columns.sort_unstable();
        columns.dedup();
        Ok(rows.project(&columns)?)
    }
}

/// What the detector says of readings when it sees them for the first time.
fn score(shared: &Shared, detector: usize, readings: &[RecordBatch]) -> Result<RecordBatch, Problem> {
    let schema = readings.first().map(RecordBatch::schema).ok_or_else(|| Problem::missing("there are no readings"))?;
    let readings = concat_batches(&schema, readings)?;
    let mut transform = shared.watched.plan.build_detector_on(detector, &RunSettings::default(), schema)?;
    let mut out = Output::default();
    transform.process(0, &readings, &mut out)?;
    let emitted: Vec<RecordBatch> = out.take().emitted.into_iter().map(|(batch, _)| batch).collect();
    let scored = concat_batches(&transform.schema(), &emitted)?;
    match scored.num_rows() == readings.num_rows() {
        true => Ok(scored),
        false => Err(Problem::missing("the detector does not give each reading a score")),
    }
}

fn of_readings(scored: &RecordBatch, columns: &Columns) -> Points {
    let [score, is_anomaly, expected, lower, upper] = score_columns(&scored.schema());
    let anomaly = is_anomaly.map(|column| scored.column(column).as_boolean().clone());
    let column = |column: Option<usize>| match column {
        Some(column) => numbers(scored, column),
        None => vec![None; scored.num_rows()],
    };
    Points {
        kind: "readings",
        count: scored.num_rows() as u64,
        at: times(scored, &columns.time),
        value: column(scored.schema().index_of(&columns.value).ok()),
        expected: column(expected),
        lower: column(lower),
        upper: column(upper),
        score: column(score),
        is_anomaly: (0..scored.num_rows())
            .map(|row| anomaly.as_ref().is_some_and(|anomaly| anomaly.is_valid(row) && anomaly.value(row)))
            .collect(),
        ..Points::default()
    }
}

fn of_summary(summary: &RecordBatch, count: u64) -> Points {
    let column = |name: &str| summary.schema().index_of(name).map_or_else(|_| Vec::new(), |at| numbers(summary, at));
    Points {
        kind: "summary",
        count,
        at: times(summary, "at"),
        value: column("mean"),
        min: column("min"),
        max: column("max"),
        ..Points::default()
    }
}

/// The numbers of a column; none for those that JSON cannot hold.
fn numbers(batch: &RecordBatch, column: usize) -> Vec<Option<f64>> {
    let column = batch.column(column);
    let number = |row: usize| match Cell::of(column.as_ref(), row) {
        Cell::Float(number) => Some(number).filter(|number| number.is_finite()),
        Cell::Integer(number) => Some(number as f64),
        _ => None,
    };
    (0..batch.num_rows()).map(number).collect()
}

fn times(batch: &RecordBatch, column: &str) -> Vec<f64> {
    let Some(column) = batch.column_by_name(column) else { return Vec::new() };
    let Some(column) = column.as_primitive_opt::<TimestampMicrosecondType>() else { return Vec::new() };
    column.iter().map(|micros| micros.unwrap_or_default() as f64 / 1_000.0).collect()
}

fn sum(batch: &RecordBatch, column: &str) -> u64 {
    let Some(column) = batch.column_by_name(column) else { return 0 };
    match (column.as_primitive_opt::<Int64Type>(), column.as_primitive_opt::<Float64Type>()) {
        (Some(counts), _) => counts.iter().flatten().sum::<i64>().max(0) as u64,
        (_, Some(counts)) => counts.iter().flatten().sum::<f64>() as u64,
        _ => 0,
    }
}
