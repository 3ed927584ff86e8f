//! The table of marks: who writes the output of each task, and how far it got.
//!
//! A row is locked while it is claimed and from its update to the end of a commit, so that the two never overlap. A
//! process that was stopped in between keeps its lock: the next owner ends its connection, which PostgreSQL knows by
//! the name that the owner has left in the row.

use pipeline_stage::{Claim, EpochRows, Mark, Owner, StageError};
use pipeline_tables::{Verdict, advances, judge, lost, signed, unsigned};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tracing::warn;

use crate::create::create;
use crate::database::{BEGIN, Database};
use crate::errors::Failure;
use crate::table::{TableName, describe};

/// Where the marks are: in the first schema of the search path.
pub const MARKS_TABLE: &str = "pipeline_marks";

const COLUMNS: [&str; 9] =
    ["pipeline", "sink", "task", "state_id", "generation", "epoch", "positions", "owner", "updated_at"];

const CREATE: &str = "CREATE TABLE pipeline_marks (
    pipeline text NOT NULL,
    sink text NOT NULL,
    task text NOT NULL,
    state_id text NOT NULL,
    generation bigint NOT NULL,
    epoch bigint NOT NULL,
    positions text NOT NULL,
    owner text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, sink, task))";

/// A commit holds its lock for milliseconds: who has it for longer was stopped, or hangs.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// How often the holder of the lock is ended; once is enough unless others claim at the same time.
const LOCK_TRIES: usize = 3;

const INSERT: &str = "
    INSERT INTO pipeline_marks (pipeline, sink, task, state_id, generation, epoch, positions, owner)
    VALUES ($1, $2, $3, $4, $5, 0, '{}', $6)
    ON CONFLICT DO NOTHING";

const LOCK: &str = "
    SELECT state_id, generation, epoch, positions FROM pipeline_marks
    WHERE pipeline = $1 AND sink = $2 AND task = $3 FOR UPDATE";

const TAKE: &str = "
    UPDATE pipeline_marks SET state_id = $4, generation = $5, owner = $6, updated_at = now()
    WHERE pipeline = $1 AND sink = $2 AND task = $3";

const END_OWNER: &str = "
    SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid))
    FROM pipeline_marks m JOIN pg_stat_activity a ON a.application_name = m.owner
    WHERE m.pipeline = $1 AND m.sink = $2 AND m.task = $3
        AND a.datname = current_database() AND a.pid <> pg_backend_pid()";

const ADVANCE: &str = "
    UPDATE pipeline_marks AS m SET epoch = n.epoch, positions = n.positions, updated_at = now()
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::text[])
        AS n (pipeline, sink, task, state_id, generation, first_epoch, epoch, positions)
    WHERE m.pipeline = n.pipeline AND m.sink = n.sink AND m.task = n.task
        AND m.state_id = n.state_id AND m.generation = n.generation AND m.epoch < n.first_epoch
    RETURNING m.task";

/// Makes the table if it is missing.
pub async fn prepare(database: &mut Database) -> Result<(), Failure> {
    if !is_there(database).await? {
        create(database, &TableName::parse(MARKS_TABLE)?, CREATE).await?;
    }
    Ok(())
}

/// Whether the table is there; a table of that name with other columns is an error.
pub async fn is_there(database: &mut Database) -> Result<bool, Failure> {
    let Some(table) = describe(database, &TableName::parse(MARKS_TABLE)?).await? else { return Ok(false) };
    for name in COLUMNS {
        if !table.columns.iter().any(|column| column.name == name) {
            let message =
                format!("table `{MARKS_TABLE}` has no column `{name}`: it is not the pipeline's own; rename it");
            return Err(StageError::fatal(message).into());
        }
    }
    Ok(true)
}

/// Takes a task over; `owner_name` is the name of this process' connections.
pub async fn claim(database: &mut Database, owner: &Owner, owner_name: &str) -> Result<Claim, Failure> {
    for _ in 0..LOCK_TRIES {
        match try_claim(database, owner, owner_name).await {
            Err(failure) if failure.is_lock_timeout() => {
                database.run("ROLLBACK").await?;
                end_owner(database, owner).await?;
            }
            answer => return answer,
        }
    }
    Err(StageError::transient(format!("the mark of task `{}` is locked by another connection", owner.task)).into())
}

async fn try_claim(database: &mut Database, owner: &Owner, owner_name: &str) -> Result<Claim, Failure> {
    let Owner { pipeline, sink, task, state_id, .. } = owner;
    let generation = signed(owner.generation)?;
    database.run(&format!("{BEGIN}; {LOCK_TIMEOUT}")).await?;
    let insert = sqlx::query(INSERT).bind(pipeline).bind(sink).bind(task);
    database.rows(insert.bind(state_id).bind(generation).bind(owner_name)).await?;
    let rows = database.rows(sqlx::query(LOCK).bind(pipeline).bind(sink).bind(task)).await?;
    let found = rows.first().ok_or_else(|| StageError::transient(format!("the mark of task `{task}` was deleted")))?;
    let (claim, end) = match judge(read_mark(owner, found)?, owner)? {
        Verdict::Take(claim) => {
            let take = sqlx::query(TAKE).bind(pipeline).bind(sink).bind(task);
            database.rows(take.bind(state_id).bind(generation).bind(owner_name)).await?;
            (claim, "COMMIT")
        }
        Verdict::Leave(claim) => (claim, "ROLLBACK"),
    };
    database.run(end).await?;
    Ok(claim)
}

fn read_mark(owner: &Owner, row: &PgRow) -> Result<Mark, Failure> {
    Ok(Mark {
        pipeline: owner.pipeline.clone(),
        sink: owner.sink.clone(),
        task: owner.task.clone(),
        state_id: row.try_get(0)?,
        generation: unsigned(row.try_get(1)?)?,
        epoch: unsigned(row.try_get(2)?)?,
        positions: row.try_get(3)?,
        detail: None,
    })
}

async fn end_owner(database: &mut Database, owner: &Owner) -> Result<(), Failure> {
    let Owner { pipeline, sink, task, .. } = owner;
    match database.rows(sqlx::query(END_OWNER).bind(pipeline).bind(sink).bind(task)).await.map_err(Failure::from) {
        Ok(rows) => {
            let n_ended: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
            warn!(%task, connections = n_ended, "the last owner's connection held the mark and was ended");
            Ok(())
        }
        Err(failure) if failure.is_denied() => {
            warn!(%task, "the last owner's connection holds the mark, and this user may not end it; waiting for it");
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// Moves the marks of a commit, as the last thing before COMMIT.
///
/// # Errors
/// Of kind `Lost` when a mark is not this owner's any more, or has these epochs already.
pub async fn advance(database: &mut Database, epochs: &[EpochRows]) -> Result<(), Failure> {
    let advances = advances(epochs);
    let texts = |text: fn(&Mark) -> &String| advances.iter().map(|a| text(a.mark).clone()).collect::<Vec<String>>();
    let numbers =
        |number: fn(&Mark) -> u64| advances.iter().map(|a| signed(number(a.mark))).collect::<Result<Vec<_>, _>>();
    let first_epochs = advances.iter().map(|a| signed(a.first_epoch)).collect::<Result<Vec<_>, _>>()?;
    let query = sqlx::query(ADVANCE)
        .bind(texts(|mark| &mark.pipeline))
        .bind(texts(|mark| &mark.sink))
        .bind(texts(|mark| &mark.task))
        .bind(texts(|mark| &mark.state_id))
        .bind(numbers(|mark| mark.generation)?)
        .bind(first_epochs)
        .bind(numbers(|mark| mark.epoch)?)
        .bind(texts(|mark| &mark.positions));
    let mut advanced = Vec::with_capacity(advances.len());
    for row in database.rows(query).await? {
        advanced.push(row.try_get::<String, _>(0)?);
    }
    match advances.iter().find(|advance| !advanced.contains(&advance.mark.task)) {
        Some(advance) => Err(lost(advance.mark).into()),
        None => Ok(()),
    }
}
