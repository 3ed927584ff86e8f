//! Counts, the series there are, and series in few points.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use pipeline_stage::{History, Selection, Timestamp};
use serde_json::{Value, json};

use super::rows::SECOND;
use super::{Row, is_meant, number, rows, rows_of};

pub async fn check_counts(history: &dyn History, rows: &[Row], selection: &Selection) {
    for names in [vec!["sensor_id"], vec!["metric_type", "is_anomaly"], vec!["timestamp"]] {
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows.iter().filter(|row| is_meant(row, selection)) {
            *expected.entry(key(row, &names)).or_default() += 1;
        }
        let columns = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = rows_of(&[history.count_by(selection, &columns, 1_000).await.expect("an answer")]);
        let counts: Vec<i64> = all.iter().filter_map(|row| row["count"].as_i64()).collect();
        assert!(counts.is_sorted_by(|one, other| one >= other), "the most frequent first: {counts:?}");
        let found: BTreeMap<String, i64> = all.iter().map(|row| key(row, &names)).zip(counts).collect();
        assert_eq!((found, all.len()), (expected.clone(), expected.len()), "{selection:?} by {names:?}");
        let first = rows_of(&[history.count_by(selection, &columns, 2).await.expect("an answer")]);
        assert_eq!(first, all[..all.len().min(2)], "the first two");
    }
}

fn key(row: &Row, names: &[&str]) -> String {
    json!(names.iter().map(|name| row[*name].clone()).collect::<Vec<Value>>()).to_string()
}

pub async fn check_distinct(history: &dyn History, rows: &[Row]) {
    for names in [
        vec!["sensor_id"],
        vec!["sensor_id", "metric_type"],
        vec!["metric_type", "is_anomaly", "sensor_id"],
        vec!["timestamp"],
    ] {
        for prefix in ["", "sensor", "S", "%", "_", r"_\", "Ж", "nothing", "'"] {
            let expected: BTreeSet<String> = rows
                .iter()
                .filter(|row| names.iter().all(|name| !row[*name].is_null()))
                .filter(|row| prefix.is_empty() || row[names[0]].as_str().is_some_and(|text| text.starts_with(prefix)))
                .map(|row| key(row, &names))
                .collect();
            if names == ["timestamp"] && !prefix.is_empty() {
                continue;
            }
            let words = format!("{names:?} beginning with `{prefix}`");
            let all = combinations(history, &names, prefix, 1_000).await;
            let found: BTreeSet<String> = all.iter().map(|row| key(row, &names)).collect();
            assert_eq!((found, all.len()), (expected.clone(), expected.len()), "{words}");
            assert_eq!(combinations(history, &names, prefix, 2).await, all, "{words}, two at a time");
        }
    }
}

/// All of them, asked for by so many at a time.
async fn combinations(history: &dyn History, names: &[&str], prefix: &str, limit: u32) -> Vec<Row> {
    let columns = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut all: Vec<Row> = Vec::new();
    loop {
        let after: Option<Vec<Value>> = all.last().map(|row| names.iter().map(|name| row[*name].clone()).collect());
        let found = history.distinct(&columns, prefix, after.as_deref(), limit).await.expect("an answer");
        all.extend(rows_of(std::slice::from_ref(&found)));
        assert!(all.len() < 10_000, "the same ones are given again and again");
        if found.num_rows() < limit as usize {
            return all;
        }
    }
}

pub async fn check_summary(history: &dyn History, rows: &[Row], selection: &Selection) {
    let mut selection = selection.clone();
    selection.time = selection.time.or(Some(("timestamp".into(), None, None)));
    for value in ["value", "number"] {
        for (from, until, points) in [
            (-3 * SECOND, 11 * SECOND + 2, 7),
            (0, 3 * SECOND, 3),
            (0, 3 * SECOND, 1),
            (SECOND, 2 * SECOND, 800),
            (SECOND, SECOND + 3, 10),
            (SECOND, SECOND, 10),
            (i64::MIN, i64::MAX, 3),
        ] {
            let (from, until) = (Timestamp(from), Timestamp(until));
            let found = history.summary(&selection, value, from, until, points).await.expect("an answer");
            let words = format!("{value} of {selection:?} from {from} to {until} in {points}");
            check_points(&found, rows, &selection, (value, from, until, points), &words);
        }
    }
}

fn check_points(
    found: &RecordBatch,
    rows: &[Row],
    selection: &Selection,
    (value, from, until, points): (&str, Timestamp, Timestamp, u32),
    words: &str,
) {
    let found = rows_of(std::slice::from_ref(found));
    let values: Vec<(i64, f64)> = rows
        .iter()
        .filter(|row| is_meant(row, selection))
        .filter_map(|row| Some((rows::time(&row["timestamp"])?, number(&row[value])?)))
        .filter(|(time, _)| (from.0..until.0).contains(time))
        .collect();
    assert!(found.len() <= points as usize, "{words}: {} points", found.len());
    if from.0 == i64::MIN {
        // Where the parts of all time are cut is nobody's business; nothing is lost.
        let count: i64 = found.iter().filter_map(|row| row["count"].as_i64()).sum();
        assert_eq!(count, values.len() as i64, "{words}");
        return;
    }
    let width =
        (until.0 - from.0).div_euclid(i64::from(points)) + i64::from((until.0 - from.0) % i64::from(points) != 0);
    let mut parts: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (time, value) in values {
        parts.entry(from.0 + (time - from.0) / width * width).or_default().push(value);
    }
    assert_eq!(found.len(), parts.len(), "{words}: {found:?}");
    for (row, (at, values)) in found.iter().zip(&parts) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(rows::time(&row["at"]), Some(*at), "{words}: {row:?}");
        assert_eq!(row["count"].as_i64(), Some(values.len() as i64), "{words}: {row:?}");
        assert_eq!((number(&row["min"]), number(&row["max"])), (Some(least), Some(greatest)), "{words}: {row:?}");
        let found = number(&row["mean"]).expect("a mean");
        assert!(found == mean || (found - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{words}: {row:?}, mean {mean}");
    }
}
