//! Where a detector's scores stand in its rows.

use arrow::datatypes::Schema;
use pipeline_stage::keyed::SCORE_COLUMNS;

/// The columns of a detector's scores, in the order of [`SCORE_COLUMNS`], with whatever prefix it was given: those that it
/// has added last.
pub fn score_columns(schema: &Schema) -> [Option<usize>; 5] {
    let mut names = schema.fields().iter().rev().map(|field| field.name());
    let prefix = names.find_map(|name| name.strip_suffix("is_anomaly")).unwrap_or_default();
    SCORE_COLUMNS.map(|name| schema.index_of(&format!("{prefix}{name}")).ok())
}
