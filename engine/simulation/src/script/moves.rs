//! Partitions move: with and without asking, because somebody came, stopped, or is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Script;
use crate::draw::happens;
use crate::process::{Life, Process};
use crate::world::Mode;

impl Script {
    /// What a process had goes to the others; the last one's is kept for the next.
    pub(super) fn hand_over(&mut self, number: u32) {
        let had = self.world.state().group.leave(number);
        let alive = self.alive();
        for partition in had {
            if let Some(to) = self.pick(&alive) {
                self.world.state().group.give(partition, to);
                self.world.tell([to]);
            }
        }
    }

    /// The others are asked for some of their partitions, for a process that is new.
    pub(super) fn balance(&mut self, number: u32) {
        for from in self.alive() {
            let owned = self.world.state().group.owned(from);
            for partition in owned {
                if self.random.once_in(2) {
                    self.world.state().group.ask(partition, from, number);
                    self.world.state().count("partitions moved");
                }
            }
            self.world.tell([from]);
        }
    }

    /// A process stops for a while; the group takes its partitions before it comes back, or does not notice.
    pub(super) fn stall(&mut self, process: &Arc<Process>) {
        let longest = if self.random.once_in(4) { 50_000 } else { 1_500 };
        let millis = 20 + self.random.below(longest) as u64;
        process.pause(millis);
        if happens(&mut self.random, 700) {
            self.replace(process);
        }
    }

    /// The group takes the partitions of processes that have been stopped, sooner or later.
    pub(super) fn replace_stopped(&mut self) {
        let stopped = self.running.iter().map(|one| one.process.clone()).filter(|one| one.life() == Life::Paused);
        for process in stopped.collect::<Vec<_>>() {
            if self.world.mode == Mode::Shared && self.random.once_in(3) {
                self.replace(&process);
            }
        }
    }

    pub(super) fn replace(&mut self, process: &Arc<Process>) {
        let others: Vec<u32> = self.alive().into_iter().filter(|number| *number != process.number).collect();
        let owned = self.world.state().group.owned(process.number);
        for partition in owned {
            let Some(to) = self.pick(&others) else { continue };
            self.take(partition, process, to);
        }
    }

    /// A partition is given to another process, and its owner hears of it later.
    pub(super) fn take(&mut self, partition: u32, from: &Arc<Process>, to: u32) {
        let number = from.number;
        self.world.note(|| format!("partition p{partition} is taken from process {number} and given to {to}"));
        let mut state = self.world.state();
        state.group.take(partition, number);
        state.group.give(partition, to);
        state.count("partitions taken");
        drop(state);
        self.world.tell([to]);
        let (from, pause) = (from.clone(), Duration::from_millis(self.random.below(400) as u64));
        tokio::spawn(async move {
            from.running().await;
            sleep(pause).await;
            from.world.state().group.tell_lost(partition, number);
            from.news.notify_one();
        });
    }

    pub(super) fn move_one(&mut self, alive: &[u32]) {
        let (Some(from), Some(to)) = (self.pick(alive), self.pick(alive)) else { return };
        let owned = self.world.state().group.owned(from);
        let Some(partition) = self.pick(&owned).filter(|_| from != to) else { return };
        let Some(process) = self.world.processes().get(from as usize).cloned() else { return };
        if self.random.once_in(3) {
            return self.take(partition, &process, to);
        }
        self.world.note(|| format!("process {from} is asked for partition p{partition}, for {to}"));
        let mut state = self.world.state();
        state.group.ask(partition, from, to);
        state.count("partitions moved");
        drop(state);
        self.world.tell([from]);
    }
}
