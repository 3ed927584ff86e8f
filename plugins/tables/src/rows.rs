//! The rows of a commit one after the other, and which of them a database can never take.

use async_trait::async_trait;
use pipeline_stage::{EpochRows, Refused, Result};

/// Where a row of a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    epoch: u32,
    batch: u32,
    row: u32,
}

impl Place {
    /// Index into the epochs given.
    pub fn epoch(self) -> usize {
        self.epoch as usize
    }

    /// Index into that epoch's batches.
    pub fn batch(self) -> usize {
        self.batch as usize
    }

    /// The row of that batch.
    pub fn row(self) -> usize {
        self.row as usize
    }

    /// The row with the reason why it cannot be taken.
    pub fn refused(self, why: String) -> Refused {
        Refused { epoch: self.epoch(), batch: self.batch(), row: self.row(), why }
    }
}

/// All rows of a commit, in order.
pub fn places(epochs: &[EpochRows]) -> Vec<Place> {
    let mut places = Vec::with_capacity(epochs.iter().map(EpochRows::len).sum());
    for (epoch, rows) in (0u32..).zip(epochs) {
        for (batch, (columns, _)) in (0u32..).zip(rows.batches()) {
            places.extend((0..columns.num_rows() as u32).map(|row| Place { epoch, batch, row }));
        }
    }
    places
}

/// A transaction that is rolled back in the end: rows are written into it to see whether the database takes them.
#[async_trait]
pub trait Trial: Send {
    /// Writes all of these rows after those it has taken, or none; `Some` is why the database takes none.
    ///
    /// # Errors
    /// Everything that is not about the rows.
    async fn write(&mut self, rows: &[Place]) -> Result<Option<String>>;
}

/// Finds the rows that are refused when all are written in order: those that are left out stand in nobody's way.
///
/// Halves what was refused until single rows are left, so *k* bad rows among *n* cost about *k* log *n* writes.
pub async fn find_refused(trial: &mut dyn Trial, rows: &[Place]) -> Result<Vec<Refused>> {
    let mut refused = Vec::new();
    // A stack: the earliest rows are on top, so that a row is judged beside those before it only.
    let mut untried = vec![rows];
    while let Some(part) = untried.pop() {
        if part.is_empty() {
            continue;
        }
        match (trial.write(part).await?, part) {
            (None, _) => {}
            (Some(why), [place]) => refused.push(place.refused(why)),
            (Some(_), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                untried.extend([second, first]);
            }
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes even rows, and each row number (of any batch) only once.
    #[derive(Default)]
    struct OnlyNewEvenRows {
        taken: Vec<usize>,
        n_writes: usize,
    }

    #[async_trait]
    impl Trial for OnlyNewEvenRows {
        async fn write(&mut self, rows: &[Place]) -> Result<Option<String>> {
            self.n_writes += 1;
            let before = self.taken.len();
            for place in rows {
                if place.row() % 2 == 1 || self.taken.contains(&place.row()) {
                    self.taken.truncate(before);
                    return Ok(Some(format!("row {}", place.row())));
                }
                self.taken.push(place.row());
            }
            Ok(None)
        }
    }

    fn rows(numbers: &[u32]) -> Vec<Place> {
        (0..).zip(numbers).map(|(batch, row)| Place { epoch: 0, batch, row: *row }).collect()
    }

    #[tokio::test]
    async fn finds_exactly_the_rows_that_are_refused_in_order() {
        for (numbers, bad) in [
            (vec![], vec![]),
            (vec![2, 4, 6], vec![]),
            (vec![1], vec![0]),
            (vec![2, 3, 4, 2, 5, 6, 6], vec![1, 3, 4, 6]),
            (vec![1, 3, 5, 7], vec![0, 1, 2, 3]),
        ] {
            let refused = find_refused(&mut OnlyNewEvenRows::default(), &rows(&numbers)).await.unwrap();
            assert_eq!(refused.iter().map(|refused| refused.batch).collect::<Vec<_>>(), bad, "{numbers:?}");
            for refused in refused {
                assert_eq!(refused.why, format!("row {}", refused.row));
            }
        }
    }

    #[tokio::test]
    async fn one_bad_row_among_many_costs_few_writes() {
        let numbers: Vec<u32> = (0..4096).map(|i| if i == 1234 { 1 } else { 2 * i }).collect();
        let mut trial = OnlyNewEvenRows::default();
        let refused = find_refused(&mut trial, &rows(&numbers)).await.unwrap();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].batch, 1234);
        assert!(trial.n_writes < 30, "{} writes", trial.n_writes);
    }
}
