//! Each source with each sink: what docs/guarantees.md promises for the pair holds over kills.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::exact::query;
use crate::production::{Motes, pipeline};
use pipeline_services::{Database, HttpReceiver, Kafka, PipelineRun, Postgres, Record, eventually, unique_name};
use serde_json::Value;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(120);
const KILLS: usize = 4;

/// All sinks there are, below one detector; rows into those that take many, anomalies to those that tell somebody.
const SINKS: &str = "
  postgres:  { type: postgres, inputs: spikes, url: '${DATABASE_URL}', table: scores }
  sqlite:    { type: sqlite, inputs: spikes, path: scores.db, table: scores }
  kafka:     { type: kafka, inputs: spikes, brokers: '${BROKERS}', topic: '${OUT}' }
  file:      { type: file, inputs: spikes, path: 'scores-{task}.jsonl' }
  nowhere:   { type: discard, inputs: spikes }
  console:   { type: console, inputs: spikes, when: is_anomaly, format: json }
  slack:     { type: slack, inputs: spikes, when: is_anomaly, webhook_url: '${SLACK}', rate: 100000 per second, max_pending: 100000 }
  webhook:   { type: webhook, inputs: spikes, when: is_anomaly, url: '${HOOK}', rate: 100000 per second, max_pending: 100000 }
";

/// A pipeline of one source and all sinks.
struct World {
    /// Two pipelines of one name that write to one cluster shut each other out.
    name: &'static str,
    kafka: &'static Kafka,
    source: String,
    folder: TempDir,
    database: Database,
    slack: HttpReceiver,
    hook: HttpReceiver,
    out: String,
}

/// What has come out, each with how often.
#[derive(Debug, Default)]
struct Output {
    exactly_once: BTreeMap<&'static str, Counted>,
    at_least_once: BTreeMap<&'static str, Counted>,
}

type Counted = BTreeMap<String, usize>;

impl World {
    async fn new(name: &'static str, source: &str) -> Self {
        let (kafka, postgres) = tokio::join!(Kafka::shared(), Postgres::shared());
        let out = unique_name("scores");
        kafka.create_topic(&out, 2).await;
        World {
            name,
            kafka,
            source: source.replace("${GROUP}", &unique_name("group")),
            folder: tempfile::tempdir().unwrap(),
            database: postgres.create_database().await,
            slack: HttpReceiver::start().await,
            hook: HttpReceiver::start().await,
            out,
        }
    }

    fn run(&self) -> PipelineRun {
        let file = self.folder.path().join("pipeline.yaml");
        let text = format!(
            "
name: {}
key: [sensor_id, metric_type]
state: state
commit_every: 5ms
checkpoint_every: 200ms
sources:
  readings: {}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, time: timestamp, window: 30, threshold: 3.0 }}
sinks:{SINKS}",
            self.name, self.source
        );
        std::fs::write(&file, text).unwrap();
        let run = pipeline().args(["run"]).args([file]).args(["--once"]);
        let run =
            run.env("DATABASE_URL", self.database.url()).env("BROKERS", self.kafka.brokers()).env("OUT", &self.out);
        run.env("SLACK", format!("{}/services/T0/B0/x", self.slack.url())).env("HOOK", self.hook.url())
    }

    /// How many rows one of the sinks has.
    async fn rows(&self) -> usize {
        let is_there = "SELECT count(*) FROM pg_tables WHERE tablename = 'scores'";
        let is_there = self.database.count(is_there).await == 1;
        if is_there { self.database.count("SELECT count(*) FROM scores").await as usize } else { 0 }
    }

    /// `console` is what all runs have printed.
    async fn output(&self, console: &str) -> Output {
        let mut output = Output::default();
        let rows = self.database.query("SELECT (to_jsonb(t) - 'id')::text FROM scores t").await;
        output.exactly_once.insert("postgres", counted(rows.into_iter().map(|row| format!("{row:?}"))));
        let (path, columns) = (self.folder.path().join("scores.db"), "name FROM pragma_table_info('scores')");
        let columns = query(&path, &format!("SELECT {columns} WHERE name <> 'id'")).await.concat().join(", ");
        let rows = query(&path, &format!("SELECT {columns} FROM scores")).await;
        output.exactly_once.insert("sqlite", counted(rows.into_iter().map(|row| row.join("\t"))));
        let records = self.kafka.read_all(&self.out).await.into_iter();
        let payload = |payload: Option<Vec<u8>>| String::from_utf8(payload.expect("no tombstone")).unwrap();
        output.exactly_once.insert("kafka", counted(records.map(|record| payload(record.payload))));
        let lines = self.files().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
        let lines: Vec<String> = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        output.exactly_once.insert("file", counted(lines));
        // A kill may cut the last line of a run.
        let whole = console.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
        output.at_least_once.insert("console", counted(whole.map(str::to_owned)));
        for (sink, receiver) in [("slack", &self.slack), ("webhook", &self.hook)] {
            let requests = receiver.requests().into_iter();
            output.at_least_once.insert(sink, counted(requests.map(|request| request.json().to_string())));
        }
        output
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
    }
}

fn counted(rows: impl IntoIterator<Item = String>) -> Counted {
    let mut counted = Counted::new();
    rows.into_iter().for_each(|row| *counted.entry(row).or_default() += 1);
    counted
}

async fn kills_do_not_matter(name: &'static str, source: &str, rows: usize) {
    let undisturbed = World::new(name, source).await;
    let finished = undisturbed.run().start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    let expected = undisturbed.output(&finished.stdout).await;
    assert_eq!(expected.exactly_once["file"].values().sum::<usize>(), rows);
    assert!(100 < expected.at_least_once["webhook"].len());

    let world = World::new(name, source).await;
    let (mut console, mut resumed) = (String::new(), 0);
    for kill in 1..=KILLS {
        let mut running = world.run().start();
        let some = rows * kill / (KILLS + 1);
        eventually(LONG, "rows before the kill", async || !running.is_running() || some <= world.rows().await).await;
        let killed = running.kill().await;
        resumed += usize::from(killed.stderr.contains("again in"));
        console += &(killed.stdout + "\n");
    }
    let finished = world.run().start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert!(0 < resumed, "no run had anything to compute again");
    let found = world.output(&(console + &finished.stdout)).await;
    for (sink, expected) in &expected.exactly_once {
        assert!(found.exactly_once[sink] == *expected, "{sink} differs after kills");
    }
    for (sink, expected) in &expected.at_least_once {
        let found = &found.at_least_once[sink];
        assert!(found.keys().eq(expected.keys()), "{sink} has other rows after kills");
        let repeats = found.values().sum::<usize>() - expected.values().sum::<usize>();
        // Of an outbox at most the one alert that was on its way at a kill; of the console an epoch or two.
        assert!(*sink == "console" || repeats <= KILLS, "{sink} repeated {repeats} alerts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_into_every_sink() {
    let motes = Motes::load();
    let (kafka, topic) = (Kafka::shared().await, unique_name("readings"));
    kafka.create_topic(&topic, 2).await;
    let text = std::fs::read_to_string(&motes.file).unwrap();
    let key = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sensor_id"].to_string();
    kafka.produce(&topic, text.lines().map(|line| Record::new(line).key(key(line))).collect()).await;
    let source = format!(
        "{{ type: kafka, brokers: '${{BROKERS}}', topic: {topic}, group: '${{GROUP}}', format: json, schema: {SCHEMA},
            client: {{ fetch.message.max.bytes: 65536 }} }}"
    );
    kills_do_not_matter("topic-into-all", &source, motes.rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_into_every_sink() {
    let motes = Motes::load();
    let source = format!("{{ type: file, path: '{}', format: json, schema: {SCHEMA} }}", motes.file.display());
    kills_do_not_matter("file-into-all", &source, motes.rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_into_every_sink() {
    let source = "{ type: simulator, rate: unlimited, count: 40000, start: '2025-07-20T08:00:00Z' }";
    kills_do_not_matter("simulator-into-all", source, 40_000).await;
}

const SCHEMA: &str = "{ sensor_id: string, metric_type: string, value: float, timestamp: timestamp }";
