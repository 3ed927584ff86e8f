//! `/api/series`: the readings of a series with the band its detector expected them in.
//!
//! Few readings are read one by one, with as many before them as the detector looks back, and given to the same detector as
//! the pipeline's, so the band is what it was. Many are made few by the database, without a band: zooming in brings it.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use axum::extract::{Query, State};
use axum::response::Json;
use pipeline_runtime::plan::RunSettings;
use pipeline_stage::{Kind, Output, StageError, Timestamp, Transform};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Problem;
use super::points::{POINTS, Points};
use super::readings::{Columns, MAX_ROWS, Readings};
use crate::server::Shared;

/// More readings are made few by the database.
const MAX_READINGS: u64 = 20_000;
/// A detector that looks back further than this has no band: each picture would read so many more.
const MAX_LOOK_BACK: u64 = 5_000;

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

/// A part of a series.
pub async fn points(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> Result<Json<Points>, Problem> {
    let plan = &shared.watched.plan;
    let is_meant = |stage: &pipeline_runtime::plan::Stage| stage.kind == Kind::Detector && stage.id == wanted.detector;
    let detector = plan.stages.iter().position(is_meant);
    let detector = detector.ok_or_else(|| Problem::missing(format!("no detector is called `{}`", wanted.detector)))?;
    let series: Map<String, Value> =
        serde_json::from_str(&wanted.series).map_err(|error| Problem::wrong(format!("`series`: {error}")))?;
    let columns = Columns::of(plan, detector)?;
    if let Some(name) = columns.key.iter().find(|name| !series.contains_key(*name)) {
        return Err(Problem::wrong(format!("`series` does not say the `{name}` of the series")));
    }
    if wanted.until <= wanted.from {
        return Err(Problem::wrong("`until` must be after `from`"));
    }
    let readings = Readings::of(&shared, detector, &columns, series.into_iter().collect())?;
    let (from, until) = (Timestamp(wanted.from.saturating_mul(1_000)), Timestamp(wanted.until.saturating_mul(1_000)));
    let points = picture(&shared, detector, &readings, &columns, (from, until)).await?;
    Ok(Json(points.of_table(readings.sink())))
}

async fn picture(
    shared: &Shared,
    detector: usize,
    readings: &Readings<'_>,
    columns: &Columns,
    (from, until): (Timestamp, Timestamp),
) -> Result<Points, Problem> {
    let summary = readings.summary(from, until, POINTS).await?;
    let count = sum(&summary, "count");
    if MAX_READINGS < count {
        return Ok(Points::of_summary(&summary, count));
    }
    // A detector in Python is a process, which may take its time to start.
    let (plan, schema) = (shared.watched.plan.clone(), readings.schema()?);
    let build = move || {
        let judge = plan.build_detector_on(detector, &RunSettings::default(), schema)?;
        let looks_back = judge.looks_back();
        Ok::<_, StageError>((judge, looks_back))
    };
    let (judge, looks_back) = shared.computing.run(build).await??;
    let begin = match look_back(shared, detector, looks_back) {
        Ok(count) => readings.begin(from, count).await?.ok_or_else(|| {
            format!("among the {MAX_ROWS} rows before this time there are not the {count} readings that it looks back")
        }),
        Err(why) => Err(why),
    };
    let Some(rows) = readings.between(*begin.as_ref().unwrap_or(&from), until).await? else {
        return Ok(Points::of_summary(&summary, count));
    };
    match begin {
        Ok(_) => {
            let warm_up = rows_before(&rows, &columns.time, from);
            let scored = shared.computing.run(move || score(judge, &rows)).await??;
            let shown = scored.slice(warm_up, scored.num_rows() - warm_up);
            Ok(Points::of_readings(&shown, columns).thinned())
        }
        Err(why) => Ok(Points::of_readings(&rows, columns).without_band(why).thinned()),
    }
}

/// How many readings before others make a detector judge these as it did then; else why there is no such number.
fn look_back(shared: &Shared, detector: usize, looks_back: Option<u64>) -> Result<u64, String> {
    let stage = &shared.watched.plan.stages[detector];
    if !stage.when.is_empty() {
        return Err("it takes only the readings that its `when` lets pass".into());
    }
    match looks_back {
        None => Err("what it expects may depend on all readings before, or it does not say on how many".into()),
        Some(count) if MAX_LOOK_BACK < count => {
            Err(format!("it looks back {count} readings, and at most {MAX_LOOK_BACK} are read for a picture"))
        }
        Some(count) => Ok(count),
    }
}

/// How many of the rows, which are sorted by time, come before a time.
fn rows_before(rows: &RecordBatch, time: &str, from: Timestamp) -> usize {
    let column = rows.column_by_name(time).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    column.map_or(0, |times| times.values().partition_point(|at| *at < from.0))
}

/// What the detector says of readings when it sees them for the first time.
fn score(mut judge: Box<dyn Transform>, readings: &RecordBatch) -> Result<RecordBatch, Problem> {
    let mut out = Output::default();
    judge.process(0, readings, &mut out)?;
    let emitted: Vec<RecordBatch> = out.take().emitted.into_iter().map(|(batch, _)| batch).collect();
    let scored = concat_batches(&judge.schema(), &emitted)?;
    match scored.num_rows() == readings.num_rows() {
        true => Ok(scored),
        false => Err(Problem::missing("the detector does not give each reading a score")),
    }
}

fn sum(batch: &RecordBatch, column: &str) -> u64 {
    let Some(column) = batch.column_by_name(column) else { return 0 };
    match (column.as_primitive_opt::<Int64Type>(), column.as_primitive_opt::<Float64Type>()) {
        (Some(counts), _) => counts.iter().flatten().sum::<i64>().max(0) as u64,
        (_, Some(counts)) => counts.iter().flatten().sum::<f64>() as u64,
        _ => 0,
    }
}
