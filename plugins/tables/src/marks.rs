//! What a claim and a commit do with marks that stand beside the rows, in the same database.
//!
//! A mark of epoch 0 says who owns a task of which nothing is written yet. It counts as no mark; but its generation
//! shuts older owners out, as any other does.

use pipeline_stage::{Claim, EpochRows, Mark, Owner, Result, StageError};

/// What to do with the mark that a claim has found, and what to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Write the owner's state id and generation into it, keep its epoch and positions.
    Take(Claim),
    /// Leave it as it is: it belongs to another life of the state.
    Leave(Claim),
}

/// Compares a mark with who wants to own it.
///
/// # Errors
/// Of kind `Lost` when the same state has a later owner.
pub fn judge(found: Mark, owner: &Owner) -> Result<Verdict> {
    let is_same_state = found.state_id == owner.state_id;
    if is_same_state && owner.generation < found.generation {
        return Err(StageError::lost(format!(
            "task `{}` has a later owner, generation {}; this one is generation {}",
            owner.task, found.generation, owner.generation
        )));
    }
    if found.epoch == 0 {
        return Ok(Verdict::Take(Claim::New));
    }
    match is_same_state || owner.takes_over {
        true => Ok(Verdict::Take(Claim::At(found))),
        false => Ok(Verdict::Leave(Claim::At(found))),
    }
}

/// By how much a commit moves the mark of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance<'a> {
    /// The first epoch given: the mark must be below it, or its rows are there already.
    pub first_epoch: u64,
    /// The mark as it is to be: that of the last epoch given.
    pub mark: &'a Mark,
}

/// The marks of a commit, one for each task, ordered by task so that two commits lock them in the same order.
pub fn advances(epochs: &[EpochRows]) -> Vec<Advance<'_>> {
    let mut advances: Vec<Advance<'_>> = Vec::new();
    for EpochRows { mark, .. } in epochs {
        match advances.iter_mut().find(|advance| advance.mark.task == mark.task) {
            Some(advance) => advance.mark = mark,
            None => advances.push(Advance { first_epoch: mark.epoch, mark }),
        }
    }
    advances.sort_by(|a, b| a.mark.task.cmp(&b.mark.task));
    advances
}

/// The error of a commit whose mark was not there to be moved.
pub fn lost(mark: &Mark) -> StageError {
    StageError::lost(format!(
        "task `{}` was taken over: its mark is no longer of generation {} below epoch {}",
        mark.task, mark.generation, mark.epoch
    ))
}

/// Databases have no unsigned numbers: an epoch or a generation as a signed one, which it always fits.
pub fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| StageError::fatal(format!("{number} is too large for a mark")))
}

/// The other way round; a negative number cannot have been written by a sink.
pub fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number)
        .map_err(|_| StageError::fatal(format!("a mark holds {number}, which no pipeline has written")))
}

#[cfg(test)]
mod tests {
    use pipeline_stage::ErrorKind;

    use super::*;

    fn mark(task: &str, state_id: &str, generation: u64, epoch: u64) -> Mark {
        Mark {
            pipeline: "iot".into(),
            sink: "history".into(),
            task: task.into(),
            state_id: state_id.into(),
            generation,
            epoch,
            positions: "{}".into(),
            detail: None,
        }
    }

    fn owner(state_id: &str, generation: u64, takes_over: bool) -> Owner {
        Owner {
            pipeline: "iot".into(),
            sink: "history".into(),
            task: "0".into(),
            state_id: state_id.into(),
            generation,
            stored: None,
            takes_over,
        }
    }

    #[test]
    fn a_mark_is_taken_by_its_own_state_or_on_demand() {
        let found = mark("0", "a", 3, 7);
        let at = Claim::At(found.clone());
        for (owner, verdict) in [
            (owner("a", 3, false), Verdict::Take(at.clone())),
            (owner("a", 4, false), Verdict::Take(at.clone())),
            (owner("b", 1, false), Verdict::Leave(at.clone())),
            (owner("b", 1, true), Verdict::Take(at.clone())),
        ] {
            assert_eq!(judge(found.clone(), &owner).unwrap(), verdict, "{owner:?}");
        }
    }

    #[test]
    fn a_later_owner_is_respected_even_before_its_first_commit() {
        for epoch in [0, 7] {
            for takes_over in [false, true] {
                let error = judge(mark("0", "a", 4, epoch), &owner("a", 3, takes_over)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Lost);
            }
        }
    }

    #[test]
    fn a_mark_without_an_epoch_is_no_mark() {
        for state_id in ["a", "b"] {
            assert_eq!(judge(mark("0", "a", 1, 0), &owner(state_id, 1, false)).unwrap(), Verdict::Take(Claim::New));
        }
    }

    #[test]
    fn each_task_advances_from_its_first_epoch_to_its_last() {
        let epochs: Vec<EpochRows> = [("b", 4), ("a", 9), ("b", 5), ("b", 6)]
            .into_iter()
            .map(|(task, epoch)| EpochRows { mark: mark(task, "s", 1, epoch), rows: Vec::new() })
            .collect();
        let found: Vec<(&str, u64, u64)> =
            advances(&epochs).iter().map(|a| (a.mark.task.as_str(), a.first_epoch, a.mark.epoch)).collect();
        assert_eq!(found, [("a", 9, 9), ("b", 4, 6)]);
    }
}
