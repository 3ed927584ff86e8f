//! How a seed ends: nothing fails any more, everybody stops, and one process reads all there is.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{MOST, Running, Script, start};
use crate::process::Life;
use crate::weather::Weather;

/// A process that was told to stop does so within the engine's own limits.
const STOPS_WITHIN: Duration = Duration::from_secs(120);

impl Script {
    /// Nothing fails any more, and everybody stops.
    pub(super) async fn heal(&mut self) {
        {
            let mut state = self.world.state();
            state.weather = Weather::calm();
            state.crash = None;
        }
        self.world.note(|| "from here on nothing fails".into());
        for one in std::mem::take(&mut self.running) {
            one.process.resume();
            if one.process.life() == Life::Dead || self.random.once_in(2) {
                one.process.kill();
                if one.run.is_finished() {
                    self.judge(one).await;
                }
                continue;
            }
            one.process.stop.send_replace(true);
            let stopped = async {
                while !one.run.is_finished() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            match timeout(STOPS_WITHIN, stopped).await {
                Ok(()) => self.judge(one).await,
                Err(_) => self.world.state().fail(format!("process {} does not stop", one.process.number)),
            }
        }
    }

    /// Starts a process that reads all there is.
    pub(super) fn start_last(&mut self, version: u32) -> Running {
        let all: Vec<u32> = (0..self.n_partitions()).collect();
        {
            let mut state = self.world.state();
            for member in state.group.members() {
                state.group.leave(member);
            }
            state.group.join(self.world.processes().len() as u32, &all, true);
        }
        start(&self.world, version, 0, &self.settings, true)
    }

    /// The folder with the state is lost, the output is not: a run that did not notice would write everything again.
    pub(super) async fn lose_state(&mut self) {
        if !self.world.state().failures.is_empty() || self.world.state().tables.rows.is_empty() {
            return;
        }
        self.world.note(|| "the state is lost".into());
        let (kept, record) = {
            let mut state = self.world.state();
            state.count("states lost");
            (state.store.lose(), state.record.clone())
        };
        let running = self.start_last(self.version);
        let words = match timeout(MOST, running.run).await {
            Ok(Ok(Err(error))) if error.chain().contains("was made with other state") => None,
            Ok(Ok(Err(error))) => Some(format!("the run after the state was lost ended: {}", error.chain())),
            _ => Some("the state was lost, and the next run did not notice".to_owned()),
        };
        let mut state = self.world.state();
        (state.store, state.record) = (kept, record);
        words.into_iter().for_each(|words| state.fail(words));
    }

    /// One process reads all there is.
    pub(super) async fn finish(&mut self, version: u32) {
        let running = self.start_last(version);
        let words = match timeout(MOST, running.run).await {
            Ok(Ok(Ok(summary))) => {
                let unbalanced = summary.progress.stages.iter().filter(|counts| !counts.is_balanced()).count();
                match unbalanced {
                    0 => return,
                    _ => format!("the books of {unbalanced} stages do not balance"),
                }
            }
            Ok(Ok(Err(error))) => format!("the last run ended: {}", error.chain()),
            Ok(Err(error)) => format!("the last run ended: {error}"),
            Err(_) => "the last run does not end".into(),
        };
        self.world.state().fail(words);
    }
}
