//! The readings of one series as a sink has stored them, in the order in which a detector must see them.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use pipeline_runtime::plan::Plan;
use pipeline_stage::{Cell, Kind, Page, Selection, Timestamp};
use serde_json::Value;

use super::questions::next_page;
use super::{Problem, Table};
use crate::server::Shared;

/// Rows that are asked for at once.
const AT_ONCE: u32 = 5_000;
/// More rows than this are read for no picture: some of them may have no value and so are no readings.
pub const MAX_ROWS: u64 = 50_000;

/// The columns that a detector reads.
pub struct Columns {
    pub key: Vec<String>,
    pub value: String,
    pub time: String,
}

impl Columns {
    /// Of a detector.
    ///
    /// # Errors
    /// When it has no time: there is no picture without.
    pub fn of(plan: &Plan, detector: usize) -> Result<Self, Problem> {
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

/// The readings of a series.
pub struct Readings<'s> {
    table: &'s Table,
    of_series: Selection,
    columns: &'s Columns,
}

impl<'s> Readings<'s> {
    /// In the table with all readings that a detector takes, whichever way they came there.
    ///
    /// # Errors
    /// When no sink has such a table.
    pub fn of(
        shared: &'s Shared,
        detector: usize,
        columns: &'s Columns,
        series: Vec<(String, Value)>,
    ) -> Result<Self, Problem> {
        let plan = &shared.watched.plan;
        let has_all = |table: &Table| {
            let schema = table.history.schema();
            columns.all().all(|name| schema.column_with_name(name).is_some())
        };
        let mut taken = plan.stages[detector].inputs.clone();
        taken.sort_unstable();
        let takes_all = |table: &Table| {
            all_rows(plan, table.stage, &taken).is_some_and(|mut given| {
                given.sort_unstable();
                given == taken
            })
        };
        let found = shared.archive.tables.iter().find(|table| takes_all(table) && has_all(table));
        let table = found.ok_or_else(|| {
            let names: Vec<String> = columns.all().map(|name| format!("`{name}`")).collect();
            Problem::missing(format!(
                "no `postgres` or `sqlite` sink stores all readings that `{}` takes, with {}",
                plan.stages[detector].id,
                names.join(", ")
            ))
        })?;
        Ok(Readings { table, of_series: Selection { equal: series, time: None, only: None }, columns })
    }

    /// The sink that has stored them.
    pub fn sink(&self) -> &str {
        &self.table.info.sink
    }

    /// The columns that are read. The table may hold the scores of then, which are not to be mixed with those of now.
    ///
    /// # Errors
    /// When the table lacks one.
    pub fn schema(&self) -> Result<SchemaRef, Problem> {
        let schema = self.table.history.schema();
        Ok(schema.project(&self.places(&schema)?)?.into())
    }

    /// In few points.
    pub async fn summary(&self, from: Timestamp, until: Timestamp, points: u32) -> Result<RecordBatch, Problem> {
        let rows = self.selection(None, None);
        Ok(self.table.history.summary(&rows, &self.columns.value, from, until, points).await?)
    }

    /// When to begin, so that at least `count` readings come before a time, as far as there are so many: the time of one
    /// of them, or the time itself when none is needed. None when they are too far away: rows without a value are in
    /// between.
    pub async fn begin(&self, before: Timestamp, count: u64) -> Result<Option<Timestamp>, Problem> {
        let limit = count.clamp(1, AT_ONCE.into()) as u32;
        let mut page = Page { by: self.columns.time.clone(), descending: true, after: None, limit };
        let selection = self.selection(None, Some(before));
        let (mut begin, mut readings, mut rows) = (before, 0, 0);
        while readings < count {
            if MAX_ROWS <= rows {
                return Ok(None);
            }
            let found = self.table.history.page(&selection, &page).await?;
            rows += found.num_rows() as u64;
            let (Some(value), Some(time)) =
                (found.column_by_name(&self.columns.value), found.column_by_name(&self.columns.time))
            else {
                return Ok(None);
            };
            for row in 0..found.num_rows() {
                if let Cell::Time(at) = Cell::of(time.as_ref(), row) {
                    begin = at;
                }
                readings += u64::from(is_reading(&Cell::of(value.as_ref(), row)));
                if count <= readings {
                    break;
                }
            }
            page.after = next_page(&found, &page);
            if page.after.is_none() {
                break;
            }
            // There are rows without a value, perhaps many.
            page.limit = AT_ONCE;
        }
        Ok(Some(begin))
    }

    /// All rows between two times, by their times; rows of one time in the order in which they were stored, which is the
    /// order in which the detector has seen them. None when they are too many.
    pub async fn between(&self, from: Timestamp, until: Timestamp) -> Result<Option<RecordBatch>, Problem> {
        let mut page = Page { by: self.columns.time.clone(), descending: false, after: None, limit: AT_ONCE };
        let (selection, mut pages, mut rows) = (self.selection(Some(from), Some(until)), Vec::new(), 0);
        loop {
            let found = self.table.history.page(&selection, &page).await?;
            rows += found.num_rows() as u64;
            page.after = next_page(&found, &page);
            pages.push(found.project(&self.places(&found.schema())?)?);
            if page.after.is_none() {
                return Ok(Some(concat_batches(&pages[0].schema(), &pages)?));
            }
            if MAX_ROWS <= rows {
                return Ok(None);
            }
        }
    }

    fn selection(&self, from: Option<Timestamp>, until: Option<Timestamp>) -> Selection {
        Selection { time: Some((self.columns.time.clone(), from, until)), ..self.of_series.clone() }
    }

    fn places(&self, schema: &SchemaRef) -> Result<Vec<usize>, Problem> {
        let mut places = self.columns.all().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}

/// Whether a detector takes a value: what is null or not finite it never sees.
fn is_reading(value: &Cell<'_>) -> bool {
    match value {
        Cell::Float(number) => number.is_finite(),
        Cell::Integer(_) => true,
        _ => false,
    }
}

/// Of which of these stages a stage has all rows, each as often as it has them; none if it has only some, or others: they
/// must come through detectors, which leave none out.
fn all_rows(plan: &Plan, stage: usize, of: &[usize]) -> Option<Vec<usize>> {
    if of.contains(&stage) {
        return Some(vec![stage]);
    }
    let below = &plan.stages[stage];
    if !below.when.is_empty() || !matches!(below.kind, Kind::Detector | Kind::Sink) {
        return None;
    }
    let parts = below.inputs.iter().map(|input| all_rows(plan, *input, of));
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.concat())
}
