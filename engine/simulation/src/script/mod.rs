//! What happens in one seed: processes come, die, stop, move and change their file, then all is well and one finishes.

mod ending;
mod moves;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline_runtime::plan::RunSettings;
use pipeline_runtime::run::{Run, Summary};
use pipeline_stage::Result;
use pipeline_testkit::Random;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::crash::draw_crash;
use crate::pipeline::{Settings, plan};
use crate::process::{InProcess, Life, Process};
use crate::store::SimulatedStore;
use crate::world::{Mode, World};

/// In the time of the simulation: a last run that takes longer hangs.
const MOST: Duration = Duration::from_secs(2 * 60 * 60);

/// One seed.
pub struct Script {
    world: Arc<World>,
    random: Random,
    settings: Settings,
    version: u32,
    running: Vec<Running>,
    /// Dead processes, and when the group notices.
    gone: BTreeMap<u32, u64>,
}

struct Running {
    process: Arc<Process>,
    run: JoinHandle<Result<Summary>>,
}

/// Starts a process that runs the engine.
fn start(world: &Arc<World>, version: u32, skew_micros: i64, settings: &Settings, is_last: bool) -> Running {
    let process = Process::new(world.clone(), world.processes().len() as u32, version, skew_micros);
    world.add(&process);
    world.note(|| format!("process {} starts with version {version} of the file", process.number));
    let plan = plan(world.mode, version, settings);
    let run_settings = RunSettings { once: is_last, ..RunSettings::default() };
    let runs = process.clone();
    let future = async move {
        let (store, stop) = (Arc::new(SimulatedStore::new(runs.clone())), runs.stop.subscribe());
        let ended = async { Run::on(plan, run_settings, store, runs.clone()).await?.run(stop).await }.await;
        // What the engine has left running ends with the process.
        runs.kill();
        ended
    };
    let run = tokio::spawn(InProcess { process: process.clone(), future: Box::pin(future) });
    Running { process, run }
}

/// Runs the pipeline to its end with nothing in its way.
pub async fn undisturbed(world: &Arc<World>) {
    let all: Vec<u32> = (0..world.input.partitions.len() as u32).collect();
    world.state().group.join(0, &all, true);
    let running = start(world, 0, 0, &Settings::calm(), true);
    let ended = tokio::select! {
        ended = timeout(MOST, running.run) => ended.ok(),
        () = world.driver.run() => None,
    };
    match ended {
        Some(Ok(Ok(_))) => {}
        other => panic!("the undisturbed run does not end well: {other:?}"),
    }
}

impl Script {
    /// A seed's script.
    pub fn new(world: Arc<World>) -> Self {
        let mut random = world.draw(&[7]);
        // Drawn apart: the seeds that came before there was a choice are what they were.
        let gives = if world.draw(&[8]).once_in(3) { "once" } else { "again" };
        let settings = Settings { gives, ..Settings::of(&mut random) };
        Script { world, random, settings, version: 0, running: Vec::new(), gone: BTreeMap::new() }
    }

    /// Plays it.
    pub async fn play(mut self) {
        let world = self.world.clone();
        tokio::select! {
            biased;
            () = world.driver.run() => world.state().fail("the simulation does not come to its end".into()),
            () = self.play_all() => {}
        }
    }

    async fn play_all(&mut self) {
        self.start();
        if self.world.mode == Mode::Shared {
            self.start();
        }
        let steps = 6 + self.random.below(18);
        for _ in 0..steps {
            sleep(Duration::from_millis(5 + self.random.below(90) as u64)).await;
            self.tend().await;
            self.act().await;
        }
        self.heal().await;
        self.finish(self.version).await;
        if self.world.mode == Mode::Folder && self.random.once_in(5) {
            self.lose_state().await;
        }
    }

    /// Starts a process of the present version, which gets what nobody has.
    fn start(&mut self) {
        let skew = match self.world.mode {
            Mode::Folder => 0,
            Mode::Shared => self.random.below(8_000_000) as i64 - 4_000_000,
        };
        let number = self.world.processes().len() as u32;
        let free = self.world.state().group.unowned(self.n_partitions());
        self.world.state().group.join(number, &free, false);
        if self.world.mode == Mode::Shared {
            self.balance(number);
        }
        let running = start(&self.world, self.version, skew, &self.settings, false);
        self.running.push(running);
    }

    fn n_partitions(&self) -> u32 {
        self.world.input.partitions.len() as u32
    }

    /// The group notices who is gone; what has ended is looked at; there is always somebody who runs.
    async fn tend(&mut self) {
        let (ended, running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|running| running.run.is_finished());
        self.running = running;
        for one in ended {
            self.judge(one).await;
        }
        let now = self.world.driver.now();
        for one in self.running.extract_if(.., |one| one.process.life() == Life::Dead) {
            self.gone.entry(one.process.number).or_insert(now + 20 + self.random.below(200) as u64);
        }
        let noticed: Vec<u32> = self.gone.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        for number in noticed {
            self.gone.remove(&number);
            self.hand_over(number);
        }
        let is_early = self.world.mode == Mode::Shared && self.random.once_in(3);
        if self.running.is_empty() && (self.gone.is_empty() || is_early) {
            self.start();
        }
        self.replace_stopped();
        if self.random.once_in(4) {
            let told = self.world.state().group.stop_waiting();
            self.world.tell(told);
        }
    }

    /// A run has ended: told to. That somebody else has its tasks is no reason to end.
    async fn judge(&mut self, one: Running) {
        let number = one.process.number;
        self.gone.insert(number, self.world.driver.now());
        one.process.kill();
        let words = match one.run.await {
            Ok(Ok(summary)) => {
                self.world.note(|| format!("process {number} has ended: {:?}", summary.end));
                return;
            }
            Ok(Err(error)) => error.chain(),
            Err(error) => error.to_string(),
        };
        self.world.note(|| format!("process {number} has ended: {words}"));
        self.world.state().fail(format!("process {number} ended: {words}"));
    }

    fn alive(&self) -> Vec<u32> {
        let alive = self.running.iter().filter(|one| one.process.life() != Life::Dead);
        alive.map(|one| one.process.number).filter(|number| self.world.state().group.has(*number)).collect()
    }

    fn pick(&mut self, from: &[u32]) -> Option<u32> {
        if from.is_empty() { None } else { Some(from[self.random.below(from.len())]) }
    }

    async fn act(&mut self) {
        let alive = self.alive();
        let Some(number) = self.pick(&alive) else { return };
        let Some(process) = self.world.processes().get(number as usize).cloned() else { return };
        let is_shared = self.world.mode == Mode::Shared;
        match self.random.below(12) {
            0..4 => {
                let crash = draw_crash(&mut self.random, self.world.mode);
                self.world.state().crash.get_or_insert(crash);
            }
            4 => {
                self.world.state().count("kills");
                process.kill();
            }
            5 if is_shared => self.stall(&process),
            5 => process.pause(20 + self.random.below(800) as u64),
            6..9 if is_shared && alive.len() < 3 => self.start(),
            6..9 if is_shared => self.move_one(&alive),
            6 | 7 => self.change_file(&process).await,
            8 => drop(process.stop.send_replace(true)),
            9 => process.jump((self.random.below(1_200) as i64 - 600) * 1_000_000),
            10 => {
                let asked = self.world.state().store.request_replays();
                self.world.note(|| format!("somebody asks for {asked} dead letters to be processed again"));
            }
            11 if is_shared => self.change_file(&process).await,
            _ => {}
        }
    }

    /// The file is changed, and the process started again with it; others may go on with the former one.
    async fn change_file(&mut self, process: &Arc<Process>) {
        if self.version == 2 {
            return;
        }
        self.version += 1;
        self.world.state().count("files changed");
        match self.random.once_in(2) {
            true => process.kill(),
            false => drop(process.stop.send_replace(true)),
        }
    }
}
