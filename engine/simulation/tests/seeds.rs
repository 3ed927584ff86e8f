//! Nothing lost, nothing twice: seeds of the simulation, and proof that it would notice.

use std::thread::available_parallelism;

use pipeline_simulation::bugs;
use pipeline_simulation::seeds::{Totals, run, run_many};

fn threads() -> usize {
    available_parallelism().map_or(2, usize::from)
}

/// What must have happened in 500 seeds, or they have shown nothing: how often at least.
const MUST_HAVE_HAPPENED: &[(&str, u64)] = &[
    ("kills", 300),
    ("power cuts", 50),
    ("unsynced writes lost", 20),
    ("pauses", 200),
    ("takeovers", 1_000),
    ("fenced appends", 15),
    ("fenced commits", 8),
    ("epochs offered again", 500),
    ("lost answers", 500),
    ("calls of stopped processes", 100),
    ("checkpoints", 2_000),
    ("checkpoints of changes", 100),
    ("checkpoints of all state", 100),
    ("rows forgotten", 1_000),
    ("rows acknowledged", 1_000),
    ("files changed", 100),
    ("partitions moved", 400),
    ("partitions taken", 100),
    ("letters processed again", 50),
    ("states lost", 20),
    ("fenced checkpoints", 10),
    ("refused commits", 500),
    ("alerts", 1_000),
    ("alerts repeated", 20),
    ("digests", 20),
    ("clock jumps", 100),
];

fn assert_that_it_happened(totals: &Totals) {
    let missing: Vec<String> = MUST_HAVE_HAPPENED
        .iter()
        .map(|(what, least)| (what, least, totals.counts.get(what).copied().unwrap_or(0)))
        .filter(|(_, least, found)| found < *least)
        .map(|(what, least, found)| format!("{found} {what}, {least} would show something"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn five_hundred_seeds_are_as_if_nothing_had_happened() {
    let totals = run_many(0..500, None, threads(), 1);
    if let Some((seed, outcome)) = totals.failed.first() {
        panic!("seed {seed}: {:#?}", outcome.differences);
    }
    assert_eq!(totals.seeds, 500);
    assert_that_it_happened(&totals);
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 1_000..1_040 {
        let first = run(seed, None, true);
        let second = std::thread::spawn(move || run(seed, None, true)).join().expect("it does not panic");
        let differs = first.trace.iter().zip(&second.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Where to begin to look for bugs that few seeds find, so that this takes no minutes; `--bugs` begins at 0.
const RARE: &[(&str, u64)] = &[("no-fence-in-claim", 590)];

#[test]
fn every_deliberate_bug_is_found() {
    assert!(12 <= bugs::ALL.len());
    for (name, bug, words) in bugs::ALL {
        let from = RARE.iter().find(|(rare, _)| rare == name).map_or(0, |(_, from)| *from);
        let totals = run_many(from..from + 1_000, Some(*bug), threads(), 1);
        assert!(!totals.failed.is_empty(), "`{name}` is not found in 1,000 seeds: {words}");
    }
}
