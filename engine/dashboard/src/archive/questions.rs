//! Pages of rows, counts and the names of series, as JSON.

use arrow::array::RecordBatch;
use axum::extract::{Path, Query, State};
use axum::response::Json;
use pipeline_stage::{Cell, Page, Selection, Timestamp, exact_in_browsers};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Anomalies, Problem, Table};
use crate::server::Shared;
use crate::shown::shown;

/// Nobody reads more rows at once; for more there is the download.
const MAX_ROWS: u32 = 500;

/// Which rows are wanted.
#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    /// Columns and values that rows must have: `{"sensor_id": "a"}` as JSON.
    pub equal: Option<String>,
    /// From this time on, in milliseconds since 1970.
    pub from: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Only anomalies.
    #[serde(default)]
    pub anomalies: bool,
    /// The column to sort by: the column of times without it.
    pub by: Option<String>,
    /// The smallest first.
    #[serde(default)]
    pub ascending: bool,
    /// Where the page before ended, as its answer said.
    pub after: Option<String>,
    /// How many rows.
    pub limit: Option<u32>,
    /// Columns to count by, separated by commas.
    pub columns: Option<String>,
    /// What the first column begins with.
    pub prefix: Option<String>,
}

impl Wanted {
    /// The rows that are meant.
    pub fn selection(&self, table: &Table) -> Result<Selection, Problem> {
        let equal: Map<String, Value> = match &self.equal {
            Some(equal) => serde_json::from_str(equal).map_err(|error| Problem::wrong(format!("`equal`: {error}")))?,
            None => Map::new(),
        };
        let micros = |millis: Option<i64>| millis.map(|millis| Timestamp(millis.saturating_mul(1_000)));
        let time = match (&table.info.time, self.from, self.until) {
            (_, None, None) => None,
            (Some(time), from, until) => Some((time.clone(), micros(from), micros(until))),
            (None, ..) => return Err(Problem::wrong(format!("`{}` stores no times", table.info.sink))),
        };
        let only = match (&table.info.anomalies, self.anomalies) {
            (Anomalies::Column(column), true) => Some(column.clone()),
            (Anomalies::None, true) => {
                return Err(Problem::wrong(format!("`{}` does not store what is an anomaly", table.info.sink)));
            }
            _ => None,
        };
        Ok(Selection { equal: equal.into_iter().collect(), time, only })
    }

    /// The page that is meant.
    pub fn page(&self, table: &Table, limit: u32) -> Result<Page, Problem> {
        let first = || table.info.columns.first().map(|(name, _)| name.clone());
        let by = self.by.clone().or_else(|| table.info.time.clone()).or_else(first);
        let by = by.ok_or_else(|| Problem::wrong(format!("`{}` stores no columns", table.info.sink)))?;
        let after = match &self.after {
            Some(after) => {
                Some(serde_json::from_str(after).map_err(|error| Problem::wrong(format!("`after`: {error}")))?)
            }
            None => None,
        };
        Ok(Page { by, descending: !self.ascending, after, limit })
    }

    fn columns(&self) -> Vec<String> {
        self.columns.iter().flat_map(|columns| columns.split(',')).map(|name| name.trim().to_owned()).collect()
    }
}

/// An answer in rows: no more of them than this many bytes, so that no table is too large for a page.
#[derive(Default, Serialize)]
struct Rows {
    rows: Vec<Box<RawValue>>,
    /// How many texts in them are shortened; the download has all of them.
    shortened: u64,
}

const MAX_BYTES: usize = 1 << 20;

impl Rows {
    fn of(batch: &RecordBatch) -> Self {
        let (mut all, mut bytes) = (Rows::default(), 0);
        for row in 0..batch.num_rows() {
            let Some(shown) = shown(batch, row) else { break };
            bytes += shown.row.get().len();
            // One is given in any case, or the next page would begin where this one did.
            if MAX_BYTES < bytes && 0 < row {
                break;
            }
            all.shortened += shown.shortened;
            all.rows.push(shown.row);
        }
        all
    }
}

/// A page of a table.
#[derive(Serialize)]
pub struct PageOfRows {
    #[serde(flatten)]
    rows: Rows,
    after: Option<(Value, u64)>,
    time: Option<String>,
}

/// `/api/tables/SINK/rows`: a page of rows; `after` is where the next one begins, null when there is none.
pub async fn rows(
    State(shared): State<Shared>,
    Path(sink): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<PageOfRows>, Problem> {
    let table = shared.archive.table(&sink)?;
    let limit = wanted.limit.unwrap_or(50).clamp(1, MAX_ROWS);
    let page = wanted.page(table, limit)?;
    let found = table.history.page(&wanted.selection(table)?, &page).await?;
    Ok(Json(page_of(&found, &page, table.info.time.clone())))
}

fn page_of(found: &RecordBatch, page: &Page, time: Option<String>) -> PageOfRows {
    let rows = Rows::of(found);
    let after = match rows.rows.len() < found.num_rows() {
        true => behind(&found.slice(0, rows.rows.len()), page),
        false => next_page(found, page),
    };
    PageOfRows { rows, after, time }
}

/// Where the page after this one begins; none if this is the last one.
pub fn next_page(found: &RecordBatch, page: &Page) -> Option<(Value, u64)> {
    if page.is_last(found) { None } else { behind(found, page) }
}

/// Behind these rows: behind the last value, and so many rows that have it.
fn behind(found: &RecordBatch, page: &Page) -> Option<(Value, u64)> {
    let column = found.column_by_name(&page.by)?;
    let value = |row: usize| match Cell::of(column.as_ref(), row) {
        // JSON has no infinities, and null would be the rows without a value.
        Cell::Float(number) if number.is_infinite() => (if number < 0.0 { "-Infinity" } else { "Infinity" }).into(),
        cell => exact_in_browsers(cell.into()),
    };
    let last = value(found.num_rows() - 1);
    let same = (0..found.num_rows()).rev().take_while(|row| value(*row) == last).count() as u64;
    let before = page.after.as_ref().filter(|(value, _)| *value == last && same == found.num_rows() as u64);
    Some((last, same + before.map_or(0, |(_, given)| *given)))
}

/// `/api/tables/SINK/counts`: how many rows there are by some columns, the most frequent first.
pub async fn counts(
    State(shared): State<Shared>,
    Path(sink): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<impl Serialize>, Problem> {
    let table = shared.archive.table(&sink)?;
    let limit = wanted.limit.unwrap_or(20).clamp(1, MAX_ROWS);
    let found = table.history.count_by(&wanted.selection(table)?, &wanted.columns(), limit).await?;
    Ok(Json(Rows::of(&found)))
}

/// `/api/tables/SINK/series`: the series there are, sorted.
pub async fn series_names(
    State(shared): State<Shared>,
    Path(sink): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<impl Serialize>, Problem> {
    let table = shared.archive.table(&sink)?;
    let key = table.info.key.clone();
    let key = key.ok_or_else(|| Problem::wrong(format!("`{sink}` does not store the key of a series")))?;
    let limit = wanted.limit.unwrap_or(200).clamp(1, MAX_ROWS);
    let prefix = wanted.prefix.as_deref().unwrap_or_default();
    let found = table.history.distinct(&key, prefix, None, limit).await?;
    Ok(Json(Rows::of(&found)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_next_page_begins_behind_all_rows_of_the_last_value() {
        let page = |after| Page { by: "z".into(), descending: true, after, limit: 3 };
        let next = |values: [f64; 3], after| {
            let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            next_page(&RecordBatch::try_from_iter([("z", column)]).unwrap(), &page(after))
        };
        assert_eq!(next([9.0, 5.0, 5.0], None), Some((json!(5.0), 2)));
        assert_eq!(next([5.0, 5.0, 5.0], Some((json!(5.0), 2))), Some((json!(5.0), 5)));
        assert_eq!(next([5.0, 4.0, 4.0], Some((json!(5.0), 2))), Some((json!(4.0), 2)));
        assert_eq!(next([f64::INFINITY; 3], None), Some((json!("Infinity"), 3)));
        // The page gives it back as it was told.
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX - 1, i64::MAX - 1]));
        let batch = RecordBatch::try_from_iter([("z", numbers)]).unwrap();
        assert_eq!(next_page(&batch, &page(None)), Some((json!("9223372036854775806"), 2)));
        assert_eq!(next_page(&RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())), &page(None)), None);
    }

    #[test]
    fn a_page_of_many_bytes_is_cut_and_the_next_one_goes_on_there() {
        const ROWS: usize = 400;
        let values: ArrayRef = Arc::new(Float64Array::from(vec![7.0; ROWS]));
        // Just not long enough to be shortened.
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(4_000); ROWS]));
        let batch = RecordBatch::try_from_iter([("z", values), ("text", texts)]).unwrap();
        let page = Page { by: "z".into(), descending: true, after: None, limit: 500 };
        let first = page_of(&batch, &page, None);
        let given = first.rows.rows.len();
        assert!(200 < given && given < ROWS, "{given}");
        assert!(serde_json::to_string(&first).unwrap().len() <= MAX_BYTES + 1_000);
        assert_eq!((first.rows.shortened, first.after), (0, Some((json!(7.0), given as u64))));
        let last = page_of(&batch.slice(given, ROWS - given), &page, None);
        assert_eq!((last.rows.rows.len(), last.after), (ROWS - given, None));
    }

    #[test]
    fn cells_of_megabytes_are_shortened_and_counted() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 100]));
        let rows = Rows::of(&RecordBatch::try_from_iter([("text", texts)]).unwrap());
        assert_eq!((rows.rows.len(), rows.shortened), (100, 100));
        assert!(serde_json::to_string(&rows).unwrap().len() < 30_000);
    }
}
