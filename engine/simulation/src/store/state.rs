//! The calls of the state store, in the steps the real one makes.

use std::sync::Arc;

use async_trait::async_trait;
use pipeline_runtime::store::{
    Append, Checkpoint, ClaimedTask, DeadLetter, Evidence, EvidenceLine, MAX_EVIDENCE, StageChanges, StateStore,
};
use pipeline_stage::{Mark, Result, StageError};

use super::SimulatedStore;
use super::log::{Letter, Log};
use super::record::{letters_are_of_logged_epochs, note};
use crate::bugs::{WorldBug, is_there};
use crate::weather::Kind;
use crate::world::{Mode, State};

#[async_trait]
impl StateStore for SimulatedStore {
    fn place(&self) -> String {
        "the simulated store".into()
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        self.read("reads a setting", |log| log.settings.get(name).cloned()).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write("writes a setting", move |log| drop(log.settings.insert(name.clone(), value.clone()))).await
    }

    async fn claim(&self, task: &str) -> Result<ClaimedTask> {
        let owned = self.raise(task).await?;
        let newest = |file: &super::Checkpoints| file.newest.get(task).cloned();
        let newest = self.read_checkpoints(&format!("reads the checkpoint of {task}"), newest).await?;
        let checkpoint = newest.filter(|(of, _)| *of == owned.state_id).map(|(_, checkpoint)| checkpoint);
        let after = checkpoint.as_ref().map(|checkpoint| checkpoint.epoch);
        let read = |log: &Log| {
            let marks = log.marks.iter().filter(|((of, _), _)| of == task).map(|(_, mark)| mark.clone());
            (log.above(task, after), marks.collect())
        };
        let (log, marks): (Vec<_>, Vec<Mark>) = self.read(&format!("reads the log of {task}"), read).await?;
        self.drop_unpublished(task, owned.generation, after).await?;
        Ok(ClaimedTask {
            is_lost: checkpoint.is_none() && log.is_empty() && owned.begun_above < owned.epoch,
            state_id: owned.state_id,
            generation: owned.generation,
            begun_above: owned.begun_above,
            sinks: owned.sinks,
            definition: owned.definition,
            checkpoint,
            log,
            marks,
        })
    }

    async fn is_owner(&self, task: &str, generation: u64) -> Result<bool> {
        let is_owner = |log: &Log| log.check_owner(task, generation).is_ok();
        self.read(&format!("asks whether generation {generation} owns {task}"), is_owner).await
    }

    async fn begin_anew(&self, task: &str, generation: u64, above: Option<u64>) -> Result<String> {
        let id = self.process.world.state().store.new_state_id();
        let (name, new_id) = (task.to_owned(), id.clone());
        self.write("begins a state anew", move |log| log.begin_anew(&name, generation, above, &new_id)).await??;
        self.drop_unpublished(task, generation, None).await?;
        Ok(id)
    }

    async fn tasks(&self) -> Result<Vec<String>> {
        self.read("lists the tasks", |log| log.tasks.keys().cloned().collect()).await
    }

    async fn set_sinks(&self, task: &str, generation: u64, sinks: &[String], definition: &str) -> Result<()> {
        let (name, sinks, definition) = (task.to_owned(), sinks.to_vec(), definition.to_owned());
        self.write(&format!("writes the sinks of {task}"), move |log| {
            let row = log.owned(&name, generation)?;
            (row.sinks, row.definition) = (sinks.clone(), Some(definition.clone()));
            Ok(())
        })
        .await?
    }

    async fn pending_definitions(&self) -> Result<Vec<String>> {
        let logged = self.read("reads the definitions", logged_definitions).await?;
        let mut pending = Vec::new();
        for (task, definition, last) in logged {
            let newest = |file: &super::Checkpoints| file.newest.get(&task).map(|(_, checkpoint)| checkpoint.epoch);
            let checkpoint = self.read_checkpoints(&format!("reads the checkpoint of {task}"), newest).await?;
            if checkpoint.is_none_or(|checkpoint| checkpoint < last) && !pending.contains(&definition) {
                pending.push(definition);
            }
        }
        Ok(pending)
    }

    async fn append(&self, appends: &[Append]) -> Result<Vec<bool>> {
        let mut tasks: Vec<String> =
            appends.iter().map(|append| format!("{}/{}", append.task, append.entry.epoch)).collect();
        tasks.sort();
        let version = self.process.version;
        let shared: Arc<[Append]> = appends.into();
        let apply = move |state: &mut State| {
            let given = shared.clone();
            let answers = state.store.log.write(move |log| log.append(&given))?;
            note(state, &shared, &answers, version);
            Ok(answers)
        };
        let sync = |state: &mut State| {
            if !is_there(WorldBug::LostFsync) {
                state.store.log.sync();
            }
        };
        self.step(&format!("logs {}", tasks.join(", ")), apply, sync).await
    }

    async fn set_marks(&self, marks: &[Mark]) -> Result<()> {
        let marks: Arc<[Mark]> = marks.into();
        self.write("stores marks", move |log| {
            if let Some(mark) = marks.first() {
                log.check_owner(&mark.task, mark.generation)?;
            }
            log.put_marks(&marks);
            Ok(())
        })
        .await?
    }

    async fn write_changes(
        &self,
        task: &str,
        generation: u64,
        epoch: u64,
        part: u64,
        changes: &StageChanges,
    ) -> Result<()> {
        let (name, changes) = (task.to_owned(), Arc::new(changes.clone()));
        let who = format!("writes {} of {task}/{epoch}", changes.stage);
        self.write_as_owner(task, generation, &who, move |file| file.put(&name, epoch, part, &changes)).await
    }

    async fn publish(&self, task: &str, generation: u64, checkpoint: &Checkpoint) -> Result<()> {
        let (name, checkpoint) = (task.to_owned(), checkpoint.clone());
        let read = |log: &Log| log.check_owner(task, generation).map(|()| log.tasks[task].state_id.clone());
        let state_id = self.read("reads the state id", read).await??;
        let who = format!("publishes {task}/{}", checkpoint.epoch);
        let put = move |file: &mut super::Checkpoints| {
            file.newest.insert(name.clone(), (state_id.clone(), checkpoint.clone()));
        };
        self.write_as_owner(task, generation, &who, put).await?;
        self.process.world.state().count("checkpoints");
        Ok(())
    }

    async fn drop_log(&self, task: &str, generation: u64, checkpoint: &Checkpoint, whole: &[String]) -> Result<()> {
        let (name, epoch) = (task.to_owned(), checkpoint.epoch);
        let who = format!("drops the log of {task} up to {epoch}");
        let ended_at = checkpoint.ended_at;
        let drop = move |log: &mut Log| {
            log.drop_through(&name, epoch);
            ended_at.iter().for_each(|now| log.prune_evidence(*now));
        };
        self.write(&who, drop).await?;
        let (name, removed) = (task.to_owned(), checkpoint.clone());
        let who = format!("drops removed stages of {task}");
        self.write_checkpoints(&who, move |file| file.drop_removed_stages(&name, &removed)).await?;
        let whole: Vec<String> =
            checkpoint.stages.iter().map(|stage| stage.id.clone()).filter(|stage| whole.contains(stage)).collect();
        if whole.is_empty() {
            self.process.world.state().count("checkpoints of changes");
            return Ok(());
        }
        self.process.world.state().count("checkpoints of all state");
        let name = task.to_owned();
        let who = format!("drops what {task}/{epoch} replaces");
        self.write_as_owner(task, generation, &who, move |file| file.drop_replaced(&name, epoch, &whole)).await
    }

    async fn replace_state(
        &self,
        task: &str,
        generation: u64,
        checkpoint: &Checkpoint,
        states: &[StageChanges],
    ) -> Result<()> {
        let states: Vec<Arc<StageChanges>> = states.iter().cloned().map(Arc::new).collect();
        let (name, checkpoint) = (task.to_owned(), checkpoint.clone());
        let read = |log: &Log| log.check_owner(task, generation).map(|()| log.tasks[task].state_id.clone());
        let state_id = self.read("reads the state id", read).await??;
        let put = move |file: &mut super::Checkpoints| {
            states.iter().for_each(|state| file.replace(&name, checkpoint.epoch, state));
            file.newest.insert(name.clone(), (state_id.clone(), checkpoint.clone()));
        };
        self.write_as_owner(task, generation, &format!("replaces states of {task}"), put).await
    }

    async fn load(&self, task: &str, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.read_checkpoints(&format!("loads {stage} of {task}"), |file| file.load(task, stage)).await
    }

    async fn evidence_lines(&self) -> Result<Vec<EvidenceLine>> {
        let newest =
            |log: &Log| log.evidence.values().rev().take(MAX_EVIDENCE as usize).map(|(line, _)| line.clone()).collect();
        self.read("lists evidence", newest).await
    }

    async fn evidence(&self, number: i64) -> Result<Option<Evidence>> {
        self.read("reads evidence", |log| log.evidence.get(&number).map(|(_, evidence)| evidence.clone())).await
    }

    async fn add_dead_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        let letters: Arc<[DeadLetter]> = letters.into();
        self.write("buries rows", move |log| log.add_letters(&letters)).await
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
        self.read("lists dead letters", |log| some(log, after, limit, |_| true)).await
    }

    async fn request_replay(&self, numbers: &[i64]) -> Result<u64> {
        let numbers = numbers.to_vec();
        self.write("asks for replays", move |log| {
            if let Some(missing) = numbers.iter().find(|number| !log.letters.contains_key(number)) {
                return Err(StageError::config(format!("there is no dead letter {missing}")));
            }
            let is_meant = |number: &i64| numbers.is_empty() || numbers.contains(number);
            let meant = log.letters.iter_mut().filter(|(number, _)| is_meant(number));
            Ok(meant.map(|(_, letter)| letter.is_requested = true).count() as u64)
        })
        .await?
    }

    async fn replay_requests(&self, task: &str, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
        let who = format!("looks for replays of {task}");
        self.read(&who, |log| some(log, after, limit, |one| one.is_requested && one.letter.task == task)).await
    }

    async fn refuse_replay(&self, refused: &[(i64, String)]) -> Result<()> {
        let refused = refused.to_vec();
        self.write("refuses replays", move |log| {
            for (number, reason) in &refused {
                if let Some(letter) = log.letters.get_mut(number) {
                    (letter.is_requested, letter.letter.reason) = (false, reason.clone());
                }
            }
        })
        .await
    }

    async fn tasks_to_replay(&self) -> Result<Vec<String>> {
        self.read("looks for replays", |log| {
            let requested = log.letters.values().filter(|letter| letter.is_requested);
            let mut tasks: Vec<String> = requested.map(|letter| letter.letter.task.clone()).collect();
            tasks.sort();
            tasks.dedup();
            tasks
        })
        .await
    }
}

impl SimulatedStore {
    async fn raise(&self, task: &str) -> Result<super::log::Task> {
        let (name, number) = (task.to_owned(), self.process.number);
        let apply = move |state: &mut State| {
            let (id, task) = (state.store.new_state_id(), name.clone());
            let owned = state.store.log.write(move |log| log.raise(&task, &id));
            let claims = state.record.claims.entry(name.clone()).or_default();
            if claims.last().is_some_and(|(_, by)| *by != number) {
                state.counts.entry("takeovers").and_modify(|count| *count += 1).or_insert(1);
            }
            state.record.claims.entry(name.clone()).or_default().push((owned.generation, number));
            letters_are_of_logged_epochs(state, &name);
            Ok(owned)
        };
        self.step(&format!("claims {task}"), apply, |state| state.store.log.sync()).await
    }

    async fn drop_unpublished(&self, task: &str, generation: u64, epoch: Option<u64>) -> Result<()> {
        let name = task.to_owned();
        let who = format!("drops unpublished changes of {task}");
        if is_there(WorldBug::NoFenceInClaim) {
            return self.write_checkpoints(&who, move |file| file.drop_unpublished(&name, epoch)).await;
        }
        self.write_as_owner(task, generation, &who, move |file| file.drop_unpublished(&name, epoch)).await
    }

    /// Writes to the checkpoint file if the writer owns the task: in a database in one transaction, in a folder, which
    /// has one user, after a look.
    async fn write_as_owner(
        &self,
        task: &str,
        generation: u64,
        who: &str,
        write: impl Fn(&mut super::Checkpoints) + Send + 'static,
    ) -> Result<()> {
        if self.mode() == Mode::Folder {
            self.read(&format!("owns {task}?"), |log| log.check_owner(task, generation)).await??;
            return self.write_checkpoints(who, write).await;
        }
        let both = |state: &mut State| {
            state.store.log.seen().check_owner(task, generation).inspect_err(|_| state.count("fenced checkpoints"))?;
            state.store.checkpoints.write(write);
            state.store.checkpoints.sync();
            Ok(())
        };
        self.process.call(Kind::Store, who, both).await
    }
}

fn some(log: &Log, after: i64, limit: u32, is_meant: impl Fn(&Letter) -> bool) -> Vec<(i64, DeadLetter)> {
    let later = log.letters.range(after + 1..).filter(|(_, letter)| is_meant(letter));
    later.take(limit as usize).map(|(number, letter)| (*number, letter.letter.clone())).collect()
}

/// The definition of each task, and the last epoch with rows that was logged under it.
fn logged_definitions(log: &Log) -> Vec<(String, String, u64)> {
    let with_rows = |task: &str| {
        let of_task =
            log.epochs.iter().filter(|((of, _), entry)| of == task && (0 < entry.rows || !entry.stored.is_empty()));
        of_task.map(|((_, epoch), _)| *epoch).max()
    };
    let tasks =
        log.tasks.iter().filter_map(|(task, row)| Some((task.clone(), row.definition.clone()?, with_rows(task)?)));
    tasks.collect()
}
