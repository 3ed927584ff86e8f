//! The table of marks: who writes the output of each task, and how far it got.

use pipeline_stage::{Claim, EpochRows, Mark, Owner, StageError};
use pipeline_tables::{Verdict, advances, judge, lost, signed, unsigned};
use sqlx::Row;

use crate::database::{BEGIN, Database};
use crate::errors::Failure;
use crate::table::{create, describe};

/// Where the marks are.
pub const MARKS_TABLE: &str = "pipeline_marks";

const COLUMNS: [&str; 8] = ["pipeline", "sink", "task", "state_id", "generation", "epoch", "positions", "updated_at"];

const CREATE: &str = "CREATE TABLE pipeline_marks (
    pipeline TEXT NOT NULL,
    sink TEXT NOT NULL,
    task TEXT NOT NULL,
    state_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    positions TEXT NOT NULL,
    updated_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    PRIMARY KEY (pipeline, sink, task))";

const INSERT: &str = "
    INSERT INTO pipeline_marks (pipeline, sink, task, state_id, generation, epoch, positions)
    VALUES (?, ?, ?, ?, ?, 0, '{}') ON CONFLICT DO NOTHING";

const FIND: &str =
    "SELECT state_id, generation, epoch, positions FROM pipeline_marks WHERE pipeline = ? AND sink = ? AND task = ?";

const TAKE: &str = "
    UPDATE pipeline_marks SET state_id = ?, generation = ?, updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE pipeline = ? AND sink = ? AND task = ?";

const ADVANCE: &str = "
    UPDATE pipeline_marks SET epoch = ?, positions = ?, updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE pipeline = ? AND sink = ? AND task = ? AND state_id = ? AND generation = ? AND epoch < ?";

/// Makes the table if it is missing.
pub async fn prepare(database: &mut Database) -> Result<(), Failure> {
    if !is_there(database).await? {
        create(database, MARKS_TABLE, CREATE).await?;
    }
    Ok(())
}

/// Whether the table is there; a table of that name with other columns is an error.
pub async fn is_there(database: &mut Database) -> Result<bool, Failure> {
    let Some(table) = describe(database, MARKS_TABLE).await? else { return Ok(false) };
    match COLUMNS.into_iter().find(|column| !table.has_column(column)) {
        Some(column) => {
            let message =
                format!("table `{MARKS_TABLE}` has no column `{column}`: it is not the pipeline's own; rename it");
            Err(StageError::fatal(message).into())
        }
        None => Ok(true),
    }
}

/// Takes a task over. The file has one writer at a time, so nobody can be in the middle of a commit.
pub async fn claim(database: &mut Database, owner: &Owner) -> Result<Claim, Failure> {
    let Owner { pipeline, sink, task, state_id, .. } = owner;
    let generation = signed(owner.generation)?;
    database.run(BEGIN).await?;
    let insert = sqlx::query(INSERT).bind(pipeline).bind(sink).bind(task).bind(state_id).bind(generation);
    database.change(insert).await?;
    let rows = database.rows(sqlx::query(FIND).bind(pipeline).bind(sink).bind(task)).await?;
    let found = rows
        .first()
        .ok_or_else(|| StageError::fatal(format!("the mark of task `{task}` was just written and is not there")))?;
    let found = Mark {
        pipeline: pipeline.clone(),
        sink: sink.clone(),
        task: task.clone(),
        state_id: found.try_get(0)?,
        generation: unsigned(found.try_get(1)?)?,
        epoch: unsigned(found.try_get(2)?)?,
        positions: found.try_get(3)?,
        detail: None,
    };
    let (claim, end) = match judge(found, owner)? {
        Verdict::Take(claim) => {
            let take = sqlx::query(TAKE).bind(state_id).bind(generation).bind(pipeline).bind(sink).bind(task);
            database.change(take).await?;
            (claim, "COMMIT")
        }
        Verdict::Leave(claim) => (claim, "ROLLBACK"),
    };
    database.run(end).await?;
    Ok(claim)
}

/// Moves the marks of a commit, as the last thing before COMMIT.
///
/// # Errors
/// Of kind `Lost` when a mark is not this owner's any more, or has these epochs already.
pub async fn advance(database: &mut Database, epochs: &[EpochRows]) -> Result<(), Failure> {
    for advance in advances(epochs) {
        let Mark { pipeline, sink, task, state_id, positions, .. } = advance.mark;
        let query = sqlx::query(ADVANCE)
            .bind(signed(advance.mark.epoch)?)
            .bind(positions)
            .bind(pipeline)
            .bind(sink)
            .bind(task)
            .bind(state_id)
            .bind(signed(advance.mark.generation)?)
            .bind(signed(advance.first_epoch)?);
        if database.change(query).await? == 0 {
            return Err(lost(advance.mark).into());
        }
    }
    Ok(())
}
