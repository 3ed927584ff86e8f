//! Services that fail: nothing lost, nothing twice, and one warning for each change of state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::production::{Motes, Production, pipeline, repository};
use pipeline_services::{Kafka, Postgres, Reply, RunningPipeline, StopMode, eventually};

const LONG: Duration = Duration::from_secs(120);
/// Long enough for every pause between tries to have grown to its full length.
const OUTAGE: Duration = Duration::from_secs(30);

/// Small epochs, so that a fault always hits work in flight.
const SMALL_EPOCHS: [&str; 4] = ["--set", "commit_every=5ms", "--set", "checkpoint_every=500ms"];

async fn until_rows(production: &Production, at_least: usize) {
    eventually(LONG, "rows in PostgreSQL", async || at_least as i64 <= production.count().await).await;
}

fn warnings(running: &RunningPipeline, about: &str) -> usize {
    running.stderr().lines().filter(|line| line.contains("WARN") && line.contains(about)).count()
}

async fn stop_and_compare(production: &Production, motes: &Motes, running: RunningPipeline) {
    running.interrupt();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_may_go_away() {
    let motes = Motes::load();
    let mut postgres = Postgres::start().await;
    let production = Production::on(Kafka::shared().await, &postgres, 2).await;
    production.replay(&motes.file).await.assert_code(0);
    let mut running = production.run(&SMALL_EPOCHS).start();
    until_rows(&production, motes.rows / 10).await;
    postgres.stop(StopMode::Fast).await;
    let stopped = Instant::now();
    running.wait_for_line("trying again until it works", LONG).await;
    eventually(LONG, "half a minute without PostgreSQL", async || OUTAGE <= stopped.elapsed()).await;
    postgres.start_again().await;
    running.wait_for_line("back after", LONG).await;
    until_rows(&production, motes.rows / 2).await;
    postgres.stop(StopMode::Immediate).await;
    postgres.start_again().await;
    until_rows(&production, motes.rows).await;
    for sink in ["history", "anomalies"] {
        let warned = warnings(&running, &format!("{sink}:"));
        assert!(warned <= 2, "{warned} warnings of {sink} for two outages\n{}", running.stderr());
    }
    stop_and_compare(&production, &motes, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_may_be_restarted() {
    let motes = Motes::load();
    let mut kafka = Kafka::start().await;
    let production = Production::on(&kafka, Postgres::shared().await, 2).await;
    production.replay(&motes.file).await.assert_code(0);
    let running = production.run(&SMALL_EPOCHS).start();
    until_rows(&production, motes.rows / 10).await;
    kafka.stop().await;
    kafka.start_again().await;
    until_rows(&production, motes.rows).await;
    assert!(warnings(&running, "readings") <= 3, "{}", running.stderr());
    stop_and_compare(&production, &motes, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_may_refuse_fail_and_hang() {
    let motes = Motes::load();
    let production = Production::start(1).await;
    let trouble =
        [Reply::status(429).header("Retry-After", "1"), Reply::status(500), Reply::hang(), Reply::close(), Reply::ok()];
    production.slack.set_behaviour(trouble);
    production.replay(&motes.file).await.assert_code(0);
    let running = production.run(&["--set", "sinks.alerts.timeout=1s"]).start();
    // History does not wait for Slack.
    until_rows(&production, motes.rows).await;
    let delivered = |requests: &[pipeline_services::Request]| {
        let mut texts: BTreeMap<String, usize> = BTreeMap::new();
        requests.iter().for_each(|request| *texts.entry(request.json().to_string()).or_default() += 1);
        texts
    };
    let requests =
        production.slack.wait_until(|requests| motes.anomalies.len() <= delivered(requests).len(), LONG).await;
    let texts = delivered(&requests);
    assert_eq!(texts.len(), motes.anomalies.len(), "each alert has an id, so each message is different");
    let repeated: Vec<&usize> = texts.values().filter(|count| 1 < **count).collect();
    assert_eq!(repeated, [&5], "the first was tried until it was taken, no other twice");
    assert_eq!(warnings(&running, "alerts:"), 1, "{}", running.stderr());
    stop_and_compare(&production, &motes, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_state_is_out_of_reach_can_be_stopped() {
    let mut running = pipeline()
        .args(["run"])
        .args([repository().join("pipelines/iot.yaml")])
        .env("STATE", "postgres://nobody@127.0.0.1:9/nothing")
        .start();
    running.wait_for_line("trying again until it works", Duration::from_secs(60)).await;
    running.interrupt();
    let finished = running.wait().await;
    finished.assert_code(0);
    assert!(finished.stderr.contains("stopped before anything was read"), "{}", finished.stderr);
}
