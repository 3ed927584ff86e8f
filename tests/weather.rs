//! `pipelines/openweather.yaml`, as users run it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipeline_services::{HttpReceiver, Kafka, PipelineRun, Reply, Request, unique_name};
use serde_json::{Value, json};

use crate::exact::query;
use crate::polled::{KEY, assert_hidden, parameter};
use crate::production::{pipeline, repository};

const LONG: Duration = Duration::from_secs(120);

/// What OpenWeatherMap answers, with another temperature each time.
fn weather(request: &Request, nth: usize) -> Reply {
    if parameter(request, "appid") != KEY {
        let body = json!({ "cod": 401, "message": format!("Invalid API key {}", parameter(request, "appid")) });
        return Reply::status(401).body(&body.to_string());
    }
    let (q, units) = (parameter(request, "q"), parameter(request, "units"));
    assert_eq!((request.path.split('?').next(), units.as_str()), (Some("/data/2.5/weather"), "metric"));
    let city = q.split("%2C").next().unwrap_or_default();
    let main = json!({ "temp": 20.0 + nth as f64 / 100.0, "feels_like": 1, "pressure": 1012, "humidity": 60 });
    let document = json!({
        "coord": { "lon": 0.1, "lat": 51.5 }, "weather": [{ "id": 800, "main": "Clear" }], "main": main,
        "dt": 1_752_999_556 + nth, "sys": { "country": "XX" }, "name": city, "cod": 200
    });
    Reply::status(200).body(&document.to_string())
}

async fn weather_server() -> HttpReceiver {
    let server = HttpReceiver::start().await;
    let nth = AtomicUsize::new(0);
    server.answer_by(move |request| weather(request, nth.fetch_add(1, Ordering::SeqCst)));
    server
}

fn openweather(server: &HttpReceiver, folder: &Path, more: &[&str]) -> PipelineRun {
    let url = format!("sources.weather.url={}/data/2.5/weather", server.url());
    let file = repository().join("pipelines/openweather.yaml");
    let run = pipeline().args(["run"]).args([file]).args(["--dashboard", "off", "--set", &url]).args(more);
    run.env("STATE", folder.join("state")).env("DATABASE", folder.join("weather.db"))
}

const SENSORS: [&str; 3] = ["London", "New York", "Tokyo"];

fn sensors() -> BTreeSet<String> {
    let each = |city| ["temp", "humidity", "pressure"].map(|metric| format!("{city}-{metric}"));
    SENSORS.iter().flat_map(each).collect()
}

#[tokio::test]
async fn the_weather_of_each_city_is_three_readings() {
    let (server, folder) = (weather_server().await, tempfile::tempdir().unwrap());
    let run =
        openweather(&server, folder.path(), &["--set", "sources.weather.every=50ms"]).env("OPENWEATHER_API_KEY", KEY);
    let running = run.start();
    server.wait_until(|requests| 30 < requests.len(), LONG).await;
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_hidden(folder.path(), &finished);
    let table = folder.path().join("weather.db");
    let found = query(&table, "SELECT sensor_id FROM sensor_data").await.concat();
    assert!(90 <= found.len(), "{}", found.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<String>>(), sensors());
    let pressure =
        "SELECT DISTINCT value FROM sensor_data WHERE metric_type = 'pressure' AND sensor_id = 'Tokyo-pressure'";
    assert_eq!(query(&table, pressure).await, [["1012"]]);
}

#[tokio::test]
async fn without_the_key_or_with_a_wrong_one_people_are_told_what_to_do() {
    let (server, folder) = (weather_server().await, tempfile::tempdir().unwrap());
    let missing = openweather(&server, folder.path(), &[]).start().wait_with_timeout(LONG).await;
    missing.assert_code(2);
    assert!(missing.stderr.contains("the variable `OPENWEATHER_API_KEY` is not set"), "{}", missing.stderr);
    // As containers give a variable that nobody has set.
    let empty = openweather(&server, folder.path(), &[]).env("OPENWEATHER_API_KEY", "").start();
    let empty = empty.wait_with_timeout(LONG).await;
    empty.assert_code(2);
    assert!(empty.stderr.contains("`query.appid` is empty"), "{}", empty.stderr);
    assert!(server.requests().is_empty());

    let wrong = openweather(&server, folder.path(), &["--once"]).env("OPENWEATHER_API_KEY", "hush-wrong-key").start();
    let wrong = wrong.wait_with_timeout(LONG).await;
    wrong.assert_code(1);
    let words = "Invalid API key ***";
    assert!(
        wrong.stderr.contains(words) && wrong.stderr.contains("key or token is missing, wrong"),
        "{}",
        wrong.stderr
    );
    assert!(!wrong.stderr.contains("hush"), "{}", wrong.stderr);
}

#[tokio::test]
async fn in_production_the_readings_go_where_the_other_pipeline_reads_them() {
    let (server, folder, kafka) = (weather_server().await, tempfile::tempdir().unwrap(), Kafka::shared().await);
    let name = unique_name("weather");
    kafka.create_topic(&name, 3).await;
    let topic = format!("sinks.topic.topic={name}");
    let run = openweather(&server, folder.path(), &["--profile", "production", "--set", &topic, "--once"]);
    let run = run.env("OPENWEATHER_API_KEY", KEY).env("KAFKA_BROKERS", kafka.brokers());
    let finished = run.start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    let mut found = BTreeSet::new();
    for record in kafka.read_all(&name).await {
        let row: Value = serde_json::from_slice(&record.payload.expect("no tombstone")).unwrap();
        let columns: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(columns, ["sensor_id", "metric_type", "value", "timestamp"]);
        assert_eq!(record.key.as_deref(), row["sensor_id"].as_str().map(str::as_bytes));
        found.insert(row["sensor_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, sensors());
}
