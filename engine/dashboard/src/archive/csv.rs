//! `/api/tables/SINK/csv`: the rows of a table as a file, page by page, so that no size is too large.

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;
use pipeline_stage::{Cell, Page, Result, Selection, StageError};

use super::Problem;
use super::questions::{Wanted, next_page};
use crate::server::Shared;

/// Rows that are asked for at once, if they are not too large for that: a page is bounded in bytes.
const AT_ONCE: u32 = 5_000;

struct Download {
    shared: Shared,
    sink: String,
    selection: Selection,
    page: Page,
    has_begun: bool,
    is_over: bool,
}

/// The file. What breaks in the middle ends it before its time, which the browser says.
pub async fn csv(
    State(shared): State<Shared>,
    Path(sink): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let table = shared.archive.table(&sink)?;
    let (selection, page) = (wanted.selection(table)?, wanted.page(table, AT_ONCE)?);
    let mut download =
        Download { shared: shared.clone(), sink: sink.clone(), selection, page, has_begun: false, is_over: false };
    // The first page is asked for here, so that a wrong question has a status of its own.
    let first = download.next().await?;
    let rest = stream::unfold(download, |mut download| async {
        if download.is_over {
            return None;
        }
        let text = download.next().await;
        download.is_over |= text.is_err();
        Some((text, download))
    });
    let body = futures::StreamExt::chain(stream::iter([Ok(first)]), rest);
    let name: String = sink.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
    let disposition = format!("attachment; filename=\"{name}.csv\"");
    let head = [(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, disposition)];
    Ok((head, Body::from_stream(body)).into_response())
}

impl Download {
    async fn next(&mut self) -> Result<String> {
        let table = self.shared.archive.table(&self.sink).map_err(|_| StageError::fatal("the table is gone"))?;
        let found = table.history.page(&self.selection, &self.page).await?;
        let after = next_page(&found, &self.page);
        self.is_over = after.is_none();
        self.page.after = after;
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            write_line(table.info.columns.iter().map(|(name, _)| name.clone()), &mut text);
        }
        write_rows(&found, &mut text);
        Ok(text)
    }
}

fn write_rows(batch: &RecordBatch, text: &mut String) {
    for row in 0..batch.num_rows() {
        let cells = batch.columns().iter().map(|column| match Cell::of(column.as_ref(), row) {
            Cell::Null => String::new(),
            Cell::Text(text) => text.into(),
            Cell::Integer(number) => number.to_string(),
            Cell::Float(number) => number.to_string(),
            Cell::Boolean(is_true) => is_true.to_string(),
            Cell::Time(time) => time.to_rfc3339(),
            Cell::Other(text) => text,
        });
        write_line(cells, text);
    }
}

/// RFC 4180. Text that a spreadsheet would take for a formula gets an apostrophe in front: sensors may send anything.
fn write_line(cells: impl Iterator<Item = String>, text: &mut String) {
    for (number, cell) in cells.enumerate() {
        if 0 < number {
            text.push(',');
        }
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
        let cell = if is_formula { format!("'{cell}") } else { cell };
        match cell.contains(['"', ',', '\n', '\r']) {
            true => text.push_str(&format!("\"{}\"", cell.replace('"', "\"\""))),
            false => text.push_str(&cell),
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_ends_early_or_becomes_a_formula() {
        let mut text = String::new();
        let cells = ["a", "b,\"c\"", "=HYPERLINK(1)", "-12.5", "two\nlines", ""];
        write_line(cells.into_iter().map(str::to_owned), &mut text);
        assert_eq!(text, "a,\"b,\"\"c\"\"\",'=HYPERLINK(1),-12.5,\"two\nlines\",\r\n");
    }
}
