//! One process that runs the engine: it can be killed, stopped and continued, and its clock can be set.
//!
//! A process that was killed is not taken apart. It never gets another answer, so it does nothing any more; only what
//! it had sent already may still arrive.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use pipeline_runtime::run::Clock;
use pipeline_stage::{Result, StageError, Timestamp};
use pipeline_testkit::Random;
use tokio::sync::{Notify, watch};

use crate::crash::How;
use crate::draw::number_of;
use crate::weather::{Fate, Kind};
use crate::world::{Mode, State, World};

/// One process.
pub struct Process {
    /// Tells it from others; rises with each.
    pub number: u32,
    /// Of the pipeline file it runs.
    pub version: u32,
    /// Where it is.
    pub world: Arc<World>,
    /// Tells the engine to stop.
    pub stop: watch::Sender<bool>,
    /// There is something new in the group.
    pub news: Notify,
    life: Mutex<Life>,
    continued: Notify,
    skew_micros: AtomicI64,
    calls: Mutex<BTreeMap<u64, u64>>,
}

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Everything.
    Runs,
    /// Nothing now.
    Paused,
    /// Nothing ever again.
    Dead,
}

/// 2025-01-01, when the simulation begins.
const BEGIN_MICROS: i64 = 1_735_689_600_000_000;

/// Longer than the engine waits for a delivery.
const HANGS: Duration = Duration::from_secs(12);

impl Process {
    /// A process that is about to start.
    pub fn new(world: Arc<World>, number: u32, version: u32, skew_micros: i64) -> Arc<Self> {
        Arc::new(Process {
            number,
            version,
            world,
            stop: watch::channel(false).0,
            news: Notify::new(),
            life: Mutex::new(Life::Runs),
            continued: Notify::new(),
            skew_micros: AtomicI64::new(skew_micros),
            calls: Mutex::default(),
        })
    }

    /// What it can do.
    pub fn life(&self) -> Life {
        *self.life.lock().expect("no holder panics")
    }

    /// It never does anything again.
    pub fn kill(&self) {
        *self.life.lock().expect("no holder panics") = Life::Dead;
        self.world.state().stopped(self.number);
        self.world.note(|| format!("process {} is killed", self.number));
    }

    /// It does nothing until it is continued.
    pub fn pause(self: &Arc<Self>, millis: u64) {
        if !self.set(Life::Runs, Life::Paused) {
            return;
        }
        self.world.note(|| format!("process {} is stopped for {millis} ms", self.number));
        {
            let mut state = self.world.state();
            state.count("pauses");
            state.stopped(self.number);
        }
        let process = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            process.resume();
        });
    }

    /// It goes on.
    pub fn resume(&self) {
        if self.set(Life::Paused, Life::Runs) {
            self.world.note(|| format!("process {} is continued", self.number));
            self.continued.notify_waiters();
        }
    }

    fn set(&self, from: Life, to: Life) -> bool {
        let mut life = self.life.lock().expect("no holder panics");
        let is_from = *life == from;
        if is_from {
            *life = to;
        }
        is_from
    }

    /// Waits while it is stopped; for ever when it is dead.
    pub async fn running(&self) {
        loop {
            let continued = self.continued.notified();
            match self.life() {
                Life::Runs => return,
                Life::Paused => continued.await,
                Life::Dead => pending().await,
            }
        }
    }

    /// Its clock is set.
    pub fn jump(&self, micros: i64) {
        self.skew_micros.fetch_add(micros, Ordering::Relaxed);
        self.world.note(|| format!("the clock of process {} is set by {} s", self.number, micros / 1_000_000));
        self.world.state().count("clock jumps");
    }

    /// A generator for the next call of somebody.
    pub fn draw(&self, who: &str) -> Random {
        let who = number_of(who);
        let mut calls = self.calls.lock().expect("no holder panics");
        let nth = calls.entry(who).or_default();
        *nth += 1;
        self.world.draw(&[u64::from(self.number), who, *nth])
    }

    /// A call to the world: it takes a while, may fail, and the process may die on the way there or back.
    pub async fn call<T>(
        self: &Arc<Self>,
        kind: Kind,
        who: &str,
        effect: impl FnOnce(&mut State) -> Result<T> + Send,
    ) -> Result<T> {
        let mut random = self.draw(who);
        self.running().await;
        let (fate, latency) = self.world.fate(kind, &mut random);
        self.arrive(kind, who, latency, &mut random).await;
        if fate == Fate::Fails {
            self.world.note(|| format!("{}: {who} fails", self.number));
            return Err(StageError::transient("it is down"));
        }
        self.world.note(|| format!("{}: {who}", self.number));
        let result = effect(&mut self.world.state());
        self.come_back(fate, who, latency, &mut random).await?;
        // What a task builds with the answer belongs to the process, too.
        CURRENT.set(Some(self.clone()));
        result
    }

    async fn arrive(self: &Arc<Self>, kind: Kind, who: &str, latency: u64, random: &mut Random) {
        let driver = &self.world.driver;
        driver.turn(driver.now() + latency, random.bits()).await;
        let is_local = kind == Kind::File || (kind == Kind::Store && self.world.mode == Mode::Folder);
        let was_sent = !is_local && random.once_in(2);
        match self.life() {
            Life::Runs => self.crash(who, false, random).await,
            _ if was_sent => self.world.state().count("calls of stopped processes"),
            _ => {}
        }
        if !was_sent {
            self.running().await;
        }
        self.world.state().mix(driver.now(), who, u64::from(self.number));
    }

    async fn come_back(self: &Arc<Self>, fate: Fate, who: &str, latency: u64, random: &mut Random) -> Result<()> {
        let driver = &self.world.driver;
        if self.life() == Life::Runs {
            self.crash(who, true, random).await;
        }
        if fate == Fate::Hangs {
            tokio::time::sleep(HANGS).await;
        } else if random.once_in(2) {
            driver.turn(driver.now() + latency, random.bits()).await;
        }
        self.running().await;
        if fate != Fate::LosesAnswer {
            return Ok(());
        }
        self.world.note(|| format!("{}: {who}, but the answer is lost", self.number));
        self.world.state().count("lost answers");
        Err(StageError::transient("the answer was lost"))
    }

    async fn crash(self: &Arc<Self>, who: &str, is_after: bool, random: &mut Random) {
        let Some(how) = self.world.state().crashes(who, is_after) else { return };
        match how {
            How::Kill => {
                self.world.state().count("kills");
                self.kill();
            }
            How::PowerCut => self.world.cut_power(self, random),
            How::Pause(millis) => self.pause(millis),
        }
        self.running().await;
    }
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        let since = self.world.driver.now() as i64 * 1_000;
        Timestamp(BEGIN_MICROS + since + self.skew_micros.load(Ordering::Relaxed))
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

/// The process whose engine is building its stages.
///
/// # Errors
/// When none is: a plan is made, and its stages are never called.
pub fn current() -> Result<Arc<Process>> {
    CURRENT.with_borrow(Clone::clone).ok_or_else(|| StageError::fatal("there is no process to run in"))
}

/// A future that runs in a process: what it builds belongs to it.
pub struct InProcess<F> {
    /// Which one.
    pub process: Arc<Process>,
    /// What it does.
    pub future: Pin<Box<F>>,
}

impl<F: Future> Future for InProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let before = CURRENT.replace(Some(self.process.clone()));
        let polled = self.future.as_mut().poll(context);
        CURRENT.set(before);
        polled
    }
}
