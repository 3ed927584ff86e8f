//! The third law: the boundary does not matter.

use arrow::array::RecordBatch;

use crate::broken::Broken;
use crate::laws::{cut_into_epochs, run_epoch};
use crate::subject::{Store, Subject};

/// Checks that two stages give the same for the same rows, byte for byte; the first must be as the second is. Gives
/// the number of rows that were compared.
///
/// # Errors
/// With the first difference, or why one of them cannot be built.
pub fn gives_the_same_as(subject: Subject<'_>, like: Subject<'_>, rows: &RecordBatch) -> Result<usize, Broken> {
    let columns = rows.schema();
    let (mut found, mut expected) =
        (subject.build(&columns, &Store::default())?, like.build(&columns, &Store::default())?);
    if found.schema() != expected.schema() {
        let (found, expected) = (found.schema(), expected.schema());
        return Err(Broken::new(format!("its columns are {found}, they must be {expected}")));
    }
    let mut compared = 0;
    for (number, epoch) in cut_into_epochs(rows).iter().enumerate() {
        let batches = std::slice::from_ref(&epoch.rows);
        let found = run_epoch(&mut *found, epoch, batches)?;
        let expected = run_epoch(&mut *expected, epoch, batches)?;
        if let Some(difference) = found.difference(&expected) {
            return Err(Broken::new(format!("in epoch {number} {difference}")));
        }
        compared += found.origins.len();
    }
    match compared {
        0 => Err(Broken::new("neither gave a row: nothing was compared")),
        _ => Ok(compared),
    }
}
