//! `cargo run -p pipeline-simulation --release -- --seeds 10000`: runs seeds, and says what is wrong with the first
//! that differs.

#![allow(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use pipeline_simulation::bugs::{self, Bug};
use pipeline_simulation::seeds::{Totals, run, run_many};

/// Runs the engine in a simulated world in which everything fails, and compares its output with an undisturbed run.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Breaks the engine on purpose; `list` names the bugs.
    #[arg(long)]
    bug: Option<String>,
    /// Looks for each deliberate bug in turn, and says which seed has found it.
    #[arg(long)]
    bugs: bool,
    /// Prints all that happened in the seed that differs, not only the end of it; with `--seeds 1` of any seed.
    #[arg(long)]
    trace: bool,
    /// After how many seeds that differ to stop; the first is explained.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// How many threads; as many as there are cores when it is not said.
    #[arg(long)]
    threads: Option<usize>,
}

/// The end of a trace is what matters most.
const SHOWN: usize = 120;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if arguments.bugs {
        return find_all(&arguments, threads);
    }
    let bug = match arguments.bug.as_deref().map(|name| (name, bugs::named(name))) {
        None => None,
        Some((_, Some(bug))) => Some(bug),
        Some((name, None)) => {
            println!("no bug is called `{name}`; there is:");
            bugs::ALL.iter().for_each(|(name, _, words)| println!("  {name:<26} {words}"));
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let totals = run_many(arguments.from..arguments.from + arguments.seeds, bug, threads, arguments.failures);
    let seconds = began.elapsed().as_secs_f64();
    print_counts(&totals, seconds);
    for (seed, outcome) in totals.failed.iter().skip(1) {
        println!("seed {seed} differs, too: {}", outcome.differences[0]);
    }
    if let Some((seed, _)) = totals.failed.first() {
        explain(*seed, bug, arguments.trace);
        return ExitCode::FAILURE;
    }
    if arguments.trace && arguments.seeds == 1 {
        run(arguments.from, bug, true).trace.iter().for_each(|line| println!("{line}"));
    }
    println!("no difference");
    ExitCode::SUCCESS
}

fn print_counts(totals: &Totals, seconds: f64) {
    println!("{} seeds in {seconds:.1} s, {:.0} per second", totals.seeds, totals.seeds as f64 / seconds);
    for (what, count) in &totals.counts {
        println!("  {count:>10} {what}");
    }
}

/// Runs the seed once more, with a trace.
fn explain(seed: u64, bug: Option<Bug>, is_whole: bool) {
    let outcome = run(seed, bug, true);
    let skipped = if is_whole { 0 } else { outcome.trace.len().saturating_sub(SHOWN) };
    println!("\nwhat happened in seed {seed}{}:", if skipped == 0 { "" } else { " at last (`--trace` prints all)" });
    outcome.trace[skipped..].iter().for_each(|line| println!("  {line}"));
    println!("\nseed {seed} differs:");
    outcome.differences.iter().for_each(|words| println!("  {words}"));
    println!("\nagain: cargo run -p pipeline-simulation --release -- --from {seed} --seeds 1 --trace");
}

fn find_all(arguments: &Arguments, threads: usize) -> ExitCode {
    let mut is_weak = false;
    for (name, bug, words) in bugs::ALL {
        let seeds = arguments.from..arguments.from + arguments.seeds;
        match run_many(seeds, Some(*bug), threads, 1).failed.first() {
            Some((seed, outcome)) => println!("{name:<26} seed {seed:>5}: {}", outcome.differences[0]),
            None => {
                is_weak = true;
                println!("{name:<26} is NOT found in {} seeds ({words})", arguments.seeds);
            }
        }
    }
    if is_weak { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
