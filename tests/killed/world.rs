//! What is read, and an undisturbed run of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::exact::id_in;
use crate::killed::setting;
use crate::killed::tables::Tables;
use crate::production::{Binary, Production, pipeline, repository};
use pipeline_services::{HttpReceiver, Kafka, PipelineRun, Postgres, unique_name};

/// Longer than millions of rows take in a debug build.
const LONG: Duration = Duration::from_secs(1800);

/// 334 sensors with three metrics.
const SENSORS: usize = 334;
const SERIES: usize = 3 * SENSORS;

/// A steady pace, so that a kill finds little done and much to do: the broker waits a while before it gives the next
/// batch of each partition, because it cannot give as many bytes as are asked for. Epochs of milliseconds.
const SMALL_STEPS: [&str; 6] = [
    "--set",
    "sources.readings.client={ fetch.message.max.bytes: 32768, fetch.min.bytes: 1000000, fetch.wait.max.ms: 100 }",
    "--set",
    "commit_every=5ms",
    "--set",
    "checkpoint_every=300ms",
];

/// Servers that may be killed, and a topic with readings.
pub struct World {
    pub kafka: Kafka,
    pub postgres: Postgres,
    pub rows: usize,
    topic: String,
    undisturbed: BTreeMap<Kind, Finished>,
}

/// Where rows and state go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Rows into PostgreSQL, state in a folder.
    Postgres,
    /// Both into PostgreSQL; the process has an `instance` that the file gives it.
    PostgresAlone,
    /// Rows into SQLite, state in a folder.
    Sqlite,
}

/// A pipeline that reads the topic from the beginning.
pub struct Subject {
    pub tables: Tables,
    production: Production,
    settings: Vec<String>,
}

/// What an undisturbed run has given.
struct Finished {
    subject: Subject,
    alerts: BTreeMap<String, String>,
}

static WORLD: OnceCell<Mutex<World>> = OnceCell::const_new();

/// The world of all tests of this file, one after the other: they stop its servers, and measure times.
pub async fn world() -> MutexGuard<'static, World> {
    WORLD.get_or_init(async || Mutex::new(World::start().await)).await.lock().await
}

impl World {
    async fn start() -> Self {
        let rows = setting("PIPELINE_TEST_KILL_ROWS", 100_000);
        let (kafka, postgres) = tokio::join!(Kafka::start(), Postgres::start());
        let topic = unique_name("readings");
        kafka.create_topic(&topic, 4).await;
        let world = World { kafka, postgres, rows, topic, undisturbed: BTreeMap::new() };
        world.fill().await;
        world
    }

    /// Simulated readings, written by the binary itself.
    async fn fill(&self) {
        // Some thousand alerts, however many rows there are.
        let outliers = (1_000.0 / self.rows as f64).max(0.001);
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            format!("sources.sensors.count={}", self.rows),
            format!("sources.sensors.sensors={SENSORS}"),
            format!("sources.sensors.anomaly_share={outliers}"),
            "sources.sensors.rate=unlimited".into(),
            "sources.sensors.start=2025-07-20T08:00:00Z".into(),
            format!("sinks.topic.topic={}", self.topic),
            "sinks.topic.client={ batch.num.messages: 300 }".into(),
        ];
        let run = pipeline().args(["run"]).args([repository().join("pipelines/simulator.yaml")]).args(["--once"]);
        let run = run.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let run = run.env("KAFKA_BROKERS", self.kafka.brokers()).env("STATE", folder.path());
        run.start().wait_with_timeout(LONG).await.assert_code(0);
    }

    /// A pipeline of its own, whose tables are empty.
    pub async fn subject(&self, kind: Kind, binary: Binary) -> Subject {
        let folder: TempDir = tempfile::tempdir().unwrap();
        let database = self.postgres.create_database().await;
        let mut settings = vec![format!("sources.readings.group={}", unique_name("group"))];
        let tables = match kind {
            Kind::Sqlite => {
                let path = folder.path().join("iot.db");
                for (sink, table, score) in [("history", "sensor_data", ""), ("anomalies", "anomalies", "z_score, ")] {
                    settings.push(format!(
                        "sinks.{sink}={{ type: sqlite, path: {}, table: {table}, columns: [sensor_id, metric_type, value, {score}timestamp] }}",
                        path.display()
                    ));
                }
                Tables::Sqlite(path)
            }
            Kind::Postgres => Tables::Postgres(database.clone()),
            Kind::PostgresAlone => {
                settings.push(format!("state={}", database.url()));
                settings.push("sources.readings.instance=the-only-one".into());
                Tables::Postgres(database.clone())
            }
        };
        let brokers = self.kafka.brokers().into();
        let (topic, slack) = (self.topic.clone(), HttpReceiver::start().await);
        Subject { tables, settings, production: Production { brokers, topic, database, slack, folder, binary } }
    }

    /// Runs a pipeline of this kind to the end; once for all tests.
    async fn run_undisturbed(&mut self, kind: Kind) {
        if self.undisturbed.contains_key(&kind) {
            return;
        }
        let subject = self.subject(kind, Binary::Full).await;
        let finished = subject.production.run(&["--once"]);
        let finished = subject.with_settings(finished).start().wait_with_timeout(LONG).await;
        finished.assert_code(0);
        assert_eq!(subject.tables.rows().await, self.rows);
        let (alerts, repeats) = subject.alerts();
        assert_eq!(repeats, 0, "alerts of an undisturbed run were repeated");
        assert!(100 < alerts.len(), "{} alerts are too few to say anything", alerts.len());
        if let Tables::Postgres(database) = &subject.tables {
            let series = "SELECT count(DISTINCT (sensor_id, metric_type)) FROM sensor_data";
            assert_eq!(database.count(series).await as usize, SERIES);
        }
        self.undisturbed.insert(kind, Finished { subject, alerts });
    }

    /// Reads what is left, and compares all with an undisturbed run. Returns how many alerts were repeated.
    pub async fn assert_undisturbed(&mut self, kind: Kind, subject: &Subject) -> usize {
        let finished = subject.with_settings(subject.production.run(&["--once"])).start().wait_with_timeout(LONG).await;
        finished.assert_code(0);
        finished.assert_books_balance();
        let reference = if kind == Kind::PostgresAlone { Kind::Postgres } else { kind };
        self.run_undisturbed(reference).await;
        let expected = &self.undisturbed[&reference];
        assert_eq!(subject.tables.rows().await, self.rows);
        subject.tables.assert_same(&expected.subject.tables).await;
        let (alerts, repeats) = subject.alerts();
        let missing = expected.alerts.keys().filter(|id| !alerts.contains_key(*id)).count();
        let others = alerts.keys().filter(|id| !expected.alerts.contains_key(*id)).count();
        assert_eq!((missing, others), (0, 0), "alerts that were not delivered, and that nobody expected");
        assert!(alerts == expected.alerts, "an alert reads differently");
        repeats
    }
}

impl Subject {
    /// Starts it, in small steps, without an end.
    pub fn run(&self) -> PipelineRun {
        self.with_settings(self.production.run(&SMALL_STEPS))
    }

    fn with_settings(&self, run: PipelineRun) -> PipelineRun {
        run.args(self.settings.iter().flat_map(|setting| ["--set", setting]))
    }

    /// The delivered alerts by id, and how often one was delivered that had been before, word for word the same.
    fn alerts(&self) -> (BTreeMap<String, String>, usize) {
        let (mut alerts, mut repeats) = (BTreeMap::new(), 0);
        for request in self.production.slack.requests() {
            let text = request.json().to_string();
            let id = id_in(&text);
            match alerts.get(&id) {
                None => drop(alerts.insert(id, text)),
                Some(before) => {
                    assert_eq!(*before, text, "alert {id} was repeated in other words");
                    repeats += 1;
                }
            }
        }
        (alerts, repeats)
    }
}
