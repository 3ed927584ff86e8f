//! Runs seeds: one, or many on all cores.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Builder;

use crate::bugs::{self, Bug};
use crate::check::differences;
use crate::draw::draw;
use crate::input::Input;
use crate::script::Script;
use crate::weather::Weather;
use crate::world::{Mode, World};

/// How many different inputs there are; what an undisturbed run gives is computed once for each.
const VARIANTS: u64 = 24;

/// What became of one seed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Differences from an undisturbed run, in words; none is right.
    pub differences: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
    /// A hash of all that happened: the same in every run of the seed.
    pub fingerprint: u64,
}

/// Runs one seed.
pub fn run(seed: u64, bug: Option<Bug>, is_traced: bool) -> Outcome {
    bugs::put_in(bug);
    let outcome = catch_unwind(AssertUnwindSafe(|| run_here(seed, bug, is_traced)));
    bugs::put_in(None);
    outcome.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or(panic.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default();
        Outcome { differences: vec![format!("it panicked: {words}")], ..Outcome::default() }
    })
}

fn run_here(seed: u64, bug: Option<Bug>, is_traced: bool) -> Outcome {
    let mut random = draw(seed, &[3]);
    let mode = if random.once_in(2) { Mode::Folder } else { Mode::Shared };
    let variant = random.bits() % VARIANTS;
    let input = Arc::new(Input::new(variant, 3 + (variant % 3) as u32));
    let weather = Weather::of(&mut random);
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
    let world = runtime.block_on(async {
        let world = World::new(seed, mode, input.clone(), weather, is_traced);
        Script::new(world.clone()).play().await;
        world
    });
    drop(runtime);
    let outcome = judge(&world, variant, &input, bug);
    world.end();
    outcome
}

fn judge(world: &World, variant: u64, input: &Arc<Input>, bug: Option<Bug>) -> Outcome {
    let mut state = world.state();
    let mut found = std::mem::take(&mut state.failures);
    // After a run that ended badly the rest is not there: only the cause is worth reading.
    if !found.iter().any(|words| words.starts_with("the last run") || words.starts_with("the simulation")) {
        found.extend(differences(&state, variant, input, bug));
    }
    let mut counts = std::mem::take(&mut state.counts);
    counts.insert("turns", world.driver.n_turns());
    Outcome {
        differences: found,
        counts,
        trace: state.trace.take().unwrap_or_default(),
        fingerprint: state.fingerprint,
    }
}

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many were run.
    pub seeds: u64,
    /// The first seeds with differences, rising.
    pub failed: Vec<(u64, Outcome)>,
    /// The sums over all seeds.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs seeds on so many threads, until so many have failed.
pub fn run_many(seeds: Range<u64>, bug: Option<Bug>, threads: usize, most_failures: usize) -> Totals {
    let (next, is_over) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds.end <= seed {
                        return;
                    }
                    let outcome = run(seed, bug, false);
                    let mut totals = totals.lock().expect("no holder panics");
                    totals.seeds += 1;
                    for (what, count) in &outcome.counts {
                        *totals.counts.entry(what).or_default() += count;
                    }
                    if !outcome.differences.is_empty() {
                        totals.failed.push((seed, outcome));
                        is_over.fetch_or(most_failures <= totals.failed.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut totals = totals.into_inner().expect("no holder panics");
    totals.failed.sort_by_key(|(seed, _)| *seed);
    totals
}
