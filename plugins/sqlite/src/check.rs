//! What `validate --connect` says about the file: looked at, nothing made or changed.

use std::path::Path;

use pipeline_stage::StageError;
use pipeline_tables::{Create, WrittenColumn};

use crate::database::Database;
use crate::errors::Failure;
use crate::marks;
use crate::table::describe;

/// All problems with the file and its table.
pub async fn problems(
    path: &Path,
    table: &str,
    written: &[WrittenColumn],
    create: Create,
) -> Result<Vec<StageError>, Failure> {
    let at_table = |message: String| StageError::config(message).at_option("table");
    let must_exist = create == Create::Never;
    if let Some(problem) = path_problem(path) {
        return Ok(vec![StageError::config(problem).at_option("path")]);
    }
    if !path.exists() {
        return Ok(must_exist.then(|| at_table(missing(table))).into_iter().collect());
    }
    let mut database = Database::look(path).await?;
    marks::is_there(&mut database).await?;
    match describe(&mut database, table).await? {
        Some(found) => {
            let problems = found.problems(table, written).into_iter();
            Ok(problems.map(|problem| at_table(format!("table `{table}`: {problem}"))).collect())
        }
        None if must_exist => Ok(vec![at_table(missing(table))]),
        None => Ok(Vec::new()),
    }
}

/// What is wrong when a table is not there and is not to be made.
pub fn missing(table: &str) -> String {
    format!("table `{table}` does not exist; make it, or leave `create` at `if_missing`")
}

/// Why a path can never be that of a file: it is a folder, or goes through a file.
pub fn path_problem(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some(format!("`{}` is a folder; name a file in it", path.display()));
    }
    // Folders can be made below a folder, not below a file.
    let above = path.ancestors().skip(1).find(|above| above.exists())?;
    (!above.is_dir()).then(|| format!("`{}` cannot be made: `{}` is not a folder", path.display(), above.display()))
}
