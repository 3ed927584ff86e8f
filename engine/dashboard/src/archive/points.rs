//! A part of a series as it is told to the page: column by column, with no more points than a picture has room for.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use pipeline_stage::Cell;
use serde::Serialize;

use super::readings::Columns;
use crate::scores::score_columns;

/// A picture is about so many points wide.
pub const POINTS: u32 = 800;

/// A part of a series, column by column; all of the same length.
#[derive(Debug, Default, Serialize)]
pub struct Points {
    /// `readings`: each is one; `unjudged`: the same, without a band; `summary`: each stands for several.
    kind: &'static str,
    /// Why there is no band, if there is none.
    why: Option<String>,
    /// How many readings there are; rows without a value are none.
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
    /// Of readings, with the columns of a detector if it has scored them.
    pub fn of_readings(scored: &RecordBatch, columns: &Columns) -> Self {
        let [score, is_anomaly, expected, lower, upper] = score_columns(&scored.schema());
        let anomaly = is_anomaly.map(|column| scored.column(column).as_boolean().clone());
        let column = |column: Option<usize>| match column {
            Some(column) => numbers(scored, column),
            None => vec![None; scored.num_rows()],
        };
        let value = column(scored.schema().index_of(&columns.value).ok());
        Points {
            kind: "readings",
            count: value.iter().flatten().count() as u64,
            at: times(scored, &columns.time),
            value,
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

    /// Of what the database has made few.
    pub fn of_summary(summary: &RecordBatch, count: u64) -> Self {
        let column =
            |name: &str| summary.schema().index_of(name).map_or_else(|_| Vec::new(), |at| numbers(summary, at));
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

    /// Of readings that were not judged, with the reason.
    pub fn without_band(self, why: String) -> Self {
        Points { kind: "unjudged", why: Some(why), ..self }
    }

    /// With the sink whose table was read.
    pub fn of_table(self, sink: &str) -> Self {
        Points { table: sink.to_owned(), ..self }
    }

    /// With fewer readings, if they are more than a picture has room for: of each some, the least and the greatest, and all
    /// anomalies.
    pub fn thinned(self) -> Self {
        let rows = self.at.len();
        if rows <= 2 * POINTS as usize {
            return self;
        }
        let mut kept: Vec<usize> = Vec::with_capacity(2 * POINTS as usize);
        let all: Vec<usize> = (0..rows).collect();
        for part in all.chunks(rows.div_ceil(POINTS as usize)) {
            let with_values = || part.iter().filter_map(|row| Some((*row, self.value[*row]?)));
            kept.extend(with_values().min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(row, _)| row));
            kept.extend(with_values().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(row, _)| row));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_many_has_the_least_the_greatest_and_all_anomalies_whatever_has_no_value() {
        let rows = 8_000;
        let value = |row: usize| match row % 10 {
            // Of each ten, the greatest stands beside rows without a value, which are no reading at all.
            3 => Some(1_000.0 + row as f64),
            7 => Some(-1_000.0 - row as f64),
            5 => None,
            other => Some(other as f64),
        };
        let none = vec![None; rows];
        let points = Points {
            at: (0..rows).map(|row| row as f64).collect(),
            value: (0..rows).map(value).collect(),
            expected: none.clone(),
            lower: none.clone(),
            upper: none.clone(),
            score: none,
            is_anomaly: (0..rows).map(|row| row % 1_000 == 1).collect(),
            ..Points::default()
        };
        let thinned = points.thinned();
        let expected: Vec<f64> =
            (0..rows).filter(|row| matches!(row % 10, 3 | 7) || row % 1_000 == 1).map(|row| row as f64).collect();
        assert_eq!(thinned.at, expected);
        assert_eq!(thinned.value.len(), expected.len());
    }
}
