//! Reading back what a sink has written: what the dashboard shows of the past.
//!
//! A sink type that can be asked says so by [`SinkOptions::history`](crate::SinkOptions::history). It answers while the
//! pipeline runs, by connections of its own, so it never holds up a commit.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;
use crate::position::Timestamp;

/// The table of a sink, to be read. Columns are called as the pipeline calls them, whatever their names in the table.
///
/// Values in questions are those that [`row_to_json`](crate::row_to_json) writes: times are RFC 3339 text. Numbers and
/// booleans may be text, which has every digit in a browser, too; floats that JSON cannot hold are the texts `Infinity`,
/// `-Infinity` and `NaN`. A table that is not there yet has no rows; a column
/// that it lacks has no value in any row of a page. In answers any value may be null, whatever the pipeline says of its
/// columns: others may have made the table.
///
/// Errors are for the person who asks: `Config` for a question that cannot be answered (a column that is not written),
/// `Transient` when the table is out of reach or too slow.
#[async_trait]
pub trait History: Send + Sync {
    /// The columns that are written, of those that reach the sink.
    fn schema(&self) -> SchemaRef;

    /// The columns of each index that the table has, in order, as far as it can be used to sort. Columns that are not
    /// written have the name that they have in the table.
    async fn indexes(&self) -> Result<Vec<Vec<String>>>;

    /// A page of rows, sorted by one column; rows in which it is null come last. Rows of the same value come in the
    /// order in which they are stored, whichever way the page is sorted: what is written meanwhile moves none of them.
    /// A page ends before its limit with the row with which its texts have [`PAGE_BYTES`] together; see
    /// [`Page::is_last`].
    async fn page(&self, rows: &Selection, page: &Page) -> Result<RecordBatch>;

    /// How many rows there are for each combination of values of some columns, the most frequent first: those columns,
    /// and `count`.
    async fn count_by(&self, rows: &Selection, columns: &[String], limit: u32) -> Result<RecordBatch>;

    /// Combinations of values of some columns that occur, sorted: for choosing a series. Only those after `after`, which
    /// has a value for each column, and of which the first column's text begins with `prefix`. Rows in which one of the
    /// columns is null make no combination. Fast where an index begins with the columns, in their order; else every row
    /// is looked at.
    async fn distinct(
        &self,
        columns: &[String],
        prefix: &str,
        after: Option<&[Value]>,
        limit: u32,
    ) -> Result<RecordBatch>;

    /// A series in few points, for a picture: the time from `from` (inclusive) to `until` (exclusive), cut into at most
    /// `points` equal parts, and for each part that has rows with a value: `at` (its begin), `count`, `min`, `max`,
    /// `mean` of a number column; sorted by time. Computed in the database. The column of times is the one that `rows`
    /// names in its `time`, whose limits hold as well.
    async fn summary(
        &self,
        rows: &Selection,
        value: &str,
        from: Timestamp,
        until: Timestamp,
        points: u32,
    ) -> Result<RecordBatch>;
}

/// Which rows are meant. All conditions hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Columns that have these values; null for rows without one.
    pub equal: Vec<(String, Value)>,
    /// A column of times, and the time it lies in: from (inclusive), until (exclusive).
    pub time: Option<(String, Option<Timestamp>, Option<Timestamp>)>,
    /// A boolean column that is true.
    pub only: Option<String>,
}

/// A part of the rows that are meant, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The column they are sorted by.
    pub by: String,
    /// The largest first.
    pub descending: bool,
    /// Where to go on: the last value of the page before in that column, and how many rows with that value were given.
    pub after: Option<(Value, u64)>,
    /// At most so many rows.
    pub limit: u32,
}

/// What the texts of a page may have together, but for its last row: nobody has to keep 5,000 rows of megabytes in memory.
pub const PAGE_BYTES: usize = 4 << 20;

impl Page {
    /// Whether no further page follows this one.
    pub fn is_last(&self, found: &RecordBatch) -> bool {
        found.num_rows() < self.limit as usize && text_bytes(found) < PAGE_BYTES
    }
}

fn text_bytes(rows: &RecordBatch) -> usize {
    let texts = rows.columns().iter().filter_map(|column| column.as_string_opt::<i32>());
    texts
        .map(|texts| {
            texts
                .value_offsets()
                .last()
                .zip(texts.value_offsets().first())
                .map_or(0, |(end, begin)| (end - begin) as usize)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::StringArray;

    use super::*;

    #[test]
    fn a_page_is_the_last_one_if_neither_its_rows_nor_their_texts_are_too_many() {
        let page = Page { by: "text".into(), descending: false, after: None, limit: 3 };
        for (texts, is_last) in [
            (vec!["a".to_owned(); 2], true),
            (vec!["a".to_owned(); 3], false),
            (vec!["a".repeat(PAGE_BYTES)], false),
            (vec!["a".repeat(PAGE_BYTES / 2); 2], false),
            (vec!["a".repeat(PAGE_BYTES - 1)], true),
        ] {
            let count = texts.len();
            let rows =
                RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(texts)) as _)]).expect("a column");
            assert_eq!(page.is_last(&rows), is_last, "{count} rows");
        }
    }
}
