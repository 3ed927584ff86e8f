//! The simulated world: what outlives the processes, and what is known of all that happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_stage::Timestamp;
use pipeline_testkit::Random;

use crate::crash::{Crash, How};
use crate::draw::{draw, number_of};
use crate::driver::Driver;
use crate::file::Disk;
use crate::group::Group;
use crate::input::Input;
use crate::mailbox::Mailbox;
use crate::process::Process;
use crate::store::Files;
use crate::table::Tables;
use crate::weather::{Fate, Kind, Weather};

/// Where the state is, and so how many processes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A folder on the machine of the one process: power may be cut.
    Folder,
    /// A database that several processes share.
    Shared,
}

/// One simulated world.
pub struct World {
    /// What everything is drawn from.
    pub seed: u64,
    /// Folder or database.
    pub mode: Mode,
    /// What there is to read.
    pub input: Arc<Input>,
    /// Who goes next.
    pub driver: Driver,
    state: Mutex<State>,
    processes: Mutex<Vec<Arc<Process>>>,
}

/// What changes.
pub struct State {
    /// What fails how often.
    pub weather: Weather,
    /// The state store's files.
    pub store: Files,
    /// The transactional sinks.
    pub tables: Tables,
    /// The files of the machine.
    pub disk: Disk,
    /// The other side of the outbox.
    pub mailbox: Mailbox,
    /// Who owns which partition.
    pub group: Group,
    /// What the source keeps.
    pub streams: Streams,
    /// What happened to epochs and owners.
    pub record: Record,
    /// When the next process stops in the middle of a call.
    pub crash: Option<Crash>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// By process, how often it was stopped or has ended.
    stops: BTreeMap<u32, u64>,
    /// What must not be.
    pub failures: Vec<String>,
    /// What happened, in words; only when somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// A hash of all turns: two runs of a seed have the same.
    pub fingerprint: u64,
}

/// What the source keeps and knows.
#[derive(Debug, Default)]
pub struct Streams {
    /// By partition: rows before it are gone, because somebody said that they are never read again.
    pub forgotten: BTreeMap<u32, u64>,
    /// By partition: how often it was opened without a position. `latest` is later each time.
    pub opened_anew: BTreeMap<u32, u32>,
    /// The start that an undisturbed run is given.
    pub fixed_starts: Option<Vec<u64>>,
}

/// What is known of epochs and owners.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// By task and epoch, what the log took.
    pub logged: BTreeMap<(String, u64), Logged>,
    /// By sink, task and epoch, the rows that were offered.
    pub offers: BTreeMap<(String, String, u64), Vec<String>>,
    /// By task, who claimed it: generation and process.
    pub claims: BTreeMap<String, Vec<(u64, u32)>>,
    /// By sink and task, the newest generation that claimed it there.
    pub sink_claims: BTreeMap<(String, String), u64>,
    /// By task, where its first row stands.
    pub starts: BTreeMap<String, u64>,
}

/// What the log took of one epoch.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The version of the pipeline file.
    pub version: u32,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl World {
    /// A world before anything has happened.
    pub fn new(seed: u64, mode: Mode, input: Arc<Input>, weather: Weather, is_traced: bool) -> Arc<Self> {
        let state = State {
            weather,
            store: Files::default(),
            tables: Tables::default(),
            disk: Disk::default(),
            mailbox: Mailbox::default(),
            group: Group::default(),
            streams: Streams::default(),
            record: Record::default(),
            crash: None,
            counts: BTreeMap::new(),
            stops: BTreeMap::new(),
            failures: Vec::new(),
            trace: is_traced.then(Vec::new),
            fingerprint: 0,
        };
        Arc::new(World {
            seed,
            mode,
            input,
            driver: Driver::new(),
            state: Mutex::new(state),
            processes: Mutex::default(),
        })
    }

    /// What changes; never held while waiting.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A process begins.
    pub fn add(&self, process: &Arc<Process>) {
        self.processes.lock().expect("no holder panics").push(process.clone());
    }

    /// All processes there ever were; the place of each is its number.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.processes.lock().expect("no holder panics").clone()
    }

    /// It is over: processes and world hold each other.
    pub fn end(&self) {
        self.processes.lock().expect("no holder panics").clear();
    }

    /// There is something new in the group for these processes.
    pub fn tell(&self, processes: impl IntoIterator<Item = u32>) {
        let all = self.processes.lock().expect("no holder panics");
        for process in processes.into_iter().filter_map(|number| all.get(number as usize)) {
            process.news.notify_one();
        }
    }

    /// A generator for one purpose.
    pub fn draw(&self, parts: &[u64]) -> Random {
        draw(self.seed, parts)
    }

    /// Writes a line of the trace, if somebody reads it.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let now = self.driver.now();
        if let Some(trace) = &mut self.state().trace {
            trace.push(format!("{now:>7} ms  {}", text()));
        }
    }

    /// What becomes of a call, and how long it is on its way.
    pub fn fate(&self, kind: Kind, random: &mut Random) -> (Fate, u64) {
        let state = self.state();
        (state.weather.fate(kind, random), 1 + random.below(state.weather.latency.max(1) as usize) as u64)
    }

    /// The machine of the process loses power.
    pub fn cut_power(&self, process: &Process, random: &mut Random) {
        process.kill();
        let mut state = self.state();
        let lost = state.store.cut_power(random) + state.disk.cut_power(random);
        state.forget_lost_epochs();
        *state.counts.entry("power cuts").or_default() += 1;
        *state.counts.entry("unsynced writes lost").or_default() += lost;
    }
}

impl State {
    /// Something happened.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Something happened that must not.
    pub fn fail(&mut self, what: String) {
        if self.failures.len() < 12 && !self.failures.contains(&what) {
            self.failures.push(what);
        }
    }

    /// A process was stopped, or has ended.
    pub fn stopped(&mut self, process: u32) {
        *self.stops.entry(process).or_default() += 1;
    }

    /// How often a process was stopped or has ended.
    pub fn stops(&self, process: u32) -> u64 {
        self.stops.get(&process).copied().unwrap_or(0)
    }

    /// A turn was taken.
    pub fn mix(&mut self, now: u64, who: &str, number: u64) {
        let bits = self.fingerprint ^ now.rotate_left(32) ^ number_of(who) ^ number;
        self.fingerprint = Random::new(bits).bits();
    }

    /// What was logged and is gone was never answered: another epoch of the number is no other cut.
    fn forget_lost_epochs(&mut self) {
        let State { record, store, .. } = self;
        record.logged.retain(|(task, epoch), _| store.is_durable(task, *epoch));
    }

    /// Whether the crash that was ordered comes now.
    pub fn crashes(&mut self, who: &str, is_after: bool) -> Option<How> {
        let crash = self.crash.as_mut().filter(|crash| who.contains(crash.during))?;
        if !is_after {
            crash.in_calls = crash.in_calls.saturating_sub(1);
        }
        if crash.in_calls != 0 || crash.is_after != is_after {
            return None;
        }
        self.crash.take().map(|crash| crash.how)
    }
}
