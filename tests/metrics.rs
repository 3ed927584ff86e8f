//! What `/metrics`, `/health` and `/ready` say is what happens: the figures are those of the ledger and of the tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipeline_services::{Finished, Kafka, Postgres, Record, StopMode, eventually};
use serde_json::Value;

use crate::production::{Motes, Production};
use crate::scraped::{Dashboard, Figures, OPEN_METRICS, TEXT, assert_no_counter_fell, figure, sum};

const LONG: Duration = Duration::from_secs(240);

/// Payloads that no row can be made of, with how many of each there are and words of their reason.
const BROKEN: [(&str, usize, &str); 3] = [
    ("hello", 5, "JSON"),
    (r#"{"sensor_id": "s", "metric_type": "t", "value": "21.5", "timestamp": 0}"#, 3, "must be a number"),
    ("", 2, "empty"),
];

/// Asks again and again until told to stop; gives how often.
async fn scrape_all_the_time(dashboard: Dashboard, is_over: Arc<AtomicBool>) -> usize {
    let (mut before, mut count) = (Figures::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        for format in [TEXT, OPEN_METRICS] {
            let now = dashboard.scrape(format).await;
            assert_no_counter_fell(&before, &now);
            before = now;
            count += 1;
        }
    }
    count
}

/// What the run logs at its end: of each stage, what came in, what went out, dead.
fn ledger(finished: &Finished) -> BTreeMap<String, Value> {
    let lines = finished.stderr.lines().map(|line| {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(parsed.is_object(), "{line}");
        parsed
    });
    let lines: Vec<Value> = lines.collect();
    assert!(lines.iter().any(|line| line["fields"]["message"].as_str().is_some_and(|m| m.starts_with("iot · "))));
    let books = lines.into_iter().map(|mut line| line["fields"].take()).filter(|fields| fields["message"] == "books");
    books.map(|fields| (fields["stage"].as_str().expect("an id").to_owned(), fields)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_equal_the_ledger_and_the_tables() {
    let motes = Motes::load();
    let production = Production::start(4).await;
    let args = ["--dashboard", "127.0.0.1:0", "--log", "json"];
    let mut run = production.run(&args).start();
    let dashboard = Dashboard::of(&mut run).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let scrapers: Vec<_> =
        (0..4).map(|_| tokio::spawn(scrape_all_the_time(dashboard.clone(), is_over.clone()))).collect();

    let broken = BROKEN.iter().flat_map(|(payload, count, _)| vec![Record::new(*payload).partition(1); *count]);
    Kafka::shared().await.produce(&production.topic, broken.collect()).await;
    production.replay(&motes.file).await.assert_code(0);
    let n_dead: usize = BROKEN.iter().map(|(_, count, _)| count).sum();
    let read = (motes.rows + n_dead) as f64;
    eventually(LONG, "everything is read", async || {
        sum(&dashboard.scrape(TEXT).await, "messages_processed_total") == read
    })
    .await;
    eventually(Duration::from_secs(30), "no lag, once the source has looked again", async || {
        sum(&dashboard.scrape(TEXT).await, "pipeline_lag_rows") == 0.0
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    for scraper in scrapers {
        let count = scraper.await.expect("no counter fell");
        assert!(10 <= count, "only {count} scrapes");
    }

    let (in_text, in_open_metrics) = (dashboard.scrape(TEXT).await, dashboard.scrape(OPEN_METRICS).await);
    assert!(in_text.keys().eq(in_open_metrics.keys()), "{in_text:?} {in_open_metrics:?}");
    assert_promtool_takes(&dashboard).await;
    run.interrupt();
    let finished = run.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    for figures in [in_text, in_open_metrics] {
        assert_same_as_ledger(&figures, &ledger(&finished));
        assert_same_as_tables(&figures, &production, n_dead).await;
        for (_, count, words) in BROKEN {
            assert_eq!(dead_because(&figures, words), count as f64, "{words}: {figures:?}");
        }
    }
}

fn assert_same_as_ledger(figures: &Figures, ledger: &BTreeMap<String, Value>) {
    assert_eq!(ledger.len(), 5, "{ledger:?}");
    for (stage, books) in ledger {
        let pairs = [("in", "rows_in"), ("created", "created"), ("out", "out"), ("filtered", "filtered")];
        for (outcome, name) in pairs.into_iter().chain([("dead", "dead"), ("late", "late")]) {
            let labels = [("stage", stage.as_str()), ("outcome", outcome)];
            let scraped = figure(figures, "pipeline_stage_rows_total", &labels);
            assert_eq!(Some(scraped), books[name].as_f64(), "{stage} {outcome}");
        }
        assert_eq!(figure(figures, "pipeline_stage_imbalance_rows", &[("stage", stage)]), 0.0, "{stage}");
        assert_eq!(books["is_balanced"], true, "{stage}");
    }
    assert_eq!(sum(figures, "pipeline_lag_rows"), 0.0);
    let committed = sum(figures, "processing_latency_seconds_count");
    assert_eq!(committed, sum(figures, "messages_processed_total"), "each row has a latency");
}

async fn assert_same_as_tables(figures: &Figures, production: &Production, n_dead: usize) {
    let database = &production.database;
    let rows = database.count("SELECT COUNT(*) FROM sensor_data").await as f64;
    assert_eq!(
        sum(figures, "messages_processed_total"),
        rows + n_dead as f64,
        "every row that was read is one of these"
    );
    assert_eq!(figure(figures, "pipeline_stage_rows_total", &[("stage", "history"), ("outcome", "out")]), rows);
    assert_eq!(sum(figures, "pipeline_dead_letters_total"), n_dead as f64);
    let by_metric = database.query("SELECT metric_type, COUNT(*)::text FROM anomalies GROUP BY metric_type").await;
    assert!(2 <= by_metric.len(), "{by_metric:?}");
    let mut total = 0.0;
    for row in by_metric {
        let [Some(metric), Some(count)] = row.as_slice() else { panic!("{row:?}") };
        let count: f64 = count.parse().expect("a number");
        assert_eq!(figure(figures, "anomalies_detected_total", &[("metric_type", metric)]), count, "{metric}");
        total += count;
    }
    assert_eq!(sum(figures, "anomalies_detected_total"), total);
}

/// Dead letters of the source whose reason has these words.
fn dead_because(figures: &Figures, words: &str) -> f64 {
    let of_source = figures.iter().filter(|(name, _)| {
        name.starts_with("pipeline_dead_letters_total{") && name.contains("stage=\"readings\"") && name.contains(words)
    });
    of_source.map(|(_, number)| number).sum()
}

/// `promtool check metrics` finds nothing to say about names, units and help.
async fn assert_promtool_takes(dashboard: &Dashboard) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let (_, text) = dashboard.get("/metrics").await;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.unwrap_or_else(|error| {
        panic!("`promtool` is missing ({error}): it is part of Prometheus, on Debian of the package `prometheus`")
    });
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_why_not_while_the_database_is_down() {
    let mut postgres = Postgres::start().await;
    let kafka = Kafka::shared().await;
    let production = Production::on(kafka, &postgres, 1).await;
    let reading = |value: u32| {
        let time = "2025-06-01T12:00:00Z";
        let row =
            serde_json::json!({"sensor_id": "s", "metric_type": "t", "value": f64::from(value), "timestamp": time});
        Record::new(row.to_string()).key("s")
    };
    let mut run = production.run(&["--dashboard", "127.0.0.1:0"]).start();
    let dashboard = Dashboard::of(&mut run).await;
    kafka.produce(&production.topic, vec![reading(1)]).await;
    eventually(LONG, "a row in the table", async || production.count().await == 1).await;
    eventually(LONG, "ready", async || dashboard.ready().await.0).await;

    postgres.stop(StopMode::Fast).await;
    kafka.produce(&production.topic, vec![reading(2)]).await;
    let mut said = String::new();
    eventually(LONG, "not ready, because of the database", async || {
        let (is_ready, reasons) = dashboard.ready().await;
        said = reasons;
        !is_ready && said.contains("history: ")
    })
    .await;
    assert!(said.contains("PostgreSQL") || said.contains("database"), "{said}");
    assert_eq!(dashboard.get("/health").await, (reqwest::StatusCode::OK, "alive\n".into()));
    assert_eq!(figure(&dashboard.scrape(TEXT).await, "pipeline_failing", &[("what", "history")]), 1.0);

    postgres.start_again().await;
    eventually(LONG, "ready again", async || dashboard.ready().await.0).await;
    eventually(LONG, "the second row in the table", async || production.count().await == 2).await;
    let figures = dashboard.scrape(TEXT).await;
    assert_eq!(figure(&figures, "pipeline_failing", &[("what", "history")]), 0.0);
    assert!(1.0 <= figure(&figures, "pipeline_failures_total", &[("what", "history")]));
    run.interrupt();
    run.wait_with_timeout(LONG).await.assert_code(0);
}
