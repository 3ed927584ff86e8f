//! A hundred sensors publish while the pipeline is killed and the broker is started again: what was acknowledged is there,
//! once for each time it was published.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::exact::query;
use crate::production::{everything_loaded, pipeline, pipeline_slim};
use pipeline_services::{Mosquitto, PipelineRun, Publisher, RunningPipeline, eventually};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(120);
/// A row too many has come by then: commits are some milliseconds apart.
const A_WHILE: Duration = Duration::from_secs(1);
const SENSORS: usize = 100;
const KILLS: usize = 5;
/// Acknowledgements between two kills.
const BETWEEN: usize = 400;
/// Messages, one after the other, by which the pipeline sees how its broker counts them.
const MEETING: usize = 8;

struct World {
    folder: TempDir,
    mosquitto: Mosquitto,
    version: &'static str,
}

impl World {
    async fn new(version: &'static str) -> Self {
        // While the pipeline is away more waits than the default of 1,000, after which Mosquitto drops.
        let mosquitto = Mosquitto::start_with(&["max_queued_messages 0"]).await;
        World { folder: tempfile::tempdir().unwrap(), mosquitto, version }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pipeline.yaml")
    }

    fn run_by(&self, binary: PipelineRun) -> PipelineRun {
        let text = format!(
            "
name: plant
key: [sensor]
state: state
commit_every: 5ms
checkpoint_every: 200ms
sources:
  readings:
    type: mqtt
    url: {}
    version: {}
    topics: plant/+/+
    format: json
    schema:
      id: string
      hall: {{ meta: key, part: 2 }}
      sensor: {{ meta: key, part: 3, type: integer }}
      value: float
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, window: 10 }}
sinks:
  rows: {{ type: sqlite, inputs: spikes, path: rows.db, table: rows }}
",
            self.mosquitto.url(),
            self.version
        );
        std::fs::write(self.file(), text).unwrap();
        binary.args(["run"]).args([self.file()]).args(["--dashboard", "off"])
    }

    fn run(&self) -> PipelineRun {
        self.run_by(pipeline())
    }

    /// How often each row is there, and each body that is no JSON among the dead letters.
    async fn found(&self) -> [BTreeMap<String, usize>; 2] {
        let (rows, log) = (self.folder.path().join("rows.db"), self.folder.path().join("state").join("log.db"));
        let rows = query(&rows, "SELECT id || ' ' || hall || ' ' || sensor FROM rows").await;
        let dead = query(&log, "SELECT CAST(bytes AS TEXT) FROM pipeline_state_dead_letters").await;
        [counted(rows.concat()), counted(dead.concat())]
    }

    /// Runs once, with some messages; the broker keeps for the pipeline what comes from then on.
    async fn meets_its_broker(&self) {
        let running = subscribed(self).await;
        let mut publisher = self.mosquitto.publisher("first").await;
        for nth in 1..=MEETING {
            let body = json!({ "id": format!("first {nth}"), "value": 0 }).to_string();
            assert!(publisher.publish("plant/hall-0/0", body).await);
            self.are_there(&BTreeMap::from([(format!("first {nth} hall-0 0"), 1)])).await;
        }
        running.kill().await;
    }

    /// Waits until each of these is there so often, or more often.
    async fn are_there(&self, wanted: &BTreeMap<String, usize>) {
        eventually(LONG, "what was acknowledged is there", async || {
            let found = self.found().await;
            let times = |row: &String| found.iter().filter_map(|found| found.get(row)).sum();
            wanted.iter().all(|(row, wanted)| *wanted <= times(row))
        })
        .await;
    }

    /// Waits until they are there and nothing more has come for a while.
    async fn settles(&self, wanted: &BTreeMap<String, usize>) {
        self.are_there(wanted).await;
        let (mut count, mut since) = (0, Instant::now());
        eventually(LONG, "nothing more comes", async || {
            let found: usize = self.found().await.iter().flat_map(BTreeMap::values).sum();
            if found != count {
                (count, since) = (found, Instant::now());
            }
            A_WHILE <= since.elapsed()
        })
        .await;
    }
}

fn counted(ids: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    ids.into_iter().for_each(|id| *counted.entry(id).or_default() += 1);
    counted
}

/// What a sensor knows of a body it has published.
#[derive(Debug, Default, Clone, Copy)]
struct Published {
    acknowledged: usize,
    unknown: usize,
}

#[derive(Default)]
struct Sensors {
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Sensors {
    async fn publish(self: Arc<Self>, mut publisher: Publisher, number: usize) -> BTreeMap<String, Published> {
        let (topic, mut published) = (format!("plant/hall-{}/{number}", number % 7), BTreeMap::new());
        for nth in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let (row, body) = one_body(number, nth);
            let published: &mut Published = published.entry(row).or_default();
            // Now and then somebody publishes again what was acknowledged.
            for _ in 0..1 + usize::from(nth % 4 == 3) {
                while !publisher.publish(&topic, body.clone()).await {
                    published.unknown += 1;
                    sleep(Duration::from_millis(50)).await;
                }
                published.acknowledged += 1;
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(20)).await;
        }
        published
    }

    async fn reach(&self, count: usize) {
        eventually(LONG, "acknowledgements", async || count <= self.acknowledged.load(Ordering::Relaxed)).await;
    }
}

/// As what it is found, and the body; one in 20 is no JSON.
fn one_body(sensor: usize, nth: usize) -> (String, String) {
    let id = format!("{sensor}.{nth}");
    match (sensor + nth) % 20 {
        7 => (format!("no json {id}"), format!("no json {id}")),
        _ => {
            let body = json!({ "id": id, "value": nth as f64 }).to_string();
            (format!("{id} hall-{} {sensor}", sensor % 7), body)
        }
    }
}

async fn sensors(world: &World) -> (Arc<Sensors>, Vec<JoinHandle<BTreeMap<String, Published>>>) {
    let sensors = Arc::new(Sensors::default());
    let mut publishing = Vec::new();
    for number in 0..SENSORS {
        let publisher = world.mosquitto.publisher(&format!("sensor-{number}")).await;
        publishing.push(tokio::spawn(sensors.clone().publish(publisher, number)));
    }
    (sensors, publishing)
}

async fn subscribed(world: &World) -> RunningPipeline {
    let mut running = world.run().start();
    running.wait_for_line("subscribed", LONG).await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hundred_sensors_published_is_there_once_over_kills() {
    for version in ["5", "3.1.1"] {
        once_over_kills(version).await;
    }
}

async fn once_over_kills(version: &'static str) {
    let mut world = World::new(version).await;
    world.meets_its_broker().await;
    let (sensors, publishing) = sensors(&world).await;
    let mut resumed = 0;
    for kill in 1..=KILLS {
        let mut running = subscribed(&world).await;
        sensors.reach(kill * BETWEEN).await;
        if kill == 3 {
            // While messages are on their way.
            world.mosquitto.stop().await;
            world.mosquitto.start_again().await;
            running.wait_for_line("the broker is back", LONG).await;
            sensors.reach(sensors.acknowledged.load(Ordering::Relaxed) + BETWEEN / 2).await;
        }
        let killed = running.kill().await;
        resumed += usize::from(killed.stderr.contains("again in"));
    }
    sensors.reach((KILLS + 2) * BETWEEN).await;
    sensors.is_over.store(true, Ordering::Relaxed);
    let mut published = BTreeMap::new();
    for sensor in publishing {
        published.extend(sensor.await.unwrap());
    }
    // A broker that is killed has what it has written down: all of it, for nobody publishes any more.
    world.mosquitto.save().await;
    world.mosquitto.kill().await;
    world.mosquitto.start_again().await;
    let running = subscribed(&world).await;
    let acknowledged = sensors.acknowledged.load(Ordering::Relaxed);
    world.settles(&published.iter().map(|(row, of)| (row.clone(), of.acknowledged)).collect()).await;
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    resumed += usize::from(finished.stderr.contains("again in"));
    assert!(0 < resumed, "no run had anything to compute again");
    let [rows, dead] = world.found().await;
    assert!(50 < dead.len(), "{} dead letters", dead.len());
    for (row, Published { acknowledged, unknown }) in &published {
        let table = if row.starts_with("no json") { &dead } else { &rows };
        let found = table.get(row).copied().unwrap_or(0);
        assert!(
            (*acknowledged..=acknowledged + unknown).contains(&found),
            "version {version}, `{row}`: {found} of {acknowledged} and {unknown} unknown"
        );
    }
    let strangers = rows.keys().chain(dead.keys()).filter(|row| !published.contains_key(*row)).count();
    assert_eq!(strangers, MEETING, "rows that nobody has published");
    let twice = published.values().filter(|of| of.acknowledged == 2 && of.unknown == 0).count();
    assert!(100 < twice, "{twice} bodies were published twice on purpose");
    let unknown: usize = published.values().map(|of| of.unknown).sum();
    println!("version {version}: {acknowledged} acknowledged, {unknown} unknown, {resumed} runs computed again");
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_reach_a_pipeline_whose_plugins_are_shared_libraries() {
    let world = World::new("5").await;
    let mut running = world.run_by(pipeline_slim()).args(everything_loaded()).start();
    running.wait_for_line("subscribed", LONG).await;
    let mut publisher = world.mosquitto.publisher("sensor").await;
    assert!(publisher.publish("plant/hall-1/1", "{\"id\":\"a\",\"value\":1}").await);
    assert!(publisher.publish("plant/hall-1/one", "{\"id\":\"b\",\"value\":1}").await);
    let b = "{\"id\":\"b\",\"value\":1}".to_owned();
    world.settles(&BTreeMap::from([("a hall-1 1".into(), 1), (b, 1)])).await;
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    let [rows, dead] = world.found().await;
    assert_eq!(rows, BTreeMap::from([("a hall-1 1".to_owned(), 1)]));
    assert_eq!(dead, BTreeMap::from([("{\"id\":\"b\",\"value\":1}".to_owned(), 1)]));
}
