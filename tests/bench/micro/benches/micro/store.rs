//! The end of an epoch in the state store of a folder: its entry of the log, and one sync to the disk.

use divan::Bencher;
use pipeline_runtime::store::{Append, EpochEntry, Segment, open};
use pipeline_stage::{Position, Timestamp};
use tokio::runtime::Runtime;

/// A task alone, and as many as share a sync where a topic has that many partitions.
#[divan::bench(args = [1, 4, 16])]
fn log_of_tasks(bencher: Bencher<'_, '_>, tasks: usize) {
    let runtime = Runtime::new().expect("threads can be had");
    // Not where temporary files are: that may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    let place = folder.path().to_str().expect("a path of letters");
    let store = runtime.block_on(open(place, "bench")).expect("a store is made");
    let tasks: Vec<(String, u64)> = (0..tasks)
        .map(|task| {
            let task = task.to_string();
            let claimed = runtime.block_on(store.claim(&task)).expect("nobody else has it");
            (task, claimed.generation)
        })
        .collect();
    let mut epoch = 0;
    bencher.bench_local(|| {
        epoch += 1;
        let appends: Vec<Append> = tasks.iter().map(|(task, generation)| append(task, *generation, epoch)).collect();
        let appended = runtime.block_on(store.append(&appends)).expect("there is room on the disk");
        assert!(appended.iter().all(|appended| *appended), "the tasks have this owner");
    });
}

/// The end of an epoch of a full batch: no anomaly, no dead letter.
fn append(task: &str, generation: u64, epoch: u64) -> Append {
    let rows = 50_000;
    let until = Position::at(epoch * rows);
    let segment = Segment { source: "readings".into(), until, rows, kept: Vec::new() };
    Append {
        task: task.into(),
        generation,
        entry: EpochEntry {
            epoch,
            ended_at: Timestamp(epoch as i64),
            segments: vec![segment],
            rows,
            hash: epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            stored: Vec::new(),
        },
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        alerts: Vec::new(),
        evidence: Vec::new(),
        marks: Vec::new(),
    }
}
