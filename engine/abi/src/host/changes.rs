//! What a source of a library says has changed of what this process owns.

use std::ffi::c_void;

use pipeline_stage::{Assignment, Partition, StageError};

use super::said::{Said, listen};
use crate::exchange::read_partition;
use crate::raw::{RawAssignment, RawPartition};

/// What a call for assignments has said.
#[derive(Default)]
pub struct Changes(pub Vec<Assignment>);

impl Changes {
    /// As the library sees it.
    pub fn raw(said: &Said<Self>) -> RawAssignment {
        RawAssignment {
            struct_size: size_of::<RawAssignment>() as u32,
            context: said.context(),
            gained: Some(gained),
            revoked: Some(revoked),
            lost: Some(lost),
            last: Some(last),
        }
    }

    /// Neighbours of one kind are one change.
    fn add(&mut self, change: Assignment) {
        match (self.0.last_mut(), change) {
            (Some(Assignment::Gained(all)), Assignment::Gained(more))
            | (Some(Assignment::Revoked(all)), Assignment::Revoked(more))
            | (Some(Assignment::Lost(all)), Assignment::Lost(more)) => all.extend(more),
            (_, change) => self.0.push(change),
        }
    }
}

fn say(context: *mut c_void, partition: *const RawPartition, change: fn(Vec<Partition>) -> Assignment) {
    let body = |changes: &mut Changes| {
        // SAFETY: a partition of the library's, valid during the call (rule 1).
        let partition = unsafe { read_partition(partition) }?;
        if partition.name.is_empty() {
            return Err(StageError::fatal("the plugin has a partition without a name"));
        }
        changes.add(change(vec![partition]));
        Ok(())
    };
    // SAFETY: the context of `raw`, in the call that it was made for (rule 1).
    unsafe { listen(context, body) };
}

unsafe extern "C" fn gained(context: *mut c_void, partition: *const RawPartition) {
    say(context, partition, Assignment::Gained);
}

unsafe extern "C" fn revoked(context: *mut c_void, partition: *const RawPartition) {
    say(context, partition, Assignment::Revoked);
}

unsafe extern "C" fn lost(context: *mut c_void, partition: *const RawPartition) {
    say(context, partition, Assignment::Lost);
}

unsafe extern "C" fn last(context: *mut c_void) {
    let body = |changes: &mut Changes| {
        changes.add(Assignment::Final);
        Ok(())
    };
    // SAFETY: the context of `raw`, in the call that it was made for (rule 1).
    unsafe { listen(context, body) };
}
