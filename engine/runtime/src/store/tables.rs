//! The tables of the state store. Version 2; a store of another version is refused in words.

/// Raised when the tables change so that an older program could not use them.
pub(super) const VERSION: &str = "2";

/// Tables that every epoch writes to. In SQLite they are a file of their own, so that a checkpoint delays no append.
pub(super) const LOG_TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS pipeline_state_settings (
        pipeline TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (pipeline, name))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_tasks (
        pipeline TEXT NOT NULL, task TEXT NOT NULL, state_id TEXT NOT NULL, generation BIGINT NOT NULL,
        epoch BIGINT NOT NULL, begun_above BIGINT NOT NULL, sinks TEXT NOT NULL, definition TEXT,
        PRIMARY KEY (pipeline, task))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_epochs (
        pipeline TEXT NOT NULL, task TEXT NOT NULL, epoch BIGINT NOT NULL, n_rows BIGINT NOT NULL,
        entry {blob} NOT NULL, PRIMARY KEY (pipeline, task, epoch))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_marks (
        pipeline TEXT NOT NULL, task TEXT NOT NULL, sink TEXT NOT NULL, mark TEXT NOT NULL,
        PRIMARY KEY (pipeline, task, sink))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_outbox (
        number {number}, pipeline TEXT NOT NULL, sink TEXT NOT NULL, task TEXT NOT NULL, epoch BIGINT NOT NULL,
        place TEXT NOT NULL, row_offset BIGINT NOT NULL, branch BIGINT NOT NULL, alert TEXT NOT NULL,
        is_excess BIGINT NOT NULL, digest BIGINT, delivered_at BIGINT)",
    "CREATE INDEX IF NOT EXISTS pipeline_state_outbox_pending
        ON pipeline_state_outbox (pipeline, sink, number) WHERE delivered_at IS NULL",
    "CREATE INDEX IF NOT EXISTS pipeline_state_outbox_delivered
        ON pipeline_state_outbox (pipeline, sink, delivered_at) WHERE delivered_at IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS pipeline_state_evidence (
        number {number}, pipeline TEXT NOT NULL, task TEXT NOT NULL, epoch BIGINT NOT NULL, at BIGINT NOT NULL,
        stage TEXT NOT NULL, ids TEXT NOT NULL, series TEXT NOT NULL, row_at BIGINT, judge {blob} NOT NULL,
        judged {blob} NOT NULL)",
    "CREATE INDEX IF NOT EXISTS pipeline_state_evidence_number ON pipeline_state_evidence (pipeline, number)",
    "CREATE INDEX IF NOT EXISTS pipeline_state_evidence_at ON pipeline_state_evidence (pipeline, at)",
    "CREATE TABLE IF NOT EXISTS pipeline_state_leases (
        pipeline TEXT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL, until BIGINT NOT NULL,
        PRIMARY KEY (pipeline, name))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_dead_letters (
        number {number}, pipeline TEXT NOT NULL, stage TEXT NOT NULL, edge BIGINT NOT NULL, task TEXT NOT NULL,
        place TEXT NOT NULL, row_offset BIGINT NOT NULL, branch BIGINT NOT NULL, epoch BIGINT NOT NULL,
        reason TEXT NOT NULL, bytes {blob}, beside {blob}, at BIGINT NOT NULL,
        replay_requested BIGINT NOT NULL DEFAULT 0, UNIQUE (pipeline, stage, place, row_offset, branch))",
    "CREATE INDEX IF NOT EXISTS pipeline_state_dead_letters_replay
        ON pipeline_state_dead_letters (pipeline, task) WHERE replay_requested <> 0",
];

/// Tables that only checkpoints write to.
pub(super) const CHECKPOINT_TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS pipeline_state_checkpoints (
        pipeline TEXT NOT NULL, task TEXT NOT NULL, state_id TEXT NOT NULL, epoch BIGINT NOT NULL,
        checkpoint TEXT NOT NULL, PRIMARY KEY (pipeline, task))",
    "CREATE TABLE IF NOT EXISTS pipeline_state_changes (
        pipeline TEXT NOT NULL, task TEXT NOT NULL, stage TEXT NOT NULL, bucket BIGINT NOT NULL,
        epoch BIGINT NOT NULL, part BIGINT NOT NULL, changes {blob} NOT NULL,
        PRIMARY KEY (pipeline, task, stage, bucket, epoch, part))",
];

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Puts this database's type names into a statement.
    pub fn statement(self, text: &str) -> String {
        let (blob, number) = match self {
            Dialect::Sqlite => ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            Dialect::Postgres => ("BYTEA", "BIGSERIAL PRIMARY KEY"),
        };
        text.replace("{blob}", blob).replace("{number}", number)
    }
}
