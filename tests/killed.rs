//! Killed at random moments, over servers that are killed too: the tables are those of an undisturbed run.
//!
//! `make kills` does it on a large scale. `PIPELINE_TEST_KILLS`, `PIPELINE_TEST_KILL_ROWS` and
//! `PIPELINE_TEST_KILL_SEED` say how often, over how many rows, and at which moments.

mod chance;
mod fault;
mod tables;
mod tally;
mod world;

use std::time::{Duration, Instant};

use self::chance::Chance;
use self::fault::Fault;
use self::tally::{FIRST_ROW_WITHIN, Tally};
use self::world::{Kind, Subject, World, world};
use crate::production::Binary;
use pipeline_services::{Finished, RunningPipeline, eventually};

/// For what takes seconds on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(120);

/// A start takes about as long: some kills come before it reads, some in the middle of what it computes again.
const START: Duration = Duration::from_millis(800);

/// Long enough for clients to notice, shorter than a session.
const AWAY: Duration = Duration::from_secs(3);

/// A setting of these tests.
fn setting(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`, it must be a whole number")),
        Err(_) => otherwise,
    }
}

fn kills() -> usize {
    setting("PIPELINE_TEST_KILLS", 10)
}

/// Enough to meet each fault: most moments are those of the others.
fn some_kills() -> usize {
    (kills() / 2).min(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_to_postgresql() {
    kills_do_not_matter(Kind::Postgres, Binary::Full, kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_to_sqlite() {
    kills_do_not_matter(Kind::Sqlite, Binary::Full, kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_with_state_in_postgresql() {
    kills_do_not_matter(Kind::PostgresAlone, Binary::Full, some_kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_with_everything_loaded() {
    kills_do_not_matter(Kind::Postgres, Binary::Slim, some_kills()).await;
}

async fn kills_do_not_matter(kind: Kind, binary: Binary, kills: usize) {
    let mut world = world().await;
    let what = format!("{kind:?}, {binary:?}");
    let mut chance = Chance::new(&what);
    let began = Instant::now();
    let subject = world.subject(kind, binary).await;
    let mut tally = Tally::default();
    for kill in 0..kills {
        let fault = Fault::of(kill, kills, kind);
        run_and_kill(&mut world, &subject, fault, kills - kill, &mut chance, &mut tally).await;
    }
    let repeats = world.assert_undisturbed(kind, &subject).await;
    println!("{what}: {} rows, {tally}, {repeats} alerts repeated, {:.0?} in all", world.rows, began.elapsed());
    tally.assert_that_it_was_a_test(kills, kind);
    assert!(repeats <= kills, "{repeats} alerts were repeated, at most one for each of {kills} kills may be");
}

/// Starts the pipeline, lets it come to a random place, and kills it there.
async fn run_and_kill(
    world: &mut World,
    subject: &Subject,
    fault: Fault,
    kills_left: usize,
    chance: &mut Chance,
    tally: &mut Tally,
) {
    let tables = &subject.tables;
    let (rows, newest) = (tables.rows().await, tables.newest().await);
    let step = world.rows.saturating_sub(rows) as f64 / (kills_left + 1) as f64;
    let target = newest + (step * chance.fraction()) as usize;
    let started = Instant::now();
    let mut running = subject.run().start();
    let mut first_row = None;
    if fault == Fault::EarlyKill {
        // The first one comes before anything is read, however fast the machine is.
        let moment = chance.up_to(if tally.before_first_row == 0 { START / 10 } else { START });
        eventually(LONG, "the moment of the kill", async || moment <= started.elapsed()).await;
    } else if rows < world.rows {
        moves_beyond(subject, &mut running, newest).await;
        first_row = Some(started.elapsed());
        moves_beyond(subject, &mut running, target).await;
    }
    let killed = match fault.is_of_a_server() {
        true => kill_about(fault, world, subject, running, chance, tally).await,
        false => running.kill().await,
    };
    tables.are_left_alone().await;
    tally.kills += 1;
    tally.in_mid_work += usize::from(tables.rows().await < world.rows);
    tally.before_first_row += usize::from(tables.newest().await == newest);
    tally.replayed += usize::from(killed.stderr.contains("again in"));
    tally.first_rows.extend(first_row);
    let (kill, after) = (tally.kills, started.elapsed());
    println!("kill {kill} after {after:.1?}, {fault:?}: {rows} rows before, first row after {first_row:.1?}");
    if first_row.is_some_and(|after| FIRST_ROW_WITHIN < after) {
        println!("it was slow:\n{}", killed.stderr);
    }
}

async fn moves_beyond(subject: &Subject, running: &mut RunningPipeline, row: usize) {
    eventually(LONG, &format!("row {row} in the table"), async || {
        assert!(running.is_running(), "the run has ended: {}", running.stderr());
        row < subject.tables.newest().await
    })
    .await;
}

/// Kills it while a server is away, or once it goes on after that.
async fn kill_about(
    fault: Fault,
    world: &mut World,
    subject: &Subject,
    mut running: RunningPipeline,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Finished {
    let seen = subject.tables.newest().await;
    fault.begin(world).await;
    let began = Instant::now();
    let away = chance.up_to(AWAY);
    eventually(LONG, "the end of the fault", async || away <= began.elapsed()).await;
    if chance.is_heads() {
        let killed = running.kill().await;
        fault.end(world, tally).await;
        return killed;
    }
    fault.end(world, tally).await;
    if subject.tables.rows().await < world.rows {
        moves_beyond(subject, &mut running, seen).await;
    }
    running.kill().await
}
