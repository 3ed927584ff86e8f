//! Disks that are full or read-only, and state folders that somebody else uses: words, and nothing corrupted.

use std::path::Path;
use std::time::Duration;

use crate::exact::{anomalies_in, from_file, query};
use crate::production::{Motes, Production};
use pipeline_services::{PipelineRun, SmallDisk, eventually};

const LONG: Duration = Duration::from_secs(120);

/// Enough for files to be made, too little for the state or the rows of a run.
const LITTLE: u64 = 512 << 10;

/// Small epochs and frequent checkpoints, so that the epoch log and the checkpoints have to grow.
const SMALL_EPOCHS: [&str; 4] = ["--set", "commit_every=5ms", "--set", "checkpoint_every=300ms"];

async fn assert_sound(database: &Path) {
    assert_eq!(query(database, "PRAGMA integrity_check").await, [["ok"]], "{}", database.display());
}

/// Waits until a run says that the disk is full, makes room, and lets it end.
async fn has_room_later(run: PipelineRun, disk: &mut SmallDisk, words: &str) {
    disk.fill(LITTLE);
    let mut running = disk.put(run).start();
    let line = running.wait_for_line("trying again until it works", LONG).await;
    assert!(line.contains(words), "{line}");
    disk.make_room();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    assert!(finished.stderr.contains("back after"), "{}", finished.stderr);
    finished.assert_books_balance();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_state_is_waited_for() {
    let motes = Motes::load();
    let production = Production::start(4).await;
    production.replay(&motes.file).await.assert_code(0);
    let mut disk = SmallDisk::new(64);
    let run = production.run(&["--once"]).args(SMALL_EPOCHS).env("STATE", disk.path().join("state"));
    has_room_later(run, &mut disk, "there is no room left on the disk of the state").await;

    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
    assert_eq!(production.slack.requests().len(), motes.anomalies.len(), "each alert once");
    let copy = production.folder.path().join("copy");
    disk.copy_out("state", &copy);
    assert_sound(&copy.join("log.db")).await;
    assert_sound(&copy.join("checkpoints.db")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_at_the_start_is_waited_for() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let mut disk = SmallDisk::new(64);
    disk.fill(0);
    let run = from_file(&motes, folder.path()).env("DATABASE", folder.path().join("iot.db"));
    let mut running = disk.put(run.env("STATE", disk.path().join("state"))).start();
    let line = running.wait_for_line("trying again until it works", LONG).await;
    assert!(line.contains("there is no room left on the disk of the state"), "{line}");
    disk.make_room();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    let said: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("full")).collect();
    assert_eq!(said.len(), 1, "once, and in our words");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_sinks_is_waited_for() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let mut disk = SmallDisk::new(64);
    let run = from_file(&motes, folder.path()).args(SMALL_EPOCHS).env("DATABASE", disk.path().join("out/iot.db"));
    has_room_later(run, &mut disk, "there is no room left on the disk of").await;

    let copy = folder.path().join("copy");
    disk.copy_out("out", &copy);
    let database = copy.join("iot.db");
    assert_sound(&database).await;
    let count: i64 = query(&database, "SELECT COUNT(*) FROM sensor_data").await[0][0].parse().unwrap();
    assert_eq!(count as usize, motes.rows);
    motes.assert_same(&anomalies_in(&database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_a_file_is_waited_for() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let mut disk = SmallDisk::new(64);
    let archive =
        format!("sinks.history={{ type: file, inputs: readings, path: {}/out/rows.jsonl }}", disk.path().display());
    let run = from_file(&motes, folder.path()).args(SMALL_EPOCHS).args(["--set", &archive]);
    let run = run.env("DATABASE", folder.path().join("iot.db"));
    has_room_later(run, &mut disk, "No space left on device").await;

    let copy = folder.path().join("copy");
    disk.copy_out("out", &copy);
    let rows = |path: &Path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (written, read) = (rows(&copy.join("rows.jsonl")), rows(&motes.file));
    assert_eq!(written.len(), read.len());
    let value = |row: &serde_json::Value| (row["sensor_id"].clone(), row["value"].as_f64());
    assert!(
        written.iter().zip(&read).all(|(written, read)| value(written) == value(read)),
        "in the order they were read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_refused_in_words() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(64);
    let state = disk.path().join("state");
    let run = || {
        disk.put(from_file(&motes, folder.path()).env("DATABASE", folder.path().join("iot.db")).env("STATE", &state))
    };
    disk.remount("ro");
    let refused = run().start().wait().await;
    refused.assert_code(1);
    let words = format!("the state folder `{}` cannot be made: Read-only file system", state.display());
    assert!(refused.stderr.contains(&words), "{}", refused.stderr);
    disk.remount("rw");
    run().start().wait().await.assert_code(0);
    disk.remount("ro");
    let refused = run().start().wait().await;
    refused.assert_code(1);
    let words = format!("the state folder `{}` cannot be written: Read-only file system", state.display());
    assert!(refused.stderr.contains(&words), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_has_one_user() {
    let motes = Motes::load();
    let production = Production::start(2).await;
    production.replay(&motes.file).await.assert_code(0);
    let running = production.run(&SMALL_EPOCHS).start();
    eventually(LONG, "rows before the others come", async || 0 < production.count().await).await;

    let export = production.folder.path().join("export").display().to_string();
    let others: [&[&str]; 5] = [
        &["run", "--once"],
        &["state", "reset", "--stage", "spikes"],
        &["state", "rename", "spikes", "spikes"],
        &["state", "export", "--out", &export],
        &["state", "import", "--in", &export],
    ];
    std::fs::write(&export, "").unwrap();
    for other in others {
        let (command, args) = other.split_first().unwrap();
        let refused = production.command(command, args).start().wait().await;
        assert_ne!(refused.code, Some(0), "{other:?}");
        let words = "is in use by another process; a folder has one user, `state:` can be a PostgreSQL URL to share it";
        assert!(refused.stderr.contains(words), "{other:?}: {}", refused.stderr);
    }
    // A lock that outlives its process would stop the next one.
    running.kill().await;
    let finished = production.run(&["--once"]).start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
}
