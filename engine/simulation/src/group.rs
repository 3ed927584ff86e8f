//! Who owns which partition: a consumer group that moves them, with and without asking.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pipeline_stage::{Assignment, Partition};

use crate::input::{number_of_task, partition};

/// The members of the group and what they were told.
#[derive(Debug, Default)]
pub struct Group {
    members: BTreeMap<u32, Member>,
    /// Partitions that wait for their owner to let go: partition → who gets it.
    waiting: BTreeMap<u32, u32>,
}

#[derive(Debug, Default)]
struct Member {
    owned: BTreeSet<u32>,
    told: VecDeque<Assignment>,
    /// Taken from it, which it does not know yet.
    taken: BTreeSet<u32>,
    is_final: bool,
}

impl Group {
    /// A process comes in, and is given these partitions.
    pub fn join(&mut self, process: u32, partitions: &[u32], is_final: bool) {
        let member = self.members.entry(process).or_default();
        member.owned.extend(partitions);
        member.is_final = is_final;
    }

    /// A source of a member begins: what it owns.
    pub fn begin(&mut self, process: u32) -> Option<Assignment> {
        let member = self.members.get_mut(&process)?;
        member.told.clear();
        member.taken.clear();
        member.told.extend(member.is_final.then_some(Assignment::Final));
        Some(Assignment::Gained(member.owned.iter().map(|number| partition(*number)).collect()))
    }

    /// A process is gone; what it had.
    pub fn leave(&mut self, process: u32) -> BTreeSet<u32> {
        let had = self.members.remove(&process).map(|member| member.owned).unwrap_or_default();
        self.waiting.retain(|_, to| *to != process);
        had
    }

    /// Whether a process is in it.
    pub fn has(&self, process: u32) -> bool {
        self.members.contains_key(&process)
    }

    /// The members.
    pub fn members(&self) -> Vec<u32> {
        self.members.keys().copied().collect()
    }

    /// What a process owns.
    pub fn owned(&self, process: u32) -> Vec<u32> {
        self.members.get(&process).map(|member| member.owned.iter().copied().collect()).unwrap_or_default()
    }

    /// Partitions nobody owns and nobody waits for, of so many.
    pub fn unowned(&self, count: u32) -> Vec<u32> {
        let is_free = |number: &u32| {
            !self.waiting.contains_key(number) && !self.members.values().any(|member| member.owned.contains(number))
        };
        (0..count).filter(is_free).collect()
    }

    /// Gives a partition that is free.
    pub fn give(&mut self, number: u32, to: u32) {
        if let Some(member) = self.members.get_mut(&to) {
            member.owned.insert(number);
            if member.taken.remove(&number) {
                member.told.push_back(Assignment::Lost(vec![partition(number)]));
            }
            member.told.push_back(Assignment::Gained(vec![partition(number)]));
        }
    }

    /// Asks the owner to let go of a partition, for another member.
    pub fn ask(&mut self, number: u32, from: u32, to: u32) {
        if let Some(member) = self.members.get_mut(&from)
            && member.owned.remove(&number)
        {
            member.told.push_back(Assignment::Revoked(vec![partition(number)]));
            self.waiting.insert(number, to);
        }
    }

    /// Takes a partition without asking; the owner hears of it when `tell_lost` is called.
    pub fn take(&mut self, number: u32, from: u32) {
        if let Some(member) = self.members.get_mut(&from) {
            member.owned.remove(&number);
            member.taken.insert(number);
        }
        self.waiting.remove(&number);
    }

    /// The former owner hears that it has lost a partition.
    pub fn tell_lost(&mut self, number: u32, process: u32) {
        if let Some(member) = self.members.get_mut(&process)
            && member.taken.remove(&number)
        {
            member.told.push_back(Assignment::Lost(vec![partition(number)]));
        }
    }

    /// A task has stopped; says who has been given its partition.
    pub fn released(&mut self, name: &Partition, by: u32) -> Option<u32> {
        let number = number_of_task(&name.name)?;
        if self.members.get(&by).is_some_and(|member| member.owned.contains(&number)) {
            return None;
        }
        let to = self.waiting.remove(&number)?;
        self.give(number, to);
        Some(to)
    }

    /// Partitions whose owner has been asked and has not let go: given to those that wait, whatever it does.
    pub fn stop_waiting(&mut self) -> Vec<u32> {
        let waiting = std::mem::take(&mut self.waiting);
        for (number, to) in &waiting {
            self.give(*number, *to);
        }
        waiting.into_values().collect()
    }

    /// The next thing a process is told.
    pub fn next(&mut self, process: u32) -> Option<Assignment> {
        self.members.get_mut(&process)?.told.pop_front()
    }
}
