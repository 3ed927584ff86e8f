//! The deliberate bugs: in the engine, and in the simulated store and sinks where those do the engine's work.

use std::cell::Cell;

pub use pipeline_runtime::bugs::Bug as EngineBug;

/// A bug of the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldBug {
    /// The append to the epoch log answers without an fsync.
    LostFsync,
    /// The state store does not look who owns a task.
    NoFenceInStore,
    /// A claim tidies up without a look at who owns the task by then.
    NoFenceInClaim,
    /// Sinks do not look who owns a task.
    NoFenceInSink,
    /// A transactional sink makes the mark durable before the rows.
    MarkBeforeRows,
}

/// One deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// In the engine.
    Engine(EngineBug),
    /// In the world.
    World(WorldBug),
}

/// All of them: what it is called on the command line, and what is wrong, in words.
pub const ALL: &[(&str, Bug, &str)] = &[
    ("mark-before-rows", Bug::World(WorldBug::MarkBeforeRows), "a sink makes the mark durable before the rows"),
    ("commit-before-log", Bug::Engine(EngineBug::CommitBeforeLog), "sinks get an epoch before it is logged"),
    (
        "forget-before-checkpoint",
        Bug::Engine(EngineBug::ForgetBeforeCheckpoint),
        "offsets are committed before the checkpoint is durable",
    ),
    ("no-fence-in-store", Bug::World(WorldBug::NoFenceInStore), "the store does not look who owns a task"),
    ("no-fence-in-claim", Bug::World(WorldBug::NoFenceInClaim), "a late claim drops what its successor has stored"),
    ("no-fence-in-sink", Bug::World(WorldBug::NoFenceInSink), "sinks do not look who owns a task"),
    ("lost-fsync", Bug::World(WorldBug::LostFsync), "an append to the log answers without an fsync"),
    (
        "drop-log-before-publish",
        Bug::Engine(EngineBug::DropLogBeforePublish),
        "the log is dropped before the checkpoint is published",
    ),
    (
        "checkpoint-before-marks",
        Bug::Engine(EngineBug::CheckpointBeforeMarks),
        "a checkpoint is published before the marks of files are durable",
    ),
    ("changes-lost", Bug::Engine(EngineBug::ChangesLost), "a checkpoint lacks what has changed since the one before"),
    ("late-save", Bug::Engine(EngineBug::LateSave), "a checkpoint holds state of rows that came after it"),
    (
        "start-not-logged",
        Bug::Engine(EngineBug::StartNotLogged),
        "the resolved start is not logged before the first row",
    ),
    ("other-cut", Bug::Engine(EngineBug::OtherCut), "epochs are computed again with another cut"),
    ("time-not-restored", Bug::Engine(EngineBug::TimeNotRestored), "an epoch's time is not taken from the log"),
    (
        "replay-under-new-file",
        Bug::Engine(EngineBug::ReplayUnderNewFile),
        "logged epochs are computed again under the changed file",
    ),
    ("foreign-mark", Bug::Engine(EngineBug::ForeignMarkAccepted), "a mark of other state is accepted"),
    ("letters-before-log", Bug::Engine(EngineBug::LettersBeforeLog), "dead letters are stored before their epoch"),
    (
        "retry-without-claim",
        Bug::Engine(EngineBug::RetryWithoutClaim),
        "a commit is tried again without asking whether it was made",
    ),
    (
        "noted-before-delivered",
        Bug::Engine(EngineBug::NotedBeforeDelivered),
        "an alert is noted as delivered before it is",
    ),
    (
        "acknowledged-before-log",
        Bug::Engine(EngineBug::AcknowledgedBeforeLog),
        "rows that cannot be read again are acknowledged before they are logged",
    ),
    ("rows-not-kept", Bug::Engine(EngineBug::RowsNotKept), "rows that cannot be read again are not in the log"),
    ("no-lease", Bug::Engine(EngineBug::NoLease), "two processes empty one outbox"),
];

thread_local! {
    static IN_WORLD: Cell<Option<WorldBug>> = const { Cell::new(None) };
}

/// Puts a bug into everything that runs on this thread, or takes it out.
pub fn put_in(bug: Option<Bug>) {
    let (engine, world) = match bug {
        Some(Bug::Engine(bug)) => (Some(bug), None),
        Some(Bug::World(bug)) => (None, Some(bug)),
        None => (None, None),
    };
    pipeline_runtime::bugs::put_in(engine);
    IN_WORLD.set(world);
}

/// Whether the world has this bug.
pub fn is_there(bug: WorldBug) -> bool {
    IN_WORLD.get() == Some(bug)
}

/// The bug of a name.
pub fn named(name: &str) -> Option<Bug> {
    ALL.iter().find(|(known, _, _)| *known == name).map(|(_, bug, _)| *bug)
}
