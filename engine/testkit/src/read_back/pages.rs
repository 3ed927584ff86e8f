//! Pages: every row exactly once, in order, wherever they are cut.

use std::cmp::Ordering;

use pipeline_stage::{History, Page, Selection};
use serde_json::Value;

use super::{HOSTILE_COLUMN, Row, is_meant, number, rows, rows_of};

pub async fn check(history: &dyn History, rows: &[Row], selection: &Selection) {
    let meant: Vec<&Row> = rows.iter().filter(|row| is_meant(row, selection)).collect();
    let page = |by: &str, descending, limit| Page { by: by.into(), descending, after: None, limit };
    // Few rows to a page cut between rows of the same value.
    for (by, descending) in [("timestamp", true), ("value", false)] {
        check_one(history, &meant, selection, page(by, descending, 37)).await;
    }
    if *selection == Selection::default() {
        for by in ["timestamp", "value", "metric_type", "is_anomaly", HOSTILE_COLUMN] {
            for (descending, limit) in [(true, 11), (false, 11), (true, 1_000), (false, 1_000)] {
                check_one(history, &meant, selection, page(by, descending, limit)).await;
            }
        }
    }
}

async fn check_one(history: &dyn History, meant: &[&Row], selection: &Selection, mut page: Page) {
    let words = format!("{selection:?}, {page:?}");
    let mut found: Vec<Row> = Vec::new();
    loop {
        let rows = history.page(selection, &page).await.unwrap_or_else(|error| panic!("{words}: {error}"));
        assert!(rows.num_rows() <= page.limit as usize, "{words}");
        found.extend(rows_of(std::slice::from_ref(&rows)));
        if rows.num_rows() < page.limit as usize {
            break;
        }
        assert!(found.len() <= meant.len(), "{words}: more rows than there are");
        page.after = found.last().map(|last| {
            let value = last[&page.by].clone();
            let given = found.iter().filter(|row| row[&page.by] == value).count();
            (value, given as u64)
        });
    }
    let numbers = |rows: &[&Row]| {
        let mut numbers: Vec<i64> = rows.iter().filter_map(|row| row["number"].as_i64()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&found.iter().collect::<Vec<_>>()), numbers(meant), "{words}: not each row once");
    for row in &found {
        assert!(meant.contains(&row), "{words}: {row:?} was not written");
    }
    let is_sorted = found.windows(2).all(|pair| is_in_order(&pair[0][&page.by], &pair[1][&page.by], &page));
    assert!(is_sorted, "{words}: not in order");
}

/// Texts are in the order of the database: it is enough that equal ones are together, which the cursor needs.
fn is_in_order(one: &Value, other: &Value, page: &Page) -> bool {
    let order = match (one, other) {
        (_, Value::Null) => return true,
        (Value::Null, _) => return false,
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ => match (rows::time(one).zip(rows::time(other)), one.as_i64().zip(other.as_i64())) {
            (Some((one, other)), _) | (_, Some((one, other))) => one.cmp(&other),
            _ => match number(one).zip(number(other)) {
                Some((one, other)) => one.total_cmp(&other),
                None => return true,
            },
        },
    };
    if page.descending { order != Ordering::Less } else { order != Ordering::Greater }
}
