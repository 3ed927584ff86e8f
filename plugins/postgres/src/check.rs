//! What `validate --connect` says about the database: looked at, nothing made.

use pipeline_stage::StageError;
use pipeline_tables::{Create, WrittenColumn};
use sqlx::Row;

use crate::database::Database;
use crate::errors::Failure;
use crate::marks::{self, MARKS_TABLE};
use crate::table::{TableName, describe};
use crate::target::fit;

/// Whether tables can be made in a schema; no row and no value when there is no such schema.
const MAY_CREATE: &str = "
    SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = coalesce($1, current_schema())";

const MAY_WRITE_MARKS: &str = "
    SELECT has_table_privilege('pipeline_marks', 'SELECT') AND has_table_privilege('pipeline_marks', 'INSERT')
        AND has_table_privilege('pipeline_marks', 'UPDATE')";

/// All problems with the database.
pub async fn problems(
    database: &mut Database,
    name: &TableName,
    written: &[WrittenColumn],
    create: Create,
) -> Result<Vec<StageError>, Failure> {
    let mut problems = Vec::new();
    if is_true(database, "SELECT current_setting('transaction_read_only') = 'on'").await? {
        problems.push(StageError::config("this server takes no writes, it is read-only").at_option("url"));
    }
    match (describe(database, name).await?, create) {
        (Some(table), _) => {
            for problem in fit(&table, written).err().unwrap_or_default() {
                problems.push(StageError::config(format!("table `{name}`: {problem}")).at_option("table"));
            }
        }
        (None, Create::Never) => problems.push(missing(name)),
        (None, Create::IfMissing) => problems.extend(may_create(database, &name.to_string(), name.schema()).await?),
    }
    match marks::is_there(database).await? {
        true if !is_true(database, MAY_WRITE_MARKS).await? => {
            let message =
                format!("this user may not write the marks; GRANT SELECT, INSERT, UPDATE ON {MARKS_TABLE} TO the user");
            problems.push(StageError::config(message).at_option("url"));
        }
        true => {}
        false => problems.extend(may_create(database, MARKS_TABLE, None).await?),
    }
    Ok(problems)
}

/// The error about a table that is not to be made.
pub fn missing(name: &TableName) -> StageError {
    StageError::config(format!("table `{name}` does not exist; make it, or leave `create` at `if_missing`"))
        .at_option("table")
}

async fn may_create(database: &mut Database, table: &str, schema: Option<&str>) -> Result<Option<StageError>, Failure> {
    let rows = database.rows(sqlx::query(MAY_CREATE).bind(schema)).await?;
    let may_create: Option<bool> = rows.first().map(|row| row.try_get(0)).transpose()?;
    let problem = match (may_create, schema) {
        (Some(true), _) => return Ok(None),
        (None, Some(schema)) => format!("schema `{schema}` does not exist; CREATE SCHEMA makes it"),
        (None, None) => format!("table `{table}` cannot be made: no schema of the search path exists"),
        (Some(false), _) => {
            format!("table `{table}` does not exist, and this user may not make it; GRANT CREATE ON its schema")
        }
    };
    Ok(Some(StageError::config(problem).at_option("table")))
}

async fn is_true(database: &mut Database, question: &'static str) -> Result<bool, Failure> {
    let rows = database.rows(sqlx::query(question)).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}
