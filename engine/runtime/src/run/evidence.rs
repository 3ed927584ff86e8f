//! Keeps what anomalies were judged by: the series before, the row, its place, and what the detector was.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use pipeline_stage::{Branches, ColumnType, Evidence, Kind, Origins, Result, StageError, Timestamp, encode};
use serde_bytes::ByteBuf;
use serde_json::Value;
use tokio::time::Instant;

use super::json_rows::json_of;
use crate::plan::{Plan, public_options};
use crate::store::{Judge, Judged, JudgedColumn, MAX_EVIDENCE, NewEvidence};

/// How many anomalies of a detector have their evidence at once: as many as the store keeps, which the tasks share.
const BURST: f64 = MAX_EVIDENCE as f64;

/// And in a second from then on: more than people look at, and appends stay short. The evidence of a flood reaches back
/// for a minute and more, not for a moment.
const A_SECOND: f64 = 100.0;

/// However many tasks there are, each has so many at once, and so many in a second.
const LEAST_BURST: f64 = 100.0;
const LEAST_A_SECOND: f64 = 5.0;

/// More ids are not kept of one row: a graph with more paths is not read by people.
const MAX_IDS: usize = 32;

/// Said when the series are not the engine's.
const SERIES_ARE_ELSEWHERE: &str =
    "its series are kept by a plugin, not by the engine, which does not see what they were before a reading";

/// Of one detector in a task.
pub struct Keeper {
    pipeline: String,
    stage: Arc<str>,
    judge: Arc<[u8]>,
    /// The columns of the key of a series.
    key: Vec<usize>,
    /// The column of event times.
    time: Option<usize>,
    anomaly_column: usize,
    below: Below,
    room: Room,
    filled_at: Instant,
}

/// How much more is wanted.
struct Room(f64);

impl Room {
    /// Time has passed. So many tasks share what is wanted.
    fn grow(&mut self, passed: Duration, n_tasks: usize) {
        let n_tasks = n_tasks.max(1) as f64;
        let (most, a_second) = ((BURST / n_tasks).max(LEAST_BURST), (A_SECOND / n_tasks).max(LEAST_A_SECOND));
        self.0 = (self.0 + passed.as_secs_f64() * a_second).min(most);
    }
}

impl Keeper {
    /// Of a stage of the plan; none when it is no detector.
    pub fn new(plan: &Plan, number: usize, anomaly_column: Option<usize>) -> Result<Option<Self>> {
        let stage = &plan.stages[number];
        let Some(anomaly_column) = anomaly_column.filter(|_| stage.kind == Kind::Detector) else { return Ok(None) };
        let mut judge = Vec::new();
        encode(&judge_of(plan, number)?, &mut judge)?;
        let column = |name: &str| stage.schema.index_of(name).ok();
        let key = plan.series_key(number).unwrap_or_default();
        let time = stage.options.get("time").and_then(Value::as_str).and_then(column);
        let is_time =
            |column: &usize| ColumnType::of(stage.schema.field(*column).data_type()) == Some(ColumnType::Timestamp);
        Ok(Some(Keeper {
            pipeline: plan.settings.name.clone(),
            stage: stage.id.as_str().into(),
            judge: judge.into(),
            key: key.iter().filter_map(|(name, _)| column(name)).collect(),
            time: time.filter(is_time),
            anomaly_column,
            below: Below::of(plan, number),
            room: Room(BURST),
            filled_at: Instant::now(),
        }))
    }

    /// An epoch begins, in one of so many tasks.
    pub fn begin_epoch(&mut self, n_tasks: usize) {
        let passed = std::mem::replace(&mut self.filled_at, Instant::now()).elapsed();
        self.room.grow(passed, n_tasks);
    }

    /// How much more evidence is wanted now.
    pub fn room(&self) -> usize {
        self.room.0 as usize
    }

    /// Takes the evidence of a batch. An anomaly for which the stage has none is kept with the reason.
    pub fn keep(
        &mut self,
        evidence: Vec<Evidence>,
        batch: &RecordBatch,
        origins: &Origins,
        kept: &mut Vec<NewEvidence>,
    ) {
        let is_anomaly = batch.column(self.anomaly_column).as_boolean();
        if self.room() == 0 || is_anomaly.true_count() == 0 {
            return;
        }
        let mut evidence = evidence.into_iter().peekable();
        let keys = batch.project(&self.key).expect("columns of the batch");
        for row in true_rows(is_anomaly).take(self.room()) {
            let given = evidence.next_if(|evidence| evidence.row as usize == row);
            let series = String::from_utf8(json_of(&keys, row)).expect("JSON is text");
            kept.push(self.of_row(given, series, batch, origins, row));
            self.room.0 -= 1.0;
        }
    }

    fn of_row(
        &mut self,
        given: Option<Evidence>,
        series: String,
        batch: &RecordBatch,
        origins: &Origins,
        row: usize,
    ) -> NewEvidence {
        let (key, before) = match given {
            Some(given) => (given.key, given.before),
            None => (Vec::new(), Err(SERIES_ARE_ELSEWHERE.to_owned())),
        };
        let (before, why_not) = match before {
            Ok(before) => (Some(ByteBuf::from(before)), None),
            Err(why) => (None, Some(why)),
        };
        let branch = origins.branch(row);
        NewEvidence {
            stage: self.stage.clone(),
            ids: self.below.ids(&self.pipeline, origins, row),
            series,
            row_at: self.time.and_then(|column| {
                let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
                times.is_valid(row).then(|| Timestamp(times.value(row)))
            }),
            judge: self.judge.clone(),
            judged: Judged {
                place: origins.place.to_string(),
                offset: origins.offsets[row],
                branch,
                row: json_of(batch, row).into(),
                key: ByteBuf::from(key),
                before,
                why_not,
            },
        }
    }
}

/// The rows of which something is true.
pub fn true_rows(array: &BooleanArray) -> impl Iterator<Item = usize> {
    array.values().set_indices().filter(|row| array.is_valid(*row))
}

fn judge_of(plan: &Plan, number: usize) -> Result<Judge> {
    let stage = &plan.stages[number];
    let input = stage.inputs.first().map(|input| &plan.stages[*input].schema);
    let input = input.ok_or_else(|| StageError::fatal("a detector has no input"))?;
    let (options, secrets) = public_options(plan, stage);
    let columns = input.fields().iter().filter_map(|field| {
        let column_type = ColumnType::of(field.data_type())?;
        Some(JudgedColumn { name: field.name().clone(), column_type, nullable: field.is_nullable() })
    });
    Ok(Judge {
        of: plan.stage_of(number).of,
        version: env!("CARGO_PKG_VERSION").into(),
        options,
        secrets,
        key: plan.settings.key.clone(),
        columns: columns.collect(),
    })
}

/// The ways that the rows of a detector go down, those that end in a sink first.
struct Below {
    /// For each place the stages that come after the detector.
    ways: Vec<Vec<String>>,
    /// What became of the last branch: that of the next row is mostly the same.
    last: Option<(u64, Vec<u64>)>,
}

impl Below {
    fn of(plan: &Plan, number: usize) -> Self {
        let mut found: Vec<(usize, Vec<String>)> = vec![(number, Vec::new())];
        let mut next = 0;
        while next < found.len() && found.len() < MAX_IDS {
            let (above, way) = found[next].clone();
            next += 1;
            let readers = plan.stages.iter().enumerate().filter(|(_, stage)| stage.inputs.contains(&above));
            for (reader, stage) in readers.filter(|(_, stage)| stage.kind != Kind::Sink) {
                found.push((reader, way.iter().cloned().chain([stage.id.clone()]).collect()));
            }
        }
        found.truncate(MAX_IDS);
        let ends_in_sink =
            |above: usize| plan.stages.iter().any(|stage| stage.kind == Kind::Sink && stage.inputs.contains(&above));
        let (shown, inner): (Vec<_>, Vec<_>) = found.into_iter().partition(|(stage, _)| ends_in_sink(*stage));
        Below { ways: shown.into_iter().chain(inner).map(|(_, way)| way).collect(), last: None }
    }

    /// The ids of a row, taking it that every stage below gives one row for one; without repeats.
    fn ids(&mut self, pipeline: &str, origins: &Origins, row: usize) -> Vec<String> {
        let branch = origins.branch(row);
        if self.last.as_ref().is_none_or(|(of, _)| *of != branch) {
            let down = |way: &Vec<String>| way.iter().fold(branch, |branch, stage| Branches::below(branch, stage, 0));
            self.last = Some((branch, self.ways.iter().map(down).collect()));
        }
        let branches = self.last.as_ref().map_or(&[][..], |(_, branches)| branches);
        let mut ids: Vec<String> = Vec::with_capacity(branches.len());
        for branch in branches {
            let one = Origins {
                place: origins.place.clone(),
                offsets: Arc::from([origins.offsets[row]]),
                branches: Branches::All(*branch),
            };
            let id = one.row_id(pipeline, 0);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_what_is_wanted_and_have_it_again_after_a_while() {
        let mut room = Room(BURST);
        room.grow(Duration::from_secs(5), 1);
        assert_eq!(room.0, 10_000.0, "never more than is kept");
        room.grow(Duration::ZERO, 4);
        assert_eq!(room.0, 2_500.0, "another task's anomalies find room");
        room.0 = 0.0;
        room.grow(Duration::from_secs(4), 4);
        assert_eq!(room.0, 100.0);
        room.grow(Duration::from_secs(4), 50);
        assert_eq!(room.0, 120.0, "each has some");
        room.grow(Duration::from_secs(2), 20_000);
        assert_eq!(room.0, 100.0, "each has some");
        room.grow(Duration::from_secs(3_600), 4);
        assert_eq!(room.0, 2_500.0);
    }
}
