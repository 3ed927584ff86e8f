//! The processes of `docker/compose.yaml` without containers: its commands and its environment, the image's variables and
//! the files that the image holds, on a real broker and a real database.

#[path = "containers/variables.rs"]
mod variables;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pipeline_runtime::file::{LoadOptions, PipelineFile};
use pipeline_services::{Kafka, PipelineRun, Postgres, eventually};
use serde_json::Value;

use crate::production::{pipeline, repository};
use crate::scraped::Dashboard;
use variables::replaced;

const LONG: Duration = Duration::from_secs(60);

/// The compose file, and what stands here in the place of what its containers see.
struct Composed {
    services: Value,
    env: BTreeMap<String, String>,
    places: Vec<(String, String)>,
}

impl Composed {
    /// With the settings that `make up` writes.
    fn read() -> Self {
        let path = repository().join("docker/compose.yaml");
        let text = std::fs::read_to_string(&path).expect("the compose file");
        let parsed = PipelineFile::parse("compose.yaml", &text, Path::new("."), &LoadOptions::default());
        let compose = parsed.unwrap_or_else(|report| panic!("{}", report.render(false))).root.to_json();
        let output = Command::new(repository().join("docker/new-env")).output().expect("it starts");
        let env = String::from_utf8(output.stdout).expect("text");
        let env = env.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        Composed {
            services: compose["services"].clone(),
            env: env.map(|(name, value)| (name.into(), value.into())).collect(),
            places: vec![("/etc/pipeline".into(), repository().join("pipelines").display().to_string())],
        }
    }

    /// A value of the file, as the process here is to get it.
    fn here(&self, value: &Value) -> String {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = replaced(&text, |variable| {
            let set = self.env.get(variable.name).filter(|value| !value.is_empty()).cloned();
            set.unwrap_or_else(|| variable.default.unwrap_or_default().to_owned())
        });
        self.places.iter().fold(text, |text, (there, here)| text.replace(there, here))
    }

    fn words(&self, service: &str, name: &str) -> Vec<String> {
        self.services[service][name].as_array().expect("a list").iter().map(|word| self.here(word)).collect()
    }

    /// The process of a service that runs our image, with a folder for what it keeps.
    fn run(&self, service: &str, state: &Path) -> PipelineRun {
        let mut run = pipeline().args(self.words(service, "command"));
        let state = state.display().to_string();
        for (name, value) in image_environment() {
            run = run.env(&name, value.replace("/var/lib/pipeline", &state));
        }
        for (name, value) in self.services[service]["environment"].as_object().expect("a map") {
            // One without a value is that of `.env`, and not set, if it is not set there.
            let value = if value.is_null() { self.env.get(name).cloned() } else { Some(self.here(value)) };
            if let Some(value) = value {
                run = run.env(name, value);
            }
        }
        run
    }
}

/// What `ENV` of the image sets: of the Dockerfile's last stage, for nothing else of the others is in it.
fn image_environment() -> Vec<(String, String)> {
    let dockerfile = std::fs::read_to_string(repository().join("docker/Dockerfile")).expect("the Dockerfile");
    let dockerfile = dockerfile.replace("\\\n", " ");
    let (_, image) = dockerfile.rsplit_once("\nFROM ").expect("a stage");
    let env = image.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_whitespace);
    let set: Vec<_> = env.filter_map(|pair| pair.split_once('=')).collect();
    assert!(set.iter().any(|(name, _)| *name == "STATE"), "processes would write into the repository: {set:?}");
    set.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// The topic that the service `topics` makes, and its number of partitions.
fn topic(composed: &Composed) -> (String, i32) {
    let words = composed.words("topics", "command");
    let after = |option: &str| {
        let at = words.iter().position(|word| word == option).expect("the option");
        words[at + 1].clone()
    };
    (after("--topic"), after("--partitions").parse().expect("a number"))
}

#[tokio::test]
async fn readings_of_the_simulator_arrive_in_the_database() {
    let mut composed = Composed::read();
    let (kafka, postgres) = tokio::join!(Kafka::start(), Postgres::shared());
    let database = postgres.create_database().await;
    let (topic, n_partitions) = topic(&composed);
    kafka.create_topic(&topic, n_partitions).await;
    let password = composed.env["POSTGRES_PASSWORD"].clone();
    composed.places.extend([
        ("kafka:9092".into(), kafka.brokers().into()),
        ("0.0.0.0:8080".into(), "0.0.0.0:0".into()),
        (format!("postgres://pipeline:{password}@postgres:5432/iot"), database.url().into()),
    ]);

    let folder = tempfile::tempdir().unwrap();
    let mut run = composed.run("pipeline", &folder.path().join("pipeline")).start();
    let dashboard = Dashboard::of(&mut run).await;
    // `--dashboard` of the simulator is the default: its port may be taken here, then it takes the next one.
    let mut simulator = composed.run("simulator", &folder.path().join("simulator")).start();
    simulator.wait_for_line("dashboard  http://127.0.0.1:", LONG).await;

    run.wait_for_line("ANOMALY", LONG).await;
    let has_arrived = async || {
        let [history, anomalies] = ["sensor_data", "anomalies"].map(|table| format!("SELECT COUNT(*) FROM {table}"));
        1000 < database.count(&history).await && 0 < database.count(&anomalies).await
    };
    eventually(LONG, "readings and anomalies are in the database", has_arrived).await;
    let token = &composed.env["PIPELINE_DASHBOARD_TOKEN"];
    let health = pipeline().args(["health", "--ready", &dashboard.url]).env("PIPELINE_DASHBOARD_TOKEN", token);
    health.start().wait().await.assert_code(0);
    let (status, _) = dashboard.get("/api/pipeline").await;
    assert_eq!(status, 401, "the page of an address that others can reach wants the token");

    for run in [run, simulator] {
        run.terminate();
        let ended = run.wait_with_timeout(LONG).await;
        ended.assert_code(0);
        ended.assert_books_balance();
    }
}

#[tokio::test]
async fn without_its_key_the_weather_ends_with_words() {
    let (composed, folder) = (Composed::read(), tempfile::tempdir().unwrap());
    for service in ["openweather-key", "openweather"] {
        let ended = composed.run(service, folder.path()).start().wait_with_timeout(LONG).await;
        ended.assert_code(2);
        assert!(ended.stderr.contains("`query.appid` is empty"), "{service}: {}", ended.stderr);
        assert!(ended.stderr.contains("the value comes from `OPENWEATHER_API_KEY`"), "{service}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn with_its_key_the_weather_may_start() {
    let (mut composed, folder) = (Composed::read(), tempfile::tempdir().unwrap());
    let waits_for = &composed.services["openweather"]["depends_on"]["openweather-key"];
    assert_eq!(waits_for["condition"], "service_completed_successfully");
    composed.env.insert("OPENWEATHER_API_KEY".into(), "key".into());
    let ended = composed.run("openweather-key", folder.path()).start().wait_with_timeout(LONG).await;
    ended.assert_code(0);
}
