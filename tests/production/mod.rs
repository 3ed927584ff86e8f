//! `pipelines/iot.yaml --profile production` on real services: Kafka, PostgreSQL, and an HTTP receiver for Slack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_services::{Database, Finished, HttpReceiver, Kafka, PipelineRun, Postgres, unique_name};
use tempfile::TempDir;

/// One pipeline's world: a topic, a database, a receiver and a folder for state.
pub struct Production {
    pub brokers: String,
    pub topic: String,
    pub database: Database,
    pub slack: HttpReceiver,
    pub folder: TempDir,
    /// Which binary runs the pipeline.
    pub binary: Binary,
}

/// Which binary runs a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// With all stages built in.
    Full,
    /// With all stages of the pipeline loaded from shared libraries.
    Slim,
}

/// An anomaly, as the reference and the tables have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// sensor, metric, value and time as text that both sides write the same way.
    pub row: (String, String, String, String),
    pub z: f64,
}

impl Production {
    /// On the servers that the tests of this binary share.
    pub async fn start(n_partitions: i32) -> Self {
        let (kafka, postgres) = tokio::join!(Kafka::shared(), Postgres::shared());
        Self::on(kafka, postgres, n_partitions).await
    }

    /// On servers of its own.
    pub async fn on(kafka: &Kafka, postgres: &Postgres, n_partitions: i32) -> Self {
        let topic = unique_name("readings");
        kafka.create_topic(&topic, n_partitions).await;
        Production {
            brokers: kafka.brokers().into(),
            topic,
            database: postgres.create_database().await,
            slack: HttpReceiver::start().await,
            folder: tempfile::tempdir().expect("a temporary folder"),
            binary: Binary::Full,
        }
    }

    /// With another binary.
    pub fn with(self, binary: Binary) -> Self {
        Production { binary, ..self }
    }

    /// `pipeline run pipelines/iot.yaml --profile production`, with what a test must change.
    pub fn run(&self, args: &[&str]) -> PipelineRun {
        self.command("run", args)
    }

    /// Any command on that file.
    pub fn command(&self, command: &str, args: &[&str]) -> PipelineRun {
        let topic = format!("sources.readings.topic={}", self.topic);
        let group = format!("sources.readings.group={}", self.topic);
        // Slack's own limits would make a test wait for minutes.
        let overlay = [
            "--profile",
            "production",
            "--set",
            &topic,
            "--set",
            &group,
            "--set",
            "sinks.alerts.rate=100000 per second",
            "--set",
            "sinks.alerts.max_pending=100000",
        ];
        let file = repository().join("pipelines/iot.yaml");
        let (pipeline, loaded) = match self.binary {
            Binary::Full => (pipeline(), Vec::new()),
            Binary::Slim => (pipeline_slim(), everything_loaded()),
        };
        pipeline
            .args([command])
            .args([file])
            .args(overlay)
            .args(loaded)
            .args(args)
            .env("KAFKA_BROKERS", &self.brokers)
            .env("DATABASE_URL", self.database.url())
            .env("SLACK_WEBHOOK_URL", format!("{}/services/T000/B000/secret", self.slack.url()))
            .env("STATE", self.folder.path().join("state"))
    }

    /// Plays a file into the topic with `pipelines/replay.yaml`, keyed by sensor.
    pub async fn replay(&self, file: &Path) -> Finished {
        let name = unique_name("replay");
        let run = pipeline()
            .args(["run"])
            .args([repository().join("pipelines/replay.yaml")])
            .args(["--once"])
            .env("KAFKA_BROKERS", &self.brokers)
            .env("TOPIC", &self.topic)
            .env("FILE", file)
            .env("NAME", &name)
            .args(["--set", &format!("state={}", self.folder.path().join(&name).display())]);
        run.start().wait_with_timeout(Duration::from_secs(120)).await
    }

    /// How many rows there are in `sensor_data`; none before it is made.
    pub async fn count(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'sensor_data'";
        if self.database.count(sql).await == 0 {
            0
        } else {
            self.database.count("SELECT COUNT(*) FROM sensor_data").await
        }
    }

    /// The rows of `sensor_data` as text, with how often each is there.
    pub async fn history(&self) -> BTreeMap<Vec<Option<String>>, usize> {
        let sql = format!("SELECT sensor_id, metric_type, value::text, {TIME} FROM sensor_data");
        let mut rows = BTreeMap::new();
        for row in self.database.query(&sql).await {
            *rows.entry(row).or_default() += 1;
        }
        rows
    }

    /// The rows of `anomalies`, sorted.
    pub async fn anomalies(&self) -> Vec<Anomaly> {
        let sql = format!("SELECT sensor_id, metric_type, value::text, {TIME}, z_score::text FROM anomalies");
        let rows = self.database.query(&sql).await.into_iter().map(|row| {
            let mut cells = row.into_iter().map(|cell| cell.expect("no null in anomalies"));
            let mut next = || cells.next().expect("five columns");
            let row = (next(), next(), number(&next()), next());
            Anomaly { row, z: next().parse().expect("a number") }
        });
        sorted(rows.collect())
    }
}

/// PostgreSQL's time in the form of the data.
const TIME: &str = r#"to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')"#;

/// A number in one form: `46` for `46.0`.
pub fn number(text: &str) -> String {
    text.parse::<f64>().expect("a number").to_string()
}

/// Sorts by everything.
pub fn sorted(mut anomalies: Vec<Anomaly>) -> Vec<Anomaly> {
    anomalies.sort_by(|a, b| a.row.cmp(&b.row).then(a.z.total_cmp(&b.z)));
    anomalies
}

/// The binary under test.
pub fn pipeline() -> PipelineRun {
    PipelineRun::new(env!("CARGO_BIN_EXE_pipeline"))
}

/// The binary without clients.
pub fn pipeline_slim() -> PipelineRun {
    PipelineRun::new(env!("CARGO_BIN_EXE_pipeline-slim"))
}

/// Arguments that let `pipeline-slim` load all plugins, the built-in ones too; cargo puts them beside the tests.
pub fn everything_loaded() -> Vec<String> {
    let test = std::env::current_exe().expect("a test is a file");
    let folder = test.parent().expect("a file is in a folder");
    let plugins = "plugins=[{ path: pipeline_builtin_plugin, replaces: true }]";
    ["--plugin-path", &folder.display().to_string(), "--set", plugins].map(String::from).to_vec()
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// The recorded readings of four motes, and what the reference says of them.
pub struct Motes {
    pub file: PathBuf,
    pub rows: usize,
    pub anomalies: Vec<Anomaly>,
}

impl Motes {
    /// From `../shared/data` beside the repository, or the folder that `PIPELINE_TEST_DATA` names.
    pub fn load() -> Self {
        let folder = match std::env::var_os("PIPELINE_TEST_DATA") {
            Some(folder) => PathBuf::from(folder),
            None => repository().join("../shared/data"),
        };
        let read = |name: &str| {
            let path = folder.join("wsn").join(name);
            std::fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!("{} is needed ({error}); PIPELINE_TEST_DATA can name the folder above `wsn`", path.display())
            })
        };
        let rows = read("motes.jsonl").lines().count();
        let reference = read("motes.zscore.csv");
        let anomalies = reference.lines().skip(1).map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let row = (cells[1].into(), cells[2].into(), number(cells[3]), cells[4].into());
            Anomaly { row, z: cells[5].parse().expect("a number") }
        });
        Motes { rows, anomalies: sorted(anomalies.collect()), file: folder.join("wsn/motes.jsonl") }
    }

    /// The same rows, and each z within a relative 1e-9; returns the largest difference.
    pub fn assert_same(&self, found: &[Anomaly]) -> f64 {
        assert_eq!(found.len(), self.anomalies.len(), "the number of anomalies");
        let pairs = found.iter().zip(&self.anomalies);
        pairs.fold(0.0, |largest, (found, expected)| {
            assert_eq!(found.row, expected.row);
            let difference = (found.z - expected.z).abs() / expected.z;
            assert!(difference < 1e-9, "{found:?} differs from {expected:?}");
            difference.max(largest)
        })
    }
}
