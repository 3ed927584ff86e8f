//! The simulated state store: two files in memory with an explicit fsync, and every call on its way for a while.
//!
//! It answers as the real one does, step by step; `tests/store.rs` compares the two.

mod checkpoints;
mod journal;
mod log;
mod outbox;
mod record;
mod state;

use std::sync::Arc;

use pipeline_stage::Result;
use pipeline_testkit::Random;

use crate::process::Process;
use crate::weather::Kind;
use crate::world::{Mode, State};
use checkpoints::Checkpoints;
use journal::Journal;
use log::Log;

pub use outbox::Waiting;

/// The two files: log and checkpoints. They outlive the processes.
#[derive(Default)]
pub struct Files {
    /// Tasks, epochs, outboxes, dead letters.
    pub log: Journal<Log>,
    /// Checkpoints.
    pub checkpoints: Journal<Checkpoints>,
    n_states: u64,
}

impl Files {
    /// What was not synced may be gone; says how many transactions are.
    pub fn cut_power(&mut self, random: &mut Random) -> u64 {
        self.log.cut_power(random) + self.checkpoints.cut_power(random)
    }

    /// Whether an epoch was logged for good.
    pub fn is_durable(&self, task: &str, epoch: u64) -> bool {
        self.log.on_disk().tasks.get(task).is_some_and(|task| Some(epoch) <= task.epoch)
    }

    /// Where the durable checkpoint of a task goes on.
    pub fn durable_position(&self, task: &str) -> Option<u64> {
        let (_, checkpoint) = self.checkpoints.on_disk().newest.get(task)?;
        checkpoint.positions.first().map(|(_, position)| position.offset)
    }

    /// Where what is known of a task on the disk ends: in the log, or in a checkpoint that has replaced it.
    pub fn logged_position(&self, task: &str) -> Option<u64> {
        let entries = self.log.on_disk().above(task, None);
        let segments = entries.iter().flat_map(|entry| &entry.segments).map(|segment| segment.until.offset);
        segments.max().max(self.durable_position(task))
    }

    /// Asks for all dead letters to be processed again; says how many there are.
    pub fn request_replays(&mut self) -> u64 {
        self.log.write(|log| log.letters.values_mut().for_each(|letter| letter.is_requested = true));
        self.log.sync();
        self.log.seen().letters.len() as u64
    }

    /// Everything is gone; what there was.
    pub fn lose(&mut self) -> Self {
        let n_states = self.n_states;
        std::mem::replace(self, Files { n_states, ..Files::default() })
    }

    fn new_state_id(&mut self) -> String {
        self.n_states += 1;
        format!("state-{:05}", self.n_states)
    }
}

/// The store as one process sees it.
pub struct SimulatedStore {
    process: Arc<Process>,
}

impl SimulatedStore {
    /// For a process.
    pub fn new(process: Arc<Process>) -> Self {
        SimulatedStore { process }
    }

    fn mode(&self) -> Mode {
        self.process.world.mode
    }

    async fn read<R: Send>(&self, who: &str, read: impl FnOnce(&Log) -> R + Send) -> Result<R> {
        self.process.call(Kind::Store, who, |state| Ok(read(state.store.log.seen()))).await
    }

    async fn read_checkpoints<R: Send>(&self, who: &str, read: impl FnOnce(&Checkpoints) -> R + Send) -> Result<R> {
        self.process.call(Kind::Store, who, |state| Ok(read(state.store.checkpoints.seen()))).await
    }

    /// Writes to the log file and returns once that is on the disk.
    async fn write<R: Send>(&self, who: &str, write: impl Fn(&mut Log) -> R + Send + 'static) -> Result<R> {
        let result = self.step(who, |state| Ok(state.store.log.write(write)), |state| state.store.log.sync()).await?;
        Ok(result)
    }

    /// Writes to the checkpoint file and returns once that is on the disk.
    async fn write_checkpoints(&self, who: &str, write: impl Fn(&mut Checkpoints) + Send + 'static) -> Result<()> {
        let apply = |state: &mut State| {
            state.store.checkpoints.write(write);
            Ok(())
        };
        self.step(who, apply, |state| state.store.checkpoints.sync()).await
    }

    /// A write and its fsync. A database of its own does both on its side; to a folder they are two steps, between
    /// which power may be cut.
    async fn step<R: Send>(
        &self,
        who: &str,
        apply: impl FnOnce(&mut State) -> Result<R> + Send,
        sync: impl FnOnce(&mut State) + Send,
    ) -> Result<R> {
        if self.mode() == Mode::Shared {
            let both = |state: &mut State| {
                let result = apply(state)?;
                sync(state);
                Ok(result)
            };
            return self.process.call(Kind::Store, who, both).await;
        }
        let result = self.process.call(Kind::Store, who, apply).await?;
        let synced = |state: &mut State| {
            sync(state);
            Ok(())
        };
        self.process.call(Kind::Store, &format!("fsync: {who}"), synced).await?;
        Ok(result)
    }
}
