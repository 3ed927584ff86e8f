//! A sink that writes files: their length is part of the mark, and a claim cuts them back to it.
//!
//! What was written is on the disk only once it is synced: when power is cut the end may be gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, Owner, Result, Sink, SinkContext, SinkOptions, StageError,
    StageOptions,
};
use pipeline_testkit::Random;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::process::{Process, current};
use crate::table::{Described, TableRow, check_owner, note_offer, process, rows_of};
use crate::weather::Kind;
use crate::world::State;

/// Writes a file for each task.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveOptions {}

impl StageOptions for ArchiveOptions {
    const NAME: &'static str = "archive";
    const EXAMPLE: &'static str = "archive:\n  type: archive\n  inputs: [readings]\n";
}

impl SinkOptions for ArchiveOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(Archive { process: current().ok(), newest: BTreeMap::new() })))
    }
}

/// The files of the machine.
#[derive(Debug, Default)]
pub struct Disk {
    /// By sink and task.
    pub files: BTreeMap<(String, String), File>,
}

/// A file.
#[derive(Debug, Default)]
pub struct File {
    /// Its lines.
    pub lines: Vec<TableRow>,
    /// So many of them are on the disk.
    pub synced: usize,
    /// Where the rows of a life of the state begin: what was there before stays.
    pub begin: Option<(String, usize)>,
}

impl File {
    fn begin_of(&mut self, state_id: &str) -> usize {
        match &self.begin {
            Some((of, length)) if of == state_id => *length,
            _ => {
                self.synced = self.lines.len();
                self.begin = Some((state_id.to_owned(), self.synced));
                self.synced
            }
        }
    }
}

impl Disk {
    /// The ends that were not synced are gone, or a part of them; says how many lines.
    pub fn cut_power(&mut self, random: &mut Random) -> u64 {
        let mut lost = 0;
        for file in self.files.values_mut() {
            let unsynced = file.lines.len() - file.synced;
            let kept = file.synced + random.below(unsynced + 1);
            lost += (file.lines.len() - kept) as u64;
            file.lines.truncate(kept);
            file.synced = kept;
        }
        lost
    }
}

struct Archive {
    process: Option<Arc<Process>>,
    /// By task: the sink and the length after the last commit of this process.
    newest: BTreeMap<String, (String, usize)>,
}

fn file<'a>(state: &'a mut State, sink: &str, task: &str) -> &'a mut File {
    state.disk.files.entry((sink.into(), task.into())).or_default()
}

#[async_trait]
impl Sink for Archive {
    fn delivery(&self) -> Delivery {
        Delivery::Truncating
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let claim = owner.stored_claim()?;
        let marked = match &claim {
            Claim::At(mark) if mark.state_id != owner.state_id => return Ok(claim),
            Claim::At(mark) => mark.detail.as_deref().and_then(|detail| detail.parse().ok()),
            Claim::New => None,
        };
        let who = format!("{} of {} is cut to {marked:?}", owner.sink, owner.task);
        let cut = process(&self.process)?.call(Kind::File, &who, |state| {
            let file = file(state, &owner.sink, &owner.task);
            let length = marked.unwrap_or_else(|| file.begin_of(&owner.state_id));
            if file.synced < length {
                let words = format!("the file has {} lines on the disk, its mark says {length}", file.synced);
                return Err(StageError::fatal(words));
            }
            file.lines.truncate(length);
            file.synced = length;
            Ok(length)
        });
        let length = cut.await?;
        self.newest.insert(owner.task.clone(), (owner.sink.clone(), length));
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let process = process(&self.process)?.clone();
        let mut lengths = Vec::new();
        for epoch in epochs {
            let sink = epoch.mark.sink.clone();
            let from = self.newest.get(&epoch.mark.task).map_or(0, |(_, length)| *length);
            let who = format!("{}", Described(std::slice::from_ref(epoch)));
            let write = process.call(Kind::File, &who, |state| {
                note_offer(state, epoch);
                check_owner(state, &epoch.mark);
                let file = file(state, &sink, &epoch.mark.task);
                // What a failed commit has left.
                file.lines.truncate(from);
                file.synced = file.synced.min(from);
                file.lines.extend(rows_of(epoch));
                Ok(file.lines.len())
            });
            let length = write.await?;
            self.newest.insert(epoch.mark.task.clone(), (sink, length));
            lengths.push(Some(length.to_string()));
        }
        for epoch in epochs {
            let (sink, task) = (epoch.mark.sink.clone(), epoch.mark.task.clone());
            let who = format!("{sink} of {task} is synced");
            let sync = process.call(Kind::File, &who, |state| {
                let file = file(state, &sink, &task);
                file.synced = file.lines.len();
                Ok(())
            });
            sync.await?;
        }
        Ok(Commit::Done(lengths))
    }
}
