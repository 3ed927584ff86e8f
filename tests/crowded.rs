//! Many connections to the dashboard: it takes some, and the pipeline goes on.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pipeline_services::{PipelineRun, RunningPipeline, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::exact::query;
use crate::production::{pipeline, repository};
use crate::scraped::{Dashboard, TEXT};

const LONG: Duration = Duration::from_secs(90);

/// The simulator into a folder of the test's own, with so many file descriptors at most.
fn run(folder: &Path, files: u32) -> PipelineRun {
    let file = repository().join("pipelines/iot.yaml");
    let run = pipeline().args(["run"]).args([file]).args(["--dashboard", "127.0.0.1:0"]);
    run.env("STATE", folder.join("state")).env("DATABASE", folder.join("iot.db")).with_files(files)
}

/// Connections on which nothing is asked; some may still wait for the operating system.
fn idle(dashboard: &Dashboard, count: usize) -> JoinSet<()> {
    let address = dashboard.url.strip_prefix("http://").expect("a URL");
    let connect = |_| {
        let address = address.to_owned();
        async move {
            let _idle = TcpStream::connect(address).await.expect("somebody listens");
            std::future::pending::<()>().await;
        }
    };
    (0..count).map(connect).collect()
}

async fn stored(folder: &Path) -> u64 {
    query(&folder.join("iot.db"), "SELECT count(*) FROM sensor_data").await[0][0].parse().expect("a number")
}

async fn ends_well(running: RunningPipeline) {
    running.interrupt();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
}

/// How many files a process has open.
fn files_of(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("a process").count()
}

#[tokio::test]
async fn a_thousand_idle_connections_leave_the_pipeline_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = run(folder.path(), 1_024).start();
    let dashboard = Dashboard::of(&mut running).await;
    eventually(LONG, "rows", async || 0 < dashboard.scrape(TEXT).await["messages_processed_total"] as u64).await;
    let files = files_of(running.id());
    let connections = idle(&dashboard, 1_000);
    eventually(LONG, "connections", async || files + 250 < files_of(running.id())).await;
    assert!(files_of(running.id()) < files + 300, "{files} and {}", files_of(running.id()));
    // Whoever else asks waits for a place, which those that ask nothing lose after some time.
    let began = Instant::now();
    let address = dashboard.url.strip_prefix("http://").expect("a URL");
    let mut newcomer = TcpStream::connect(address).await.unwrap();
    let question = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    newcomer.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, newcomer.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.ends_with("alive\n"), "{answer}");
    println!("behind a thousand idle connections an answer comes after {:?}", began.elapsed());
    drop(connections);
    ends_well(running).await;
}

#[tokio::test]
async fn a_want_of_files_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    // Fewer than the dashboard takes connections.
    let mut running = run(folder.path(), 120).start();
    let dashboard = Dashboard::of(&mut running).await;
    eventually(LONG, "rows", async || 0 < dashboard.scrape(TEXT).await["messages_processed_total"] as u64).await;
    let connections = idle(&dashboard, 200);
    running.wait_for_line("the dashboard takes no connection", LONG).await;
    // The sink makes its table again, for which it has to open its file.
    query(&folder.path().join("iot.db"), "DROP TABLE sensor_data").await;
    running.wait_for_line("history: `", LONG).await;
    drop(connections);
    running.wait_for_line("history: back after", LONG).await;
    assert!(0 < stored(folder.path()).await);
    assert_eq!(dashboard.get("/health").await.1, "alive\n");
    ends_well(running).await;
}

/// How long the threads of a process with this name have run, in hundredths of a second.
fn time_of_threads(process: u32, name: &str) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let times = threads.filter_map(|thread| {
        // A thread may end while it is looked at.
        let path = thread.ok()?.path();
        let is_meant = std::fs::read_to_string(path.join("comm")).ok()?.trim() == name;
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // Behind the name, which is in parentheses, come the state, ten numbers, and the times of user and system.
        let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let time = numbers.get(11)?.parse::<u64>().ok()? + numbers.get(12)?.parse::<u64>().ok()?;
        Some(if is_meant { time } else { 0 })
    });
    times.sum()
}

/// How long rows take on average, of those that are committed in some seconds.
async fn latency(dashboard: &Dashboard, time: Duration) -> f64 {
    let begin = dashboard.scrape(TEXT).await;
    tokio::time::sleep(time).await;
    let end = dashboard.scrape(TEXT).await;
    let of = |name: &str| end[name] - begin[name];
    of("processing_latency_seconds_sum") / of("processing_latency_seconds_count")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_much_takes_no_thread_of_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), 1_024).args(["--set", "sources.readings.rate=2000 per second"]);
    let mut running = run.start();
    let dashboard = Dashboard::of(&mut running).await;
    eventually(LONG, "rows", async || 20_000.0 < dashboard.scrape(TEXT).await["messages_processed_total"]).await;
    let quiet = latency(&dashboard, Duration::from_secs(3)).await;
    let before = time_of_threads(running.id(), "dashboard");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let (from, until) = (now - 600_000, now + 600_000);
    let series = "%7B%22sensor_id%22%3A%22sensor-01%22%2C%22metric_type%22%3A%22temperature%22%7D";
    let question = format!("/api/series?detector=spikes&series={series}&from={from}&until={until}");
    let askers: Vec<_> = (0..30)
        .map(|_| {
            let (dashboard, question) = (dashboard.clone(), question.clone());
            tokio::spawn(async move {
                loop {
                    assert_eq!(dashboard.get(&question).await.0.as_u16(), 200);
                }
            })
        })
        .collect();
    let busy = latency(&dashboard, Duration::from_secs(6)).await;
    askers.iter().for_each(|asker| asker.abort());
    let took = time_of_threads(running.id(), "dashboard") - before;
    println!(
        "rows take {quiet:.3} s, and {busy:.3} s while 30 ask for series, for which {took} hundredths were needed"
    );
    assert!(50 < took, "the work is done by threads of the dashboard: {took} hundredths of a second");
    assert!(busy < 5.0 * quiet + 0.5, "rows take {quiet:.3} s, and {busy:.3} s while others ask");
    ends_well(running).await;
}
