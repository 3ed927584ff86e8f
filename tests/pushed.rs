//! A hundred clients post rows while the pipeline is killed: what was answered is there, once for each time it was sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::exact::query;
use crate::production::{everything_loaded, pipeline, pipeline_slim};
use pipeline_services::{Database, PipelineRun, Postgres, eventually, free_address};
use reqwest::Client;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(120);
const CLIENTS: usize = 100;
const KILLS: usize = 6;
/// Answers between two kills.
const ANSWERS: usize = 300;

/// A pipeline that rows are posted to.
struct Pushed {
    folder: TempDir,
    database: Database,
    address: String,
}

impl Pushed {
    async fn new() -> Self {
        // For the clients; it is set already when another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = Postgres::shared().await.create_database().await;
        Pushed { folder: tempfile::tempdir().unwrap(), database, address: free_address().to_string() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pipeline.yaml")
    }

    fn run(&self) -> PipelineRun {
        self.run_by(pipeline())
    }

    fn run_by(&self, binary: PipelineRun) -> PipelineRun {
        let text = format!(
            "
name: pushed
key: [client]
state: state
commit_every: 5ms
checkpoint_every: 200ms
sources:
  readings:
    type: http_push
    listen: '{}'
    token: '${{TOKEN}}'
    format: json
    schema: {{ id: string, client: string, value: float, delivery: {{ type: string, meta: key, nullable: true }} }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, window: 10 }}
sinks:
  local: {{ type: sqlite, inputs: readings, path: rows.db, table: rows }}
  remote: {{ type: postgres, inputs: spikes, url: '${{DATABASE_URL}}', table: rows }}
",
            self.address
        );
        std::fs::write(self.file(), text).unwrap();
        let run = binary.args(["run"]).args([self.file()]).args(["--dashboard", "off"]);
        run.env("TOKEN", TOKEN).env("DATABASE_URL", self.database.url())
    }

    /// How often each row is in each table, and each line that is no JSON among the dead letters.
    async fn found(&self) -> [BTreeMap<String, usize>; 3] {
        let local = query(&self.folder.path().join("rows.db"), "SELECT id FROM rows").await.concat();
        let remote = self.database.query("SELECT id FROM rows").await;
        let remote = remote.into_iter().map(|row| row[0].clone().expect("an id"));
        let dead = dead_letters(self.folder.path()).await;
        [counted(local), counted(remote), counted(dead)]
    }
}

const TOKEN: &str = "a-token-of-the-test";

/// The bytes of each dead letter of a pipeline in this folder.
pub async fn dead_letters(folder: &Path) -> Vec<String> {
    let bytes = "SELECT CAST(bytes AS TEXT) FROM pipeline_state_dead_letters";
    query(&folder.join("state").join("log.db"), bytes).await.concat()
}

/// How often each is there.
pub fn counted(ids: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    ids.into_iter().for_each(|id| *counted.entry(id).or_default() += 1);
    counted
}

/// What a client knows of a line it has sent.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    /// How often it was told that it is on disk.
    answered: usize,
    /// How often it was not told whether it is.
    unknown: usize,
}

/// What all clients share.
struct Clients {
    url: String,
    is_over: AtomicBool,
    answers: AtomicUsize,
    unknown: AtomicUsize,
}

impl Clients {
    /// Posts until it is over; says what it knows of each line.
    async fn post(self: Arc<Self>, number: usize) -> BTreeMap<String, Sent> {
        let (client, mut sent) = (Client::new(), BTreeMap::new());
        for nth in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let lines: Vec<(String, String)> = (0..1 + nth % 5).map(|line| one_line(number, nth, line)).collect();
            // Now and then somebody sends again what was answered.
            for _ in 0..1 + usize::from(nth % 4 == 3) {
                self.deliver(&client, &format!("{number}-{nth}"), &lines, &mut sent).await;
            }
        }
        sent
    }

    /// Sends until there is an answer.
    async fn deliver(&self, client: &Client, key: &str, lines: &[(String, String)], sent: &mut BTreeMap<String, Sent>) {
        let body: String = lines.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect();
        loop {
            let request = client.post(&self.url).bearer_auth(TOKEN).header("Idempotency-Key", key).body(body.clone());
            let status = request.timeout(LONG).send().await.map(|answer| answer.status().as_u16());
            let of_each = |sent: &mut BTreeMap<String, Sent>, change: fn(&mut Sent)| {
                lines.iter().for_each(|(id, _)| change(sent.entry(id.clone()).or_default()));
            };
            match status {
                Ok(200) => {
                    of_each(sent, |sent| sent.answered += 1);
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // Nothing was taken.
                Ok(429 | 503) => {}
                Err(error) if error.is_connect() => {}
                Ok(504) | Err(_) => {
                    of_each(sent, |sent| sent.unknown += 1);
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                }
                Ok(status) => panic!("the answer is {status}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A line with what it is known by; one in 20 is no JSON.
fn one_line(client: usize, nth: usize, line: usize) -> (String, String) {
    let id = format!("{client}.{nth}.{line}");
    match (nth + line) % 20 {
        7 => (format!("no json {id}"), format!("no json {id}")),
        _ => (id.clone(), json!({ "id": id, "client": client.to_string(), "value": nth as f64 }).to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hundred_clients_were_answered_is_there_once_over_kills() {
    let pushed = Pushed::new().await;
    let clients = Arc::new(Clients {
        url: format!("http://{}/", pushed.address),
        is_over: AtomicBool::new(false),
        answers: AtomicUsize::new(0),
        unknown: AtomicUsize::new(0),
    });
    let posting: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(clients.clone().post(number))).collect();
    let mut resumed = 0;
    for kill in 1..=KILLS {
        let mut running = pushed.run().start();
        let enough = async || !running.is_running() || kill * ANSWERS <= clients.answers.load(Ordering::Relaxed);
        eventually(LONG, "answers before the kill", enough).await;
        let killed = running.kill().await;
        resumed += usize::from(killed.stderr.contains("again in"));
    }
    let running = pushed.run().start();
    eventually(LONG, "answers after the last kill", async || {
        (KILLS + 1) * ANSWERS <= clients.answers.load(Ordering::Relaxed)
    })
    .await;
    clients.is_over.store(true, Ordering::Relaxed);
    let mut sent = BTreeMap::new();
    for client in posting {
        sent.extend(client.await.unwrap());
    }
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    resumed += usize::from(finished.stderr.contains("again in"));
    let unknown = clients.unknown.load(Ordering::Relaxed);
    assert!(0 < resumed && 0 < unknown, "{resumed} runs had anything to compute again, {unknown} requests no answer");
    let [local, remote, dead] = pushed.found().await;
    assert!(local == remote, "the sinks differ");
    assert!(dead.len() > 50, "{} dead letters", dead.len());
    for (id, Sent { answered, unknown }) in &sent {
        let table = if id.starts_with("no json") { &dead } else { &local };
        let found = table.get(id).copied().unwrap_or(0);
        assert!(
            (*answered..=answered + unknown).contains(&found),
            "`{id}`: {found} of {answered} and {unknown} unknown"
        );
    }
    let strangers = local.keys().chain(dead.keys()).filter(|id| !sent.contains_key(*id)).count();
    assert_eq!(strangers, 0, "rows that nobody has sent");
    let twice = sent.values().filter(|sent| sent.answered == 2 && sent.unknown == 0).count();
    assert!(100 < twice, "{twice} lines were sent twice on purpose");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_what_was_answered() {
    let pushed = Pushed::new().await;
    stops_well(&pushed, pushed.run()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_shared_library_it_is_the_same() {
    let pushed = Pushed::new().await;
    stops_well(&pushed, pushed.run_by(pipeline_slim()).args(everything_loaded())).await;
}

async fn stops_well(pushed: &Pushed, run: PipelineRun) {
    let mut running = run.start();
    running.wait_for_line("rows can be posted to", LONG).await;
    let (client, url) = (Client::new(), format!("http://{}/", pushed.address));
    let request = |body: &str| client.post(&url).bearer_auth(TOKEN).body(body.to_owned()).send();
    let answer = request("{\"id\":\"1\",\"client\":\"a\",\"value\":1}").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["accepted"], 1);
    assert_eq!(client.post(&url).body("{}").send().await.unwrap().status(), 401);
    running.terminate();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_eq!(pushed.found().await[0], BTreeMap::from([("1".to_owned(), 1)]));
    // With `--once` nobody is listened to, and nothing is lost.
    let once = run.args(["--once"]).start().wait_with_timeout(LONG).await;
    once.assert_code(0);
}
