//! What a transform gives in one epoch: collected, with its books balanced, and compared.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::display::array_value_to_string;
use pipeline_stage::{ErrorKind, Origin, Outcome, Output, Transform};

use super::epoch::Epoch;
use crate::broken::{Broken, guarded, says_why};

/// What came out in one epoch, with rows numbered among all rows.
#[derive(Debug, Default, PartialEq)]
pub struct EpochOutput {
    /// The rows; none when there is no row.
    pub rows: Option<RecordBatch>,
    /// The input row of each row; none for rows that were made.
    pub origins: Vec<Option<usize>>,
    rejected: Vec<(usize, String)>,
    late: Vec<usize>,
    filtered: u64,
    created: u64,
    held: u64,
}

/// Gives a transform the rows of an epoch, in these batches, and then the end of the epoch.
///
/// # Errors
/// When a call fails or panics, and when the books do not balance.
pub fn run_epoch(transform: &mut dyn Transform, epoch: &Epoch, batches: &[RecordBatch]) -> Result<EpochOutput, Broken> {
    let held_before = guarded(|| Ok(transform.held()))??;
    let (mut found, mut emitted) = (EpochOutput::default(), Vec::new());
    let mut first = epoch.first;
    for batch in batches {
        found.add(process(transform, batch)?, first, batch.num_rows(), &mut emitted)?;
        first += batch.num_rows();
    }
    let mut out = Output::default();
    let ticked = guarded(|| transform.tick(epoch.times, &mut out))?;
    ticked.map_err(|error| Broken::new(format!("failed at a tick: {}", error.chain())))?;
    found.add(out.take(), 0, 0, &mut emitted)?;
    found.held = guarded(|| Ok(transform.held()))??;
    if !emitted.is_empty() {
        let rows = concat_batches(&transform.schema(), &emitted);
        found.rows = Some(rows.map_err(|error| Broken::new(format!("its rows are not of its schema: {error}")))?);
    }
    found.balance(held_before, epoch.rows.num_rows())?;
    Ok(found)
}

/// One batch. An error of kind `Data` makes dead letters of all of its rows, as the engine does it.
fn process(transform: &mut dyn Transform, batch: &RecordBatch) -> Result<Outcome, Broken> {
    let mut out = Output::default();
    match guarded(|| transform.process(0, batch, &mut out))? {
        Ok(()) => Ok(out.take()),
        Err(error) if error.kind() == ErrorKind::Data => {
            says_why(&error)?;
            let mut refused = Output::default();
            (0..batch.num_rows()).for_each(|row| refused.reject(row, error.chain()));
            Ok(refused.take())
        }
        Err(error) => {
            says_why(&error)?;
            Err(error.into())
        }
    }
}

impl EpochOutput {
    fn add(
        &mut self,
        outcome: Outcome,
        first: usize,
        rows_in: usize,
        emitted: &mut Vec<RecordBatch>,
    ) -> Result<(), Broken> {
        let global = |row: u32| match (row as usize) < rows_in {
            true => Ok(first + row as usize),
            false => Err(Broken::new(format!("it named row {row} of a batch of {rows_in} rows"))),
        };
        for (batch, origin) in outcome.emitted {
            let expected = match &origin {
                Origin::Same => rows_in,
                Origin::Rows(rows) => rows.len(),
                Origin::Created => batch.num_rows(),
            };
            if batch.num_rows() != expected {
                let found = batch.num_rows();
                return Err(Broken::new(format!("it gave {found} rows and said from where {expected} rows came")));
            }
            match origin {
                Origin::Same => self.origins.extend((0..rows_in).map(|row| Some(first + row))),
                Origin::Rows(rows) => {
                    for row in rows {
                        self.origins.push(Some(global(row)?));
                    }
                }
                Origin::Created => self.origins.extend((0..batch.num_rows()).map(|_| None)),
            }
            emitted.push(batch);
        }
        for (row, why) in outcome.rejected {
            self.rejected.push((global(row)?, why));
        }
        for row in outcome.late {
            self.late.push(global(row)?);
        }
        self.filtered += outcome.filtered;
        self.created += outcome.created;
        Ok(())
    }

    fn balance(&self, held_before: u64, rows_in: usize) -> Result<(), Broken> {
        let (rows_in, out) = (rows_in as u64, self.origins.len() as u64);
        let (rejected, late) = (self.rejected.len() as u64, self.late.len() as u64);
        let (taken, given) = (held_before + rows_in + self.created, out + self.filtered + rejected + late + self.held);
        if taken == given {
            return Ok(());
        }
        let EpochOutput { filtered, created, held, .. } = self;
        Err(Broken::new(format!(
            "the books do not balance: {held_before} held before + {rows_in} in + {created} created = {taken}, but \
             {out} out + {filtered} filtered + {rejected} rejected + {late} late + {held} held after = {given}"
        )))
    }

    /// The first difference from what it must be, in words; none when both are the same, byte for byte.
    pub fn difference(&self, expected: &EpochOutput) -> Option<String> {
        if self == expected {
            return None;
        }
        let rows = self.origins.len().min(expected.origins.len());
        let of_a_row = (0..rows).find_map(|row| self.difference_of_row(row, expected));
        Some(of_a_row.unwrap_or_else(|| self.difference_of_counts(expected)))
    }

    fn difference_of_row(&self, row: usize, expected: &EpochOutput) -> Option<String> {
        let from = |origin: Option<usize>| origin.map_or("none".into(), |row| format!("row {row}"));
        if self.origins[row] != expected.origins[row] {
            let (found, right) = (from(self.origins[row]), from(expected.origins[row]));
            return Some(format!("row {row} of the output comes from {found} of the input, it must be {right}"));
        }
        let (found, right) = (self.rows.as_ref()?, expected.rows.as_ref()?);
        if found.schema() != right.schema() {
            return Some(format!("the columns are {}, they must be {}", found.schema(), right.schema()));
        }
        let differs = |column: &usize| {
            found.column(*column).slice(row, 1).to_data() != right.column(*column).slice(row, 1).to_data()
        };
        let column = (0..found.num_columns()).find(differs)?;
        let text = |batch: &RecordBatch| {
            let array = batch.column(column);
            match array.is_null(row) {
                true => "null".to_owned(),
                false => format!("`{}`", shortened(&array_value_to_string(array, row).unwrap_or_default())),
            }
        };
        let (name, origin) = (found.schema().field(column).name().clone(), from(self.origins[row]));
        Some(format!("for {origin} of the input `{name}` is {}, it must be {}", text(found), text(right)))
    }

    fn difference_of_counts(&self, expected: &EpochOutput) -> String {
        for (what, found, right) in [
            ("gave", self.origins.len() as u64, expected.origins.len() as u64),
            ("filtered", self.filtered, expected.filtered),
            ("created", self.created, expected.created),
            ("held", self.held, expected.held),
        ] {
            if found != right {
                return format!("it {what} {found} rows, it must be {right}");
            }
        }
        if self.late != expected.late {
            return format!("rows {:?} are late, it must be {:?}", self.late, expected.late);
        }
        format!("the rejected rows are {:?}, they must be {:?}", self.rejected, expected.rejected)
    }
}

/// A text of a row may have a million bytes.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
