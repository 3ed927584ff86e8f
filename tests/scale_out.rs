//! The same pipeline in several processes: partitions move with their state, whoever stops, dies, hangs or comes.

use std::time::{Duration, Instant};

use pipeline_services::eventually;
use pipeline_testkit::Random;

use crate::fleet::{Fleet, LONG, SESSION, TAKES_OVER_WITHIN, Watch};

const N_PARTITIONS: i32 = 12;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Rows a second: what three processes built for debugging can take on a small machine.
const RATE: u64 = 800;

/// The last events happen so long before the end, so that the pauses they make are seen.
const AT_THE_END: Duration = Duration::from_secs(8);

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Kill,
    Pause,
    Resume,
    Stop,
    Start,
}

async fn happens(fleet: &mut Fleet, name: &'static str, event: Event) {
    match event {
        Event::Kill => fleet.kill(name).await,
        Event::Pause => fleet.pause(name),
        Event::Resume => fleet.resume(name),
        Event::Stop => drop(fleet.stop(name).await),
        Event::Start => fleet.start(name),
    }
}

/// Three processes that share the partitions.
async fn three_processes() -> Fleet {
    let mut fleet = Fleet::new(N_PARTITIONS).await;
    for name in NAMES {
        fleet.start(name);
    }
    let group = fleet.settled(&NAMES).await;
    assert!(group.members.values().all(|owned| owned.len() == 4), "{group:?}");
    fleet
}

/// Waits until `until`, with an eye on the tasks.
async fn pass(fleet: &mut Fleet, watch: &mut Watch, until: Instant) {
    eventually(LONG, "the next event", async || {
        watch.look(fleet).await;
        fleet.assert_that_none_has_ended();
        until <= Instant::now()
    })
    .await;
}

/// All are in a group again, have read everything, and end as they are told.
async fn all_end_well(fleet: &mut Fleet, n_rows: u64) {
    for name in NAMES {
        if fleet.member(name).is_paused {
            fleet.resume(name);
        }
        if let Some(running) = &mut fleet.restarted(name).running {
            // Before that it cannot be stopped in good order: it has nothing yet.
            running.wait_for_line("state ", LONG).await;
        }
    }
    fleet.until_all_is_done(n_rows).await;
    for name in NAMES {
        let finished = fleet.stop(name).await;
        finished.assert_books_balance();
    }
}

/// Plays events to three processes while rows are written, and compares. A process is taken away only when all tasks go
/// on: a partition that loses two owners, one after the other, rightly waits for two sessions.
async fn play(events: Vec<(Duration, &'static str, Event)>, lasts: Duration) {
    let mut fleet = three_processes().await;
    let n_rows = lasts.as_secs() * RATE;
    let load = fleet.load(n_rows, RATE);
    let mut watch = Watch::new();
    eventually(LONG, "all tasks to begin", async || {
        watch.look(&fleet).await;
        watch.n_tasks() == N_PARTITIONS as usize
    })
    .await;
    let (began, mut before, mut n_lost) = (Instant::now(), Duration::ZERO, 0);
    for (at, name, event) in events {
        pass(&mut fleet, &mut watch, Instant::now() + at.saturating_sub(before)).await;
        before = at;
        if matches!(event, Event::Kill | Event::Pause | Event::Stop) {
            // What is seen now may have been written before the last event.
            let after = Instant::now() + Duration::from_secs(1);
            eventually(LONG, "all tasks to go on", async || {
                watch.look(&fleet).await;
                watch.all_went_on_since(after)
            })
            .await;
            n_lost += usize::from(event != Event::Stop);
        }
        if lasts < began.elapsed() + AT_THE_END {
            break;
        }
        println!("{:5.1} s  {event:?} {name}: {:?}", began.elapsed().as_secs_f64(), fleet.group().await);
        happens(&mut fleet, name, event).await;
    }
    pass(&mut fleet, &mut watch, began + lasts.saturating_sub(Duration::from_secs(2))).await;
    assert_shares(&watch);
    load.wait_with_timeout(LONG).await.assert_code(0);
    all_end_well(&mut fleet, n_rows).await;
    fleet.assert_as_undisturbed(n_rows, n_lost).await;
}

/// No task has waited for longer than it may, and no process was idle.
fn assert_shares(watch: &Watch) {
    let (task, pause) = watch.longest_pause();
    println!("the longest pause: {:.1} s, of task {task}; {} claims", pause.as_secs_f64(), watch.claims);
    let n_read: i64 = watch.shares.values().sum();
    for (name, read) in &watch.shares {
        println!("{name} read {read} offsets, {} %", 100 * read / n_read.max(1));
    }
    assert!(pause <= SESSION + TAKES_OVER_WITHIN, "task {task} has not gone on for {pause:?}: {:#?}", watch.pauses);
    assert!(watch.shares.len() == 3 && watch.shares.values().all(|read| n_read / 20 < *read), "{:?}", watch.shares);
}

const fn at(seconds: u64, name: &'static str, event: Event) -> (Duration, &'static str, Event) {
    (Duration::from_secs(seconds), name, event)
}

/// Events at random, for so long: kills, stops for up to two sessions, orderly ends, and starts some seconds later. One
/// process is always left alone.
fn random_events(seed: u64, lasts: Duration) -> Vec<(Duration, &'static str, Event)> {
    let mut random = Random::new(seed);
    let mut millis = |from: u64, to: u64| Duration::from_millis(from + random.below((to - from) as usize) as u64);
    let mut events = Vec::new();
    let mut busy_until = [Duration::ZERO; NAMES.len()];
    let mut now = Duration::from_secs(1);
    while now < lasts {
        now += millis(500, 4_000);
        let idle: Vec<usize> = (0..NAMES.len()).filter(|idx| busy_until[*idx] < now).collect();
        if idle.len() < 2 {
            continue;
        }
        let idx = idle[millis(0, 1_000).as_millis() as usize % idle.len()];
        let (event, back, pause) = match millis(0, 3).as_millis() {
            0 => (Event::Kill, Event::Start, millis(500, 6_000)),
            1 => (Event::Pause, Event::Resume, millis(1_000, 2 * SESSION.as_millis() as u64)),
            _ => (Event::Stop, Event::Start, millis(500, 6_000)),
        };
        events.extend([(now, NAMES[idx], event), (now + pause, NAMES[idx], back)]);
        busy_until[idx] = now + pause + Duration::from_secs(2);
    }
    events.sort_by_key(|(at, ..)| *at);
    events
}

/// One of each, or, with `make scale-out`, random ones for as long as the environment says.
fn events() -> (Vec<(Duration, &'static str, Event)>, Duration) {
    if let Ok(seconds) = std::env::var("PIPELINE_TEST_SCALE_SECONDS") {
        let lasts = Duration::from_secs(seconds.parse().expect("`PIPELINE_TEST_SCALE_SECONDS` is a number"));
        let seed = std::env::var("PIPELINE_TEST_SCALE_SEED").ok();
        let seed = seed.map_or(std::process::id().into(), |text| text.parse().expect("a seed is a number"));
        println!("random events of seed {seed}");
        return (random_events(seed, lasts), lasts);
    }
    let events = vec![
        at(3, "a", Event::Kill),
        at(6, "a", Event::Start),
        // For longer than its session lasts.
        at(14, "b", Event::Pause),
        at(24, "b", Event::Resume),
        at(28, "c", Event::Stop),
        at(31, "c", Event::Start),
    ];
    (events, Duration::from_secs(45))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_are_as_one() {
    let (events, lasts) = events();
    play(events, lasts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_moves_in_good_order_takes_its_state_along() {
    let n_rows = 20 * RATE;
    let mut fleet = Fleet::new(N_PARTITIONS).await;
    fleet.start("a");
    fleet.settled(&["a"]).await;
    let load = fleet.load(n_rows, RATE);
    let mut watch = Watch::new();
    let began = Instant::now();
    eventually(LONG, "all tasks to go on", async || {
        watch.look(&fleet).await;
        watch.n_tasks() == N_PARTITIONS as usize && watch.all_went_on_since(began)
    })
    .await;
    fleet.start("b");
    fleet.settled(&["a", "b"]).await;
    fleet.start("c");
    fleet.settled(&NAMES).await;
    fleet.stop("a").await;
    fleet.settled(&["b", "c"]).await;
    load.wait_with_timeout(LONG).await.assert_code(0);
    all_end_well(&mut fleet, n_rows).await;
    for finished in fleet.members.values().flat_map(|member| &member.ended) {
        let is_calm = !finished.stderr.contains("again in") && !finished.stderr.contains("WARN");
        assert!(is_calm, "something was computed again\n{}", finished.stderr);
    }
    fleet.assert_as_undisturbed(n_rows, 0).await;
}
