//! Stored rows become rows again: dead letters that somebody wants processed again.

use std::sync::Arc;

use pipeline_stage::{Branches, Kind, Origins, Result, Rows, StageError};

use super::compute::Compute;
use super::decode::DecodedRows;
use super::input::Input;
use super::json_rows::rows_of_json;
use crate::plan::Plan;
use crate::store::StoredRow;

/// A stored row that fits the pipeline and has not entered it yet.
pub enum Ready {
    /// A payload of a source, with its size; the format may reject it again.
    Payload(usize, DecodedRows, usize),
    /// A row for a stage, by one of its edges.
    Row(usize, usize, Rows),
}

impl Ready {
    /// Makes a row ready. The same pipeline always comes to the same result.
    ///
    /// # Errors
    /// `Fatal`, with the reason as it stands behind "cannot be processed again: ", when the pipeline has changed so
    /// that the row does not fit it any more.
    pub fn new(plan: &Plan, inputs: &mut [Input], row: &StoredRow) -> Result<Self> {
        let stage = plan.stages.iter().position(|stage| stage.id == row.stage);
        let stage = stage.ok_or_else(|| StageError::fatal(format!("no stage is called `{}` any more", row.stage)))?;
        if let Some(input) = inputs.iter_mut().find(|input| input.source == stage) {
            let bytes = row.bytes.as_ref().map_or(0, Vec::len);
            return Ok(Ready::Payload(stage, input.decode_again(row)?, bytes));
        }
        if row.beside.is_some() {
            return Err(StageError::fatal(format!("it is a payload, and `{}` is no source any more", row.stage)));
        }
        let edge = row.edge as usize;
        let input = plan.stages[stage].inputs.get(edge);
        let input = input.ok_or_else(|| StageError::fatal(format!("`{}` has fewer inputs now", row.stage)))?;
        // The rows a sink takes have its own schema; those of a transform that of what it reads.
        let schema = match plan.stages[stage].kind {
            Kind::Sink => &plan.stages[stage].schema,
            _ => &plan.stages[*input].schema,
        };
        let batch = rows_of_json(schema, row.bytes.as_deref().unwrap_or_default())?;
        let origins = Origins {
            branches: Branches::All(row.branch),
            ..Origins::new(row.place.as_str().into(), Arc::from([row.offset]))
        };
        Ok(Ready::Row(stage, edge, Rows { batch, origins }))
    }

    /// Puts the row into its stage, where it counts as a row that came in.
    pub fn enter(self, compute: &mut Compute) -> Result<()> {
        match self {
            Ready::Payload(source, decoded, bytes) => compute.read(source, decoded, bytes),
            Ready::Row(stage, edge, rows) => compute.enter(stage, edge, rows),
        }
    }
}

/// What stands between why a letter died and why it could not be processed again.
const IN_VAIN: &str = "; cannot be processed again: ";

/// The new reason of a letter that cannot be processed again; that of an earlier try goes.
pub fn refusal(reason: &str, why: &StageError) -> String {
    let first = reason.split(IN_VAIN).next().unwrap_or_default();
    format!("{first}{IN_VAIN}{}", why.chain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_first_reason_and_the_last() {
        let once = refusal("`p1-3` is not wanted", &StageError::fatal("no stage is called `a` any more"));
        let twice = refusal(&once, &StageError::fatal("`b` has fewer inputs now"));
        assert_eq!(once, "`p1-3` is not wanted; cannot be processed again: no stage is called `a` any more");
        assert_eq!(twice, "`p1-3` is not wanted; cannot be processed again: `b` has fewer inputs now");
    }
}
