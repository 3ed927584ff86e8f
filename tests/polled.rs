//! A pipeline asks an API for a hundred stations while both are killed: no answer is there twice, and of each run only the
//! last ones may be missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::exact::query;
use crate::production::{everything_loaded, pipeline, pipeline_slim};
use crate::pushed::{counted, dead_letters};
use pipeline_services::{Finished, HttpReceiver, PipelineRun, Reply, Request, eventually, free_address};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(120);
const STATIONS: usize = 100;
const KILLS: usize = 6;
/// Answers between two kills.
const ANSWERS: usize = 400;
/// It must be seen nowhere.
pub const KEY: &str = "hush-4711-key";

/// What the API has given whole, by run and station, in the order of giving.
#[derive(Default)]
struct Api {
    given: Mutex<BTreeMap<(String, String), Vec<String>>>,
    n_given: AtomicUsize,
    asked: Mutex<BTreeMap<String, usize>>,
    /// It breaks off every connection.
    is_down: AtomicBool,
}

impl Api {
    fn answer(&self, request: &Request) -> Reply {
        let station = parameter(request, "station");
        let run = request.headers["x-run"].to_str().expect("text").to_owned();
        if parameter(request, "appid") != KEY || station == "99" {
            return Reply::status(404).body("no such station");
        }
        if self.is_down.load(Ordering::SeqCst) {
            return Reply::close();
        }
        let nth = {
            let mut asked = self.asked.lock().expect("nobody panics with it");
            let nth = asked.entry(station.clone()).or_default();
            *nth += 1;
            *nth
        };
        let id = format!("{run}.{station}.{nth}");
        let document = json!({ "id": id, "value": nth }).to_string();
        let id = match (station.parse::<usize>().expect("a number") + nth) % 16 {
            3 => return Reply::status(429).header("Retry-After", "0"),
            5 => return Reply::status(500),
            7 => return Reply::breaks_off(&document),
            9 => return Reply::status(204),
            11 => return Reply::close(),
            13 => format!("no json {id}"),
            _ => id,
        };
        let is_document = !id.starts_with("no json");
        let body = if is_document { document } else { id.clone() };
        self.given.lock().expect("nobody panics with it").entry((run, station)).or_default().push(id);
        self.n_given.fetch_add(1, Ordering::SeqCst);
        Reply::status(200).body(&body)
    }

    fn n_given(&self) -> usize {
        self.n_given.load(Ordering::SeqCst)
    }
}

/// What the query of a request says.
pub fn parameter(request: &Request, name: &str) -> String {
    let (_, query) = request.path.split_once('?').unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map_or_else(String::new, |(_, value)| value.replace('+', " "))
}

/// A server that can be ended with all its connections.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
    _receiver: HttpReceiver,
}

impl Server {
    async fn start(address: SocketAddr, api: &Arc<Api>) -> Self {
        let runtime = Runtime::new().unwrap();
        let api = api.clone();
        let receiver = runtime.spawn(HttpReceiver::start_at(address)).await.unwrap();
        receiver.answer_by(move |request| api.answer(request));
        Server { runtime, address, _receiver: receiver }
    }

    /// Ends it, and starts it anew after a while. What it has given has arrived by then: it breaks off what comes later.
    async fn restart(self, api: &Arc<Api>) -> Self {
        let address = self.address;
        api.is_down.store(true, Ordering::SeqCst);
        let before = api.n_given();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(api.n_given() - before < 20, "it is down");
        self.runtime.shutdown_background();
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.is_down.store(false, Ordering::SeqCst);
        Self::start(address, api).await
    }
}

/// A pipeline that asks it.
struct Polled {
    folder: TempDir,
    address: SocketAddr,
}

impl Polled {
    fn run(&self, binary: PipelineRun, name: &str) -> PipelineRun {
        let stations: serde_json::Map<String, Value> =
            (0..STATIONS).map(|number| (format!("s{number}"), json!({ "station": number.to_string() }))).collect();
        let text = format!(
            "
name: polled
key: [station]
state: state
commit_every: 5ms
checkpoint_every: 200ms
sources:
  readings:
    type: http
    url: http://{}/data
    query: {{ appid: '${{KEY}}' }}
    headers: {{ X-Run: '${{RUN}}' }}
    requests: {}
    every: 100ms
    timeout: 30s
    format: json
    schema: {{ id: string, station: {{ type: string, meta: key }}, value: float }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, window: 10 }}
sinks:
  rows: {{ type: sqlite, inputs: readings, path: rows.db, table: rows }}
  scores: {{ type: file, inputs: spikes, path: scores.jsonl }}
",
            self.address,
            Value::from(stations)
        );
        let file = self.folder.path().join("pipeline.yaml");
        std::fs::write(&file, text).unwrap();
        binary.args(["run"]).args([file]).args(["--dashboard", "off"]).env("KEY", KEY).env("RUN", name)
    }

    /// How often each row is in each sink, and each answer that is no JSON among the dead letters.
    async fn found(&self) -> [BTreeMap<String, usize>; 3] {
        let rows = query(&self.folder.path().join("rows.db"), "SELECT id FROM rows").await.concat();
        let scores = std::fs::read_to_string(self.folder.path().join("scores.jsonl")).unwrap();
        let scores =
            scores.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().into());
        [counted(rows), counted(scores.collect::<Vec<String>>()), counted(dead_letters(self.folder.path()).await)]
    }
}

/// The key is in no output, and in no file below the folder.
pub fn assert_hidden(folder: &Path, finished: &Finished) {
    assert!(!finished.stderr.contains(KEY) && !finished.stdout.contains(KEY), "{}", finished.stderr);
    let mut folders = vec![folder.to_path_buf()];
    let mut n_files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            n_files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let is_there = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            assert!(!is_there, "the key is in {}", path.display());
        }
    }
    assert!(2 < n_files);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_once_over_kills_and_only_the_last_of_a_run_may_be_missing() {
    let api = Arc::new(Api::default());
    let address = free_address();
    let mut server = Server::start(address, &api).await;
    let polled = Polled { folder: tempfile::tempdir().unwrap(), address };
    let mut resumed = 0;
    let mut runs = Vec::new();
    for kill in 1..=KILLS {
        let run = polled.run(pipeline(), &format!("run{kill}"));
        let (before, mut running) = (api.n_given(), run.start());
        let enough = async || !running.is_running() || before + ANSWERS <= api.n_given();
        eventually(LONG, "answers before the kill", enough).await;
        if kill == KILLS / 2 {
            server = server.restart(&api).await;
            let before = api.n_given();
            eventually(LONG, "answers after the server came back", async || before + ANSWERS <= api.n_given()).await;
        }
        let killed = running.kill().await;
        resumed += usize::from(killed.stderr.contains("again in"));
        runs.push(killed);
    }
    let (before, running) = (api.n_given(), polled.run(pipeline(), "last").start());
    eventually(LONG, "answers after the last kill", async || before + ANSWERS <= api.n_given()).await;
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    resumed += usize::from(finished.stderr.contains("again in"));
    assert!(0 < resumed, "no run had anything to compute again");
    runs.push(finished);
    // What the API said while it was down is not known.
    let back = "no row that it had given was lost";
    assert!(runs[KILLS / 2 - 1].stderr.contains(back), "{}", runs[KILLS / 2 - 1].stderr);
    for run in &runs {
        assert!(!run.stderr.contains("nothing was lost"), "{}", run.stderr);
        assert_hidden(polled.folder.path(), run);
        let told = run.stderr.matches("`s99`: `127.0.0.1").count();
        assert!((1..5).contains(&told), "the station that there is not was told {told} times\n{}", run.stderr);
    }
    server.runtime.shutdown_background();

    let [rows, scores, dead] = polled.found().await;
    assert!(rows == scores, "the sinks differ");
    let given = api.given.lock().unwrap();
    let (mut n_found, mut n_missing) = (0, 0);
    for ((run, station), ids) in &*given {
        let is_found = |id: &String| {
            let table = if id.starts_with("no json") { &dead } else { &rows };
            let count = table.get(id).copied().unwrap_or(0);
            assert!(count <= 1, "`{id}` is there {count} times");
            count == 1
        };
        let kept = ids.iter().take_while(|id| is_found(id)).count();
        let stragglers: Vec<&String> = ids[kept..].iter().filter(|id| is_found(id)).collect();
        assert!(stragglers.is_empty(), "{run}, station {station}: after {kept} of {ids:?} there is {stragglers:?}");
        (n_found, n_missing) = (n_found + kept, n_missing + ids.len() - kept);
    }
    println!("{n_found} answers found, {} of them no JSON; {n_missing} were lost with their run", dead.len());
    assert_eq!(n_found, rows.len() + dead.len(), "rows that nobody has given");
    assert!((KILLS + 1) * ANSWERS / 2 < n_found && 50 < dead.len(), "{n_found} found, {} dead", dead.len());
    // A kill costs what had not come to the disk: a round or two.
    assert!(n_missing < 3 * STATIONS * (KILLS + 1), "{n_missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_shared_library_it_is_the_same() {
    let api = Arc::new(Api::default());
    let server = Server::start(free_address(), &api).await;
    let polled = Polled { folder: tempfile::tempdir().unwrap(), address: server.address };
    let mut running = polled.run(pipeline_slim(), "slim").args(everything_loaded()).start();
    running.wait_for_line("`s99`: `127.0.0.1", LONG).await;
    eventually(LONG, "answers", async || ANSWERS <= api.n_given()).await;
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_hidden(polled.folder.path(), &finished);
    let [rows, scores, dead] = polled.found().await;
    assert!(rows == scores && 100 < rows.len() && !dead.is_empty(), "{} rows, {} dead", rows.len(), dead.len());
    server.runtime.shutdown_background();
}
