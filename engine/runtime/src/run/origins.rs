//! Names for the rows that stages give: each has its own place, offset and branch, the same at every computation.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use pipeline_stage::{Branches, Origin, Origins, Result, Rows, StageError};

/// Names the rows that come out of one stage.
pub struct Naming {
    stage: Arc<str>,
    /// `stage/partition`, the place of the rows it makes.
    place: Arc<str>,
    /// How many it has made in this epoch.
    made: u64,
}

impl Naming {
    /// Of a stage in a task.
    pub fn new(stage: &str, partition: &str) -> Self {
        Naming { stage: stage.into(), place: format!("{stage}/{partition}").into(), made: 0 }
    }

    /// An epoch begins: rows that are made count from 0 again.
    pub fn begin_epoch(&mut self) {
        self.made = 0;
    }

    /// The origins of the rows of each batch that one call of the stage has given.
    ///
    /// # Errors
    /// `Fatal` when the stage names rows that are not in the batch it was `given`.
    pub fn name(&mut self, given: Option<&Rows>, emitted: &[(usize, &Origin)], epoch: u64) -> Result<Vec<Origins>> {
        // The usual case: each row has one below, and all have come the same way.
        if let ([(n_rows, Origin::Same)], Some(given)) = (emitted, given)
            && let Branches::All(branch) = given.origins.branches
            && given.batch.num_rows() == *n_rows
        {
            let branches = Branches::All(Branches::below(branch, &self.stage, 0));
            return Ok(vec![Origins { branches, ..given.origins.clone() }]);
        }
        let mut children = Children::of(given);
        emitted
            .iter()
            .map(|(n_rows, origin)| match (origin, given) {
                (Origin::Same, Some(given)) if given.batch.num_rows() == *n_rows => {
                    children.name(given, &self.stage, (0..*n_rows).collect())
                }
                (Origin::Rows(rows), Some(given)) if rows.len() == *n_rows => {
                    children.name(given, &self.stage, rows.iter().map(|row| *row as usize).collect())
                }
                (Origin::Created, _) => Ok(self.made(*n_rows, epoch)),
                _ => Err(unknown_row()),
            })
            .collect()
    }

    /// Rows without an input row are named by the epoch and a running number.
    fn made(&mut self, n_rows: usize, epoch: u64) -> Origins {
        let numbers = self.made..self.made + n_rows as u64;
        self.made = numbers.end;
        Origins {
            place: self.place.clone(),
            offsets: vec![epoch; n_rows].into(),
            branches: Branches::Each(numbers.collect()),
        }
    }
}

/// How many rows each row of a batch has below it so far.
struct Children {
    counts: Vec<u64>,
    /// The branch of a first child, by the branch of the row above: that of the last row is mostly that of the next.
    last: Option<(u64, u64)>,
}

impl Children {
    fn of(given: Option<&Rows>) -> Self {
        Children { counts: vec![0; given.map_or(0, |given| given.batch.num_rows())], last: None }
    }

    fn name(&mut self, given: &Rows, stage: &str, rows: Vec<usize>) -> Result<Origins> {
        if rows.iter().any(|row| self.counts.len() <= *row) {
            return Err(unknown_row());
        }
        let branches: Arc<[u64]> =
            rows.iter().map(|row| self.branch(given.origins.branch(*row), stage, *row)).collect();
        let branches = match branches.first() {
            Some(first) if branches.iter().all(|branch| branch == first) => Branches::All(*first),
            _ => Branches::Each(branches),
        };
        Ok(Origins { branches, ..given.origins.take(&rows) })
    }

    fn branch(&mut self, above: u64, stage: &str, row: usize) -> u64 {
        let nth = self.counts[row];
        self.counts[row] += 1;
        match self.last {
            Some((of, branch)) if nth == 0 && of == above => branch,
            _ => {
                let branch = Branches::below(above, stage, nth);
                if nth == 0 {
                    self.last = Some((above, branch));
                }
                branch
            }
        }
    }
}

fn unknown_row() -> StageError {
    StageError::fatal("the stage names origins that are not in the batch it was given")
}

/// The rows of a batch without some of them.
pub fn without(rows: &Rows, dropped: &[usize]) -> Result<Rows> {
    let kept: Vec<usize> = (0..rows.batch.num_rows()).filter(|row| !dropped.contains(row)).collect();
    let taken = UInt32Array::from_iter_values(kept.iter().map(|row| *row as u32));
    Ok(Rows { batch: take_record_batch(&rows.batch, &taken)?, origins: rows.origins.take(&kept) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn rows(offsets: &[u64]) -> Rows {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(offsets.iter().map(|offset| *offset as i64)));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        Rows { batch, origins: Origins::new("readings/0".into(), offsets.into()) }
    }

    fn names(origins: &[Origins]) -> Vec<(u64, u64)> {
        let of = |origins: &Origins| {
            let rows = origins.offsets.iter().enumerate();
            rows.map(|(row, offset)| (*offset, origins.branch(row))).collect::<Vec<_>>()
        };
        origins.iter().flat_map(of).collect()
    }

    #[test]
    fn one_row_for_one_is_named_alike_however_it_is_given() {
        let given = rows(&[3, 6, 9]);
        let same = Naming::new("twice", "0").name(Some(&given), &[(3, &Origin::Same)], 1).unwrap();
        let cut = [Origin::Rows(vec![0]), Origin::Rows(vec![1, 2])];
        let cut = Naming::new("twice", "0").name(Some(&given), &[(1, &cut[0]), (2, &cut[1])], 1).unwrap();
        assert_eq!(names(&same), names(&cut));
        assert_ne!(same[0].branch(0), 0);
    }

    #[test]
    fn all_rows_of_one_row_have_different_names_at_every_depth() {
        let given = rows(&[3, 6]);
        let twice = Origin::Rows(vec![0, 0, 1, 1]);
        let first = Naming::new("twice", "0").name(Some(&given), &[(4, &twice), (2, &Origin::Same)], 1).unwrap();
        let below = Rows { batch: rows(&[3, 3, 6, 6]).batch, origins: first[0].clone() };
        let second =
            Naming::new("twice", "0").name(Some(&below), &[(4, &Origin::Same), (4, &Origin::Same)], 1).unwrap();
        for (origins, count) in [(&first, 6), (&second, 8)] {
            assert_eq!(names(origins).into_iter().collect::<BTreeSet<_>>().len(), count, "{origins:?}");
        }
    }

    #[test]
    fn made_rows_are_numbered_within_their_epoch() {
        let mut naming = Naming::new("windows", "0");
        let made = |naming: &mut Naming, epoch| names(&naming.name(None, &[(2, &Origin::Created)], epoch).unwrap());
        assert_eq!(made(&mut naming, 7), [(7, 0), (7, 1)]);
        assert_eq!(made(&mut naming, 7), [(7, 2), (7, 3)]);
        naming.begin_epoch();
        assert_eq!(made(&mut naming, 8), [(8, 0), (8, 1)]);
    }

    #[test]
    fn rows_that_were_not_given_are_refused() {
        let given = rows(&[3]);
        for (given, n_rows, origin) in
            [(Some(&given), 2, Origin::Same), (Some(&given), 1, Origin::Rows(vec![1])), (None, 1, Origin::Same)]
        {
            let error = Naming::new("twice", "0").name(given, &[(n_rows, &origin)], 1).unwrap_err();
            assert!(error.to_string().contains("not in the batch"), "{origin:?}");
        }
    }

    #[test]
    fn the_rows_that_are_left_keep_their_names() {
        let mut all = rows(&[3, 6, 9]);
        all.origins.branches = Branches::Each(Arc::from([10, 11, 12]));
        let left = without(&all, &[1]).unwrap();
        assert_eq!((left.batch.num_rows(), names(&[left.origins])), (2, vec![(3, 10), (9, 12)]));
    }
}
