//! What can be seen of a fleet from outside while it runs: the state store, ten times a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use pipeline_services::Database;

use super::Fleet;

/// Often enough to measure seconds, seldom enough to be no load.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longer than a partition takes to move in good order.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// Looks at the tasks and remembers how they went on.
pub struct Watch {
    looked: Instant,
    tasks: BTreeMap<String, Task>,
    /// By process, how many offsets were read and committed while it owned them.
    pub shares: BTreeMap<&'static str, i64>,
    /// How often a task was claimed.
    pub claims: i64,
    /// Each time that a task has not gone on for longer than most: when it went on, and for how long it had not.
    pub pauses: Vec<(String, SystemTime, Duration)>,
}

struct Task {
    generation: i64,
    epoch: i64,
    offset: i64,
    went_on: Instant,
    longest_pause: Duration,
}

impl Watch {
    /// Nothing is seen yet.
    pub fn new() -> Self {
        Watch { looked: Instant::now(), tasks: BTreeMap::new(), shares: BTreeMap::new(), claims: 0, pauses: Vec::new() }
    }

    /// Looks, if it is time to. A task has gone on when an epoch more is in the log: only an owner can have done that.
    pub async fn look(&mut self, fleet: &Fleet) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let found = tasks(&fleet.production.database).await;
        let owners = owners(fleet);
        for (name, generation, epoch, offset) in found {
            let now = Instant::now();
            let first = Task { generation: 0, epoch, offset: 0, went_on: now, longest_pause: Duration::ZERO };
            let task = self.tasks.entry(name.clone()).or_insert(first);
            self.claims += generation - task.generation;
            task.generation = generation;
            if let Some(owner) = owners.get(&name) {
                *self.shares.entry(owner).or_default() += offset - task.offset;
                task.offset = offset;
            }
            let pause = now - task.went_on;
            task.longest_pause = task.longest_pause.max(pause);
            if task.epoch < epoch {
                if LONG_PAUSE < pause {
                    self.pauses.push((name, SystemTime::now(), pause));
                }
                (task.epoch, task.went_on) = (epoch, now);
            }
        }
    }

    /// The longest that any task has not gone on, by name.
    pub fn longest_pause(&self) -> (&str, Duration) {
        let pauses = self.tasks.iter().map(|(name, task)| (name.as_str(), task.longest_pause));
        pauses.max_by_key(|(_, pause)| *pause).unwrap_or(("no task", Duration::ZERO))
    }

    /// Whether every task has an epoch more than at this moment.
    pub fn all_went_on_since(&self, moment: Instant) -> bool {
        self.tasks.values().all(|task| moment < task.went_on)
    }

    /// How many tasks there are.
    pub fn n_tasks(&self) -> usize {
        self.tasks.len()
    }
}

/// Each task's generation, last epoch, and the offset up to which its rows are in `sensor_data`.
async fn tasks(database: &Database) -> Vec<(String, i64, i64, i64)> {
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename IN ('pipeline_state_tasks', 'pipeline_marks')";
    if database.count(tables).await < 2 {
        return Vec::new();
    }
    let sql = "SELECT t.task, t.generation::text, t.epoch::text, COALESCE(m.positions::json->>'readings', '0')
               FROM pipeline_state_tasks t LEFT JOIN pipeline_marks m ON m.task = t.task AND m.sink = 'history'";
    let rows = database.query(sql).await.into_iter().map(|row| {
        let mut cells = row.into_iter().map(|cell| cell.expect("no null"));
        let name = cells.next().expect("four columns");
        let mut number = || cells.next().expect("four columns").parse().expect("a number");
        (name, number(), number(), number())
    });
    rows.collect()
}

/// By task, the process that says that it owns it. One that is stopped may not know that it does not any more.
fn owners(fleet: &Fleet) -> BTreeMap<String, &'static str> {
    let mut owners = BTreeMap::new();
    let mut members: Vec<_> = fleet.members.iter().collect();
    members.sort_by_key(|(_, member)| !member.is_paused);
    for (name, member) in members {
        let Some(running) = &member.running else { continue };
        let text = running.stderr();
        let Some((_, owned)) = text.lines().rev().find_map(|line| line.split_once("partitions, owns ")) else {
            continue;
        };
        let names = owned.split_once(": ").map_or("", |(_, names)| names);
        owners.extend(names.split(", ").map(|task| (task.to_owned(), *name)));
    }
    owners
}
