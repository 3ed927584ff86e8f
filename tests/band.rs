//! The expected band of the past is that of then: what the dashboard computes over stored readings, beside the scores that
//! the pipeline stored when the readings came.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use pipeline_services::{Database, Postgres, RunningPipeline, eventually};
use pipeline_testkit::Random;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::exact::query;
use crate::production::pipeline;
use crate::scraped::Dashboard;

/// Two series whose numbers are one float.
const SERIES: [i64; 2] = [9_007_199_254_740_992, 9_007_199_254_740_993];
const ROWS: usize = 900;
/// In milliseconds since 1970.
const BEGIN: i64 = 1_752_999_000_000;

const FILE: &str = r#"
name: band
key: [number]
state: state
commit_every: 5ms
sources:
  readings:
    type: file
    path: readings.jsonl
    follow: true
    format: json
    schema: { number: integer, value: { type: float, nullable: true }, timestamp: timestamp }
detectors:
  spikes: { type: zscore, inputs: readings, value: value, time: timestamp, window: 30, threshold: 2.0 }
  strict: { type: zscore, inputs: readings, value: value, time: timestamp, include_anomalies: false }
  some: { type: zscore, inputs: readings, value: value, time: timestamp, when: value > 0 }
  long: { type: zscore, inputs: readings, value: value, time: timestamp, window: 9000 }
sinks:
  history: { HISTORY, inputs: readings, table: readings, indexes: [timestamp, [number, timestamp, value]] }
  scores: { type: sqlite, inputs: spikes, path: scores.db, table: scores }
  nowhere: { type: discard, inputs: [strict, some, long] }
"#;

/// Readings in groups of one time, some without a value; before the middle there are many of those.
fn readings() -> String {
    let mut random = Random::new(4711);
    let (mut text, mut at) = (String::new(), BEGIN);
    for row in 0..ROWS {
        if random.once_in(5) {
            at += 1_000;
        }
        let is_silent = (380..450).contains(&row) || random.once_in(4);
        let value = if is_silent { Value::Null } else { json!(random.below(1_000) as f64 / 10.0) };
        let timestamp = pipeline_stage::Timestamp(at * 1_000).to_rfc3339();
        for number in SERIES {
            let value = value.as_f64().map(|value| value + f64::from(number == SERIES[1]));
            writeln!(text, "{}", json!({ "number": number, "value": value, "timestamp": timestamp })).unwrap();
        }
    }
    text
}

struct World {
    folder: TempDir,
    dashboard: Dashboard,
    _running: RunningPipeline,
}

impl World {
    /// A pipeline that has stored everything; `history` is where its readings go.
    async fn start(history: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("readings.jsonl"), readings()).unwrap();
        let file = folder.path().join("band.yaml");
        std::fs::write(&file, FILE.replace("HISTORY", history)).unwrap();
        let mut running = pipeline().args(["run"]).args([file]).args(["--dashboard", "127.0.0.1:0"]).start();
        let dashboard = Dashboard::of(&mut running).await;
        let world = World { folder, dashboard, _running: running };
        for sink in ["history", "scores"] {
            let path = format!("/api/tables/{sink}/counts?columns=number");
            let all = format!("\"count\":{ROWS}");
            let is_stored = async || world.dashboard.get(&path).await.1.matches(&all).count() == SERIES.len();
            eventually(Duration::from_secs(60), "everything is stored", is_stored).await;
        }
        world
    }

    /// What is told of a series from a time on.
    async fn series(&self, detector: &str, number: &Value, from: i64) -> (StatusCode, Value) {
        let series = json!({ "number": number }).to_string();
        let (from, until) = (from.to_string(), (BEGIN + 3_600_000).to_string());
        let query = [("detector", detector), ("series", &series), ("from", &from), ("until", &until)];
        let url = Url::parse_with_params("http://x/api/series", query).unwrap();
        let (status, body) = self.dashboard.get(&format!("/api/series?{}", url.query().unwrap())).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

/// Time, value, score, lower and upper of the stored scores, in the order in which they came.
async fn scores_of(database: &Path, condition: &str) -> Vec<[Option<f64>; 5]> {
    let columns = ["value", "score", "lower", "upper"].map(|name| format!("coalesce({name}, '-')")).join(", ");
    let time = "strftime('%s', timestamp)";
    let rows = query(database, &format!("SELECT {time}, {columns} FROM scores WHERE {condition} ORDER BY id")).await;
    rows.iter().map(|row| std::array::from_fn(|column| row[column].parse().ok())).collect()
}

fn column(points: &Value, name: &str) -> Vec<Option<f64>> {
    points[name].as_array().unwrap_or_else(|| panic!("no {name}: {points}")).iter().map(Value::as_f64).collect()
}

async fn is_that_of_then(world: &World) {
    let mut compared = BTreeMap::<i64, usize>::new();
    for number in SERIES {
        // As text, because a browser cannot write it otherwise.
        let series = Value::from(number.to_string());
        let times = scores_of(&world.folder.path().join("scores.db"), &format!("number = {number}")).await;
        // From the first on, behind those without a value, and near the end.
        for begin in [0, 440, 460, ROWS - 100] {
            let from = times[begin][0].unwrap() as i64;
            let expected: Vec<_> = times.iter().filter(|row| from as f64 <= row[0].unwrap()).collect();
            let (status, points) = world.series("spikes", &series, from * 1_000).await;
            assert_eq!(
                (status, &points["kind"], &points["table"]),
                (StatusCode::OK, &"readings".into(), &"history".into())
            );
            let n_values = expected.iter().filter(|row| row[1].is_some()).count();
            assert_eq!(
                (points["count"].as_u64().unwrap() as usize, column(&points, "at").len()),
                (n_values, expected.len())
            );
            for (place, name) in ["value", "score", "lower", "upper"].into_iter().enumerate() {
                for (row, found) in column(&points, name).into_iter().enumerate() {
                    let then = expected[row][place + 1];
                    let is_same = match (found, then) {
                        (Some(found), Some(then)) => (found - then).abs() <= 1e-9 * then.abs(),
                        (found, then) => found == then,
                    };
                    assert!(is_same, "{name} of row {row} from {begin} on: {found:?}, then it was {then:?}");
                    *compared.entry(number).or_default() += usize::from(name == "score" && found.is_some());
                }
            }
        }
    }
    assert!(compared.values().all(|scores| 1_000 < *scores), "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_band_over_rows_in_sqlite_is_that_of_then() {
    let world = World::start("type: sqlite, path: history.db").await;
    is_that_of_then(&world).await;
    where_it_cannot_be_known_the_reason_is_told(&world).await;
    a_series_is_named_in_full(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_band_over_rows_in_postgresql_is_that_of_then() {
    let database: Database = Postgres::shared().await.create_database().await;
    let world = World::start(&format!("type: postgres, url: '{}'", database.url())).await;
    is_that_of_then(&world).await;
}

async fn where_it_cannot_be_known_the_reason_is_told(world: &World) {
    for (detector, words) in [
        ("strict", "may depend on all readings before"),
        ("some", "only the readings that its `when` lets pass"),
        ("long", "it looks back 9000 readings, and at most 5000 are read"),
    ] {
        let (status, points) = world.series(detector, &SERIES[0].into(), BEGIN).await;
        assert_eq!((status, &points["kind"]), (StatusCode::OK, &"unjudged".into()));
        assert!(points["why"].as_str().unwrap().contains(words), "{}", points["why"]);
        assert!(column(&points, "lower").iter().all(Option::is_none) && column(&points, "value").len() == ROWS);
    }
}

async fn a_series_is_named_in_full(world: &World) {
    for (number, words) in [
        ("much".into(), "column `number` is asked for \"much\", expected of type integer"),
        (Value::from(1.5), "column `number` is asked for 1.5, expected of type integer"),
    ] {
        let (status, answer) = world.series("spikes", &number, BEGIN).await;
        assert_eq!((status, answer["error"].as_str().unwrap()), (StatusCode::BAD_REQUEST, words));
    }
    let (status, body) = world.dashboard.get("/api/series?detector=spikes&series=null&from=0&until=1").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let (status, body) = world.dashboard.get("/api/series?detector=spikes&series={}&from=0&until=1").await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("does not say the `number`"), "{status} {body}");
}
