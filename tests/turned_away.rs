//! A broker that lets the pipeline in no more: it is told once, asked now and then, and seen by who asks for readiness.

use std::path::Path;
use std::time::{Duration, Instant};

use pipeline_services::{Mosquitto, eventually, write_passwords};
use serde_json::json;

use crate::exact::query;
use crate::production::pipeline;
use crate::scraped::Dashboard;

const LONG: Duration = Duration::from_secs(120);
/// Who is refused waits about so long.
const PAUSE: Duration = Duration::from_secs(5);
const REFUSED: &str = "does not let `reader` in: `password` is wrong";

fn file(folder: &Path, url: &str) -> std::path::PathBuf {
    let text = format!(
        "
name: plant
key: [id]
state: state
sources:
  readings:
    type: mqtt
    url: {url}
    topics: plant/#
    user: reader
    password: right
    format: json
    schema: {{ id: string, value: float }}
sinks:
  rows: {{ type: sqlite, inputs: readings, path: rows.db, table: rows }}
"
    );
    let file = folder.join("pipeline.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

async fn found(folder: &Path) -> Vec<String> {
    query(&folder.join("rows.db"), "SELECT id FROM rows ORDER BY id").await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_is_told_once_and_asked_now_and_then() {
    let folder = tempfile::tempdir().unwrap();
    let (passwords, log) = (folder.path().join("passwords"), folder.path().join("broker.log"));
    let may_enter = |reader: &str| write_passwords(&passwords, &[("reader", reader), ("sensor", "right")]);
    may_enter("right");
    let lines = [
        "allow_anonymous false".to_owned(),
        format!("password_file {}", passwords.display()),
        format!("log_dest file {}", log.display()),
    ];
    let mut mosquitto = Mosquitto::start_with(&lines.each_ref().map(String::as_str)).await;
    let mut publisher = mosquitto.publisher("sensor").await.named("sensor", "right");
    let file = file(folder.path(), &mosquitto.url());
    let mut running = pipeline().args(["run"]).args([file]).args(["--dashboard", "127.0.0.1:0"]).start();
    let dashboard = Dashboard::of(&mut running).await;
    running.wait_for_line("subscribed", LONG).await;
    let mut publish = async |id: &str| {
        let body = json!({ "id": id, "value": 1 }).to_string();
        assert!(publisher.publish("plant/a", body.clone()).await || publisher.publish("plant/a", body).await);
    };
    publish("a").await;
    eventually(LONG, "a row", async || found(folder.path()).await == ["a"]).await;
    assert!(dashboard.ready().await.0);

    may_enter("another");
    mosquitto.stop().await;
    mosquitto.start_again().await;
    let n_refused = || std::fs::read_to_string(&log).unwrap().matches("not authorised").count();
    eventually(LONG, "a refusal", async || 0 < n_refused()).await;
    let (first, began) = (n_refused(), Instant::now());
    running.wait_for_line(REFUSED, LONG).await;
    eventually(LONG, "why it is not ready", async || {
        let (is_ready, reasons) = dashboard.ready().await;
        !is_ready && reasons.contains(REFUSED)
    })
    .await;
    // The broker keeps for it what comes meanwhile.
    publish("b").await;
    eventually(LONG, "two more refusals", async || first + 2 <= n_refused()).await;
    assert!(3 * PAUSE / 2 < began.elapsed(), "two tries more in {:?}", began.elapsed());

    may_enter("right");
    mosquitto.stop().await;
    mosquitto.start_again().await;
    let back = running.wait_for_line("readings: back after", LONG).await;
    assert!(back.contains("no row that it had given was lost"), "{back}");
    eventually(LONG, "what has waited", async || found(folder.path()).await == ["a", "b"]).await;
    assert!(dashboard.ready().await.0);
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_eq!(finished.stderr.matches(REFUSED).count(), 1, "{}", finished.stderr);
    assert!(!finished.stderr.contains("nothing was lost"), "{}", finished.stderr);
}
