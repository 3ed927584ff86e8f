//! Deliberate bugs: each breaks the engine at one place, to prove that the simulation would notice.
//!
//! They are there only in a build with the feature `deliberate-bugs`, which nothing but the simulation asks for.
//! Without it [`is_there`] is a constant, and no code is left of them.

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Sinks are given an epoch before it is in the log.
    CommitBeforeLog,
    /// The source may forget rows before the checkpoint that holds them is durable.
    ForgetBeforeCheckpoint,
    /// The log is dropped before the checkpoint that replaces it is published.
    DropLogBeforePublish,
    /// A checkpoint is published though the marks of files have not reached it on disk.
    CheckpointBeforeMarks,
    /// A checkpoint lacks what has changed since the one before.
    ChangesLost,
    /// A stage that saves in parts begins with the first part, not with the end of the epoch.
    LateSave,
    /// The resolved start of a source is not logged before its first row is read.
    StartNotLogged,
    /// Two logged epochs are computed again as one.
    OtherCut,
    /// A logged epoch is computed again with the time it is now.
    TimeNotRestored,
    /// Epochs that were logged under another pipeline file are computed again under the present one.
    ReplayUnderNewFile,
    /// A mark that belongs to other state is taken for one's own.
    ForeignMarkAccepted,
    /// Dead letters are stored before their epoch is logged.
    LettersBeforeLog,
    /// After a failed commit the sink is not asked whether it was made.
    RetryWithoutClaim,
    /// An alert is noted as delivered before it is.
    NotedBeforeDelivered,
    /// Outboxes are emptied without their lease.
    NoLease,
    /// A source that cannot be read again is told that its rows are logged before they are.
    AcknowledgedBeforeLog,
    /// Rows of such a source are not kept in the log.
    RowsNotKept,
}

#[cfg(feature = "deliberate-bugs")]
mod present {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PRESENT: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Breaks the engine on this thread, or repairs it.
    pub fn put_in(bug: Option<Bug>) {
        PRESENT.set(bug);
    }

    pub(crate) fn is_there(bug: Bug) -> bool {
        PRESENT.get() == Some(bug)
    }
}

#[cfg(feature = "deliberate-bugs")]
pub(crate) use present::is_there;
#[cfg(feature = "deliberate-bugs")]
pub use present::put_in;

#[cfg(not(feature = "deliberate-bugs"))]
pub(crate) const fn is_there(_: Bug) -> bool {
    false
}
