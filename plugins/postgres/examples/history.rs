//! How long the questions of a dashboard take at ten million rows: readings of 100 series, one in a hundred an anomaly;
//! then the same number of rows of which every tenth belongs to one large series.
//!
//!     cargo run -p pipeline-postgres --example history -- [ROWS] [COLUMNS OF THE INDEX]
//!
//! Without arguments: 10,000,000 rows, `sensor_id,metric_type,timestamp,value`. Starts a PostgreSQL with its default
//! settings, has the sink make the tables, fills them, and prints for each question the median and the longest of its
//! times in milliseconds. Ends by itself after some minutes; needs about 3 GB of disk.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use pipeline_services::{Database, Postgres};
use pipeline_stage::{
    BuiltSink, History, Make, Owner, Page, Result, Selection, SinkContext, StageType, Timestamp, timestamp_type,
};
use serde_json::{Value, json};

/// How often each question is asked.
const TIMES: usize = 9;
/// The first row's time; the others follow a tenth of a second apart.
const START: Timestamp = Timestamp(1_750_000_000_000_000);
const STEP_MICROS: i64 = 100_000;
/// The longest that a question of a dashboard may take.
const GOAL: Duration = Duration::from_millis(500);

/// Which sensor a row is of, by its number `i`.
const EVEN: &str = "'sensor-' || lpad((i % 100)::text, 3, '0')";
const SKEWED: &str = "CASE i % 10 WHEN 0 THEN 'sensor-042' ELSE 'sensor-' || lpad((i / 10 % 100)::text, 3, '0') END";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let n_rows: i64 = arguments.next().map_or(10_000_000, |rows| rows.parse().unwrap());
    let index = arguments.next().unwrap_or("sensor_id,metric_type,timestamp,value".into());
    let index: Vec<&str> = index.split(',').collect();
    let postgres = Postgres::start().await;
    for (name, sensor) in [("100 series of one size", EVEN), ("a series of a tenth of the rows", SKEWED)] {
        println!("{name}, {n_rows} rows, an index on {}", index.join(", "));
        let database = postgres.create_database().await;
        let readings = Sensors { database: &database, table: "sensor_data", index: &index };
        let anomalies = Sensors { table: "anomalies", ..readings };
        let began = Instant::now();
        readings.fill(sensor, n_rows, 1).await;
        anomalies.fill(sensor, n_rows, 100).await;
        println!("  {:<44} {:>8.0} s", "making it", began.elapsed().as_secs_f64());
        ask_all(&readings, &anomalies, n_rows).await;
    }
}

/// A table of readings.
#[derive(Clone, Copy)]
struct Sensors<'a> {
    database: &'a Database,
    table: &'a str,
    index: &'a [&'a str],
}

impl Sensors<'_> {
    fn make(&self) -> (StageType, Value, SinkContext) {
        let field = |name, column_type| Field::new(name, column_type, false);
        let schema = Schema::new(vec![
            field("sensor_id", DataType::Utf8),
            field("metric_type", DataType::Utf8),
            field("value", DataType::Float64),
            field("timestamp", timestamp_type()),
        ]);
        let options = json!({ "url": self.database.url(), "table": self.table, "indexes": ["timestamp", self.index] });
        let context =
            SinkContext { stage: pipeline_testkit::stage_context(), schema: Arc::new(schema), detector: None };
        (pipeline_postgres::stages().remove(0), options, context)
    }

    /// Has the sink make the table, and writes every `nth` row into it.
    async fn fill(&self, sensor: &str, n_rows: i64, nth: i64) {
        let (stage, options, context) = self.make();
        let Make::Sink(make) = stage.make else { panic!("not a sink") };
        let BuiltSink::Epochs(mut sink) = make(options, context).unwrap() else { panic!("not a sink of epochs") };
        let text = String::from;
        let owner = Owner {
            pipeline: text("iot"),
            sink: text(self.table),
            task: text("0"),
            state_id: text("life"),
            generation: 1,
            stored: None,
            takes_over: false,
        };
        sink.claim(&owner).await.unwrap();
        let Sensors { database, table, .. } = self;
        let start = START.0 as f64 / 1e6;
        database
            .execute(&format!(
                "INSERT INTO {table} (sensor_id, metric_type, value, timestamp)
                SELECT {sensor}, 'temperature', 20 + 5 * sin(i / 1e4) + random(),
                    to_timestamp({start}) + i * interval '{STEP_MICROS} microseconds'
                FROM generate_series(0::bigint, {n_rows} - 1) AS i
                WHERE {nth} = 1 OR hashint8(i) % {nth} = 0"
            ))
            .await;
        database.execute(&format!("VACUUM ANALYZE {table}")).await;
    }

    fn history(&self) -> Box<dyn History> {
        let (stage, options, context) = self.make();
        let make = stage.history.unwrap();
        make(options, context).unwrap().unwrap()
    }
}

async fn ask_all(readings: &Sensors<'_>, anomalies: &Sensors<'_>, n_rows: i64) {
    let (readings, anomalies) = (readings.history(), anomalies.history());
    let at = |row: i64| Timestamp(START.0 + row * STEP_MICROS);
    let all = Selection::default();
    let series = |from, until| Selection {
        equal: vec![("sensor_id".into(), json!("sensor-042")), ("metric_type".into(), json!("temperature"))],
        time: Some(("timestamp".into(), from, until)),
        only: None,
    };
    let whole = series(None, None);
    let newest = Page { by: "timestamp".into(), descending: true, after: None, limit: 100 };
    let deep = Page { after: Some((json!(at(n_rows / 3).to_rfc3339()), 1)), ..newest.clone() };
    let oldest = Page { descending: false, ..newest.clone() };
    let many = Page { limit: 5_000, ..newest.clone() };
    // As many rows as a page of a series may have, and as many again.
    let middle = series(Some(at(n_rows / 4)), Some(at(n_rows / 4 + 1_000_000)));
    let sensor = ["sensor_id".to_owned()];
    let names = ["sensor_id".to_owned(), "metric_type".to_owned()];
    let series_42 = [json!("sensor-042"), json!("temperature")];

    measure("newest page of 100", 100, async || readings.page(&all, &newest).await).await;
    measure("page of 100, deep in the past", 100, async || readings.page(&all, &deep).await).await;
    measure("oldest page of 100", 100, async || readings.page(&all, &oldest).await).await;
    measure("newest 5,000 rows of a series", 5_000, async || readings.page(&whole, &many).await).await;
    measure("5,000 rows of a series in a time range", 5_000, async || readings.page(&middle, &many).await).await;
    let summary = async |rows: &Selection| readings.summary(rows, "value", at(0), at(n_rows), 800).await;
    measure("summary of a series, 800 points", 800, async || summary(&whole).await).await;
    measure("series, distinct", 100, async || readings.distinct(&names, "", None, 1_000).await).await;
    measure("series, distinct, with a prefix", 10, async || readings.distinct(&names, "sensor-04", None, 50).await)
        .await;
    measure("series, distinct, after one", 57, async || readings.distinct(&names, "", Some(&series_42), 100).await)
        .await;
    measure("newest page of anomalies", 100, async || anomalies.page(&all, &newest).await).await;
    measure("anomalies by sensor", 100, async || anomalies.count_by(&all, &sensor, 100).await).await;
    let summary = async |rows: &Selection| anomalies.summary(rows, "value", at(0), at(n_rows), 200).await;
    let times = Selection { time: Some(("timestamp".into(), None, None)), ..Selection::default() };
    measure("anomalies over time, 200 points", 200, async || summary(&times).await).await;
}

/// Asks several times, and says how long it took; `expected` is how many rows there are at most.
async fn measure(what: &str, expected: usize, ask: impl AsyncFn() -> Result<RecordBatch>) {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        match ask().await {
            Ok(rows) => assert!((1..=expected).contains(&rows.num_rows()), "{what}: {} rows", rows.num_rows()),
            Err(error) => println!("  {what}: {error}"),
        }
        times.push(began.elapsed());
    }
    let first = times[0];
    times.sort();
    let (median, longest) = (times[TIMES / 2], times[TIMES - 1]);
    let verdict = if longest < GOAL { "" } else { "  too slow" };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!("  {what:<44} {:>8.1} {:>8.1} ms, first {:.1}{verdict}", millis(median), millis(longest), millis(first));
}
