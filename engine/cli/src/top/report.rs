//! The report of `pipeline top` as lines.

use std::time::Duration;

use pipeline_stage::printable;
use serde_json::Value;

use crate::books::{clock, grouped};

/// Longer text is cut.
const MAX_TEXT: usize = 40;

/// What the dashboard has told, as lines.
pub fn report(name: &str, url: &str, pulse: &Value, worst: &Value) -> Vec<String> {
    let up = Duration::from_secs_f64(number(&pulse["uptime"]).max(0.0));
    let mut lines = vec![format!("{name}   {url}   ↑ {}", clock(up)), text(&pulse["sentence"])];
    lines.extend(list(&pulse["reasons"]).iter().map(|reason| format!("  {}", text(reason))));
    lines.extend([String::new(), rows(pulse), tasks(pulse), String::new()]);
    lines.extend(table(&STAGE_HEADS, list(&pulse["stages"]).iter().map(stage).collect()));
    let worst = list(worst);
    if !worst.is_empty() {
        lines.extend([String::new(), "  most unusual in the last minute".into()]);
        lines.extend(table(&["score", "detector", "series", "value", "expected"], worst.iter().map(unusual).collect()));
    }
    lines
}

/// `rows 4,120 · 200/s · anomalies 187 · lag 0 · dead letters 0 · latency 34 ms, 95 of 100 within 88 ms`.
fn rows(pulse: &Value) -> String {
    let mut line = format!(
        "rows {} · {}/s · anomalies {} · {}/s",
        count(&pulse["rows"]),
        rate(&pulse["rate"]),
        count(&pulse["anomalies"]),
        rate(&pulse["anomaly_rate"])
    );
    if !pulse["lag"].is_null() {
        line.push_str(&format!(" · lag {}", count(&pulse["lag"])));
    }
    line.push_str(&format!(" · dead letters {}", count(&pulse["dead"])));
    if let [half, most] = list(&pulse["latency"]) {
        line.push_str(&format!(" · latency {}, 95 of 100 within {}", seconds(half), seconds(most)));
    }
    line
}

/// `tasks 4, 1 restoring · waiting for sinks 3 % · checkpoint 4 s ago, 12.4 KB · books balance`.
fn tasks(pulse: &Value) -> String {
    let [live, restoring] = [0, 1].map(|phase| pulse["tasks"][phase].as_u64().unwrap_or_default());
    let mut line = format!("tasks {live}");
    if 0 < restoring {
        line.push_str(&format!(", {restoring} restoring"));
    }
    line.push_str(&format!(" · waiting for sinks {:.0} %", number(&pulse["waiting"]) * 100.0));
    if !pulse["checkpoint_age"].is_null() {
        let age = number(&pulse["checkpoint_age"]);
        line.push_str(&format!(" · checkpoint {age:.0} s ago, {}", bytes(&pulse["checkpoint_bytes"])));
    }
    let balance = if pulse["is_balanced"] == true { "books balance" } else { "books do NOT balance" };
    format!("{line} · {balance}")
}

const STAGE_HEADS: [&str; 11] =
    ["stage", "in/s", "in", "out", "dead", "late", "busy", "series", "state", "commit", "outbox"];

fn stage(stage: &Value) -> Vec<String> {
    let rates: f64 = list(&stage["rates"]).iter().map(number).sum();
    let or_dash = |value: &Value, show: &dyn Fn(&Value) -> String| match value {
        Value::Null => "–".to_owned(),
        value => show(value),
    };
    let busy = number(&stage["busy"]);
    let outbox = &stage["outbox"];
    let mark = if stage["health"] == "bad" { " !" } else { "" };
    vec![
        format!("{}{mark}", text(&stage["id"])),
        grouped(rates.round() as u64),
        count(&stage["rows_in"]),
        count(&stage["out"]),
        count(&stage["dead"]),
        count(&stage["late"]),
        if 0.0 < busy { format!("{:.1} %", busy * 100.0) } else { "–".into() },
        or_dash(&stage["series"], &count),
        or_dash(&stage["state_bytes"], &bytes),
        or_dash(&stage["commit_seconds"], &seconds),
        or_dash(outbox, &|outbox| format!("{}/{}", count(&outbox[0]), count(&outbox[1]))),
    ]
}

fn unusual(series: &Value) -> Vec<String> {
    let row = &series["row"];
    let key: Vec<String> = list(&series["key"]).iter().map(text).collect();
    let expected = row["expected"].as_f64().map(|expected| match (row["lower"].as_f64(), row["upper"].as_f64()) {
        (Some(lower), Some(upper)) => format!("{expected:.2} ({lower:.2} … {upper:.2})"),
        _ => format!("{expected:.2}"),
    });
    let value = row.get("value").filter(|value| value.is_number()).map(ToString::to_string);
    let score = series["score"].as_f64().map_or("∞".to_owned(), |score| format!("{score:.2}"));
    let dash = || "–".to_owned();
    vec![score, text(&series["stage"]), key.join(" "), value.unwrap_or_else(dash), expected.unwrap_or_else(dash)]
}

/// Columns as wide as they need to be: the first one, and what is no number, to the left.
fn table(heads: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>();
    let all: Vec<Vec<String>> = [heads].into_iter().chain(rows).collect();
    let is_number = |column: usize| {
        let is = |cell: &String| cell == "–" || cell == "∞" || cell.starts_with(|first: char| first.is_ascii_digit());
        all[1..].iter().all(|row| is(&row[column]))
    };
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let columns: Vec<(usize, bool)> = (0..all[0].len()).map(|column| (width(column), is_number(column))).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&columns).map(|(cell, (width, is_number))| match is_number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value.as_str() {
        // Sentences are whole; names may be anything.
        Some(text) if text.contains(' ') => printable(text, MAX_TEXT * 10),
        Some(text) => printable(text, MAX_TEXT),
        None => printable(&value.to_string(), MAX_TEXT),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn count(value: &Value) -> String {
    grouped(value.as_u64().unwrap_or_default())
}

fn rate(value: &Value) -> String {
    let rate = number(value);
    if rate < 10.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

/// `340 µs`, `34 ms`, `2.1 s`.
fn seconds(value: &Value) -> String {
    match number(value) {
        seconds if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// `512 B`, `12.4 KB`, `3.1 MB`.
fn bytes(value: &Value) -> String {
    match number(value) {
        bytes if bytes < 1e3 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{:.1} KB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}
