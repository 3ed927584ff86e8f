//! What a transform of a library says about the rows it was given.

use std::ffi::{c_char, c_void};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipeline_stage::{Origin, Output, Result, StageError};

use super::measure::outside;
use super::rows::{import, length_of};
use super::said::{Said, listen};
use crate::memory::{copied, text};
use crate::raw::{FATAL, FFI_ArrowArray, OK, RawOutput};

/// More rows than any call can speak of.
pub const MAX_COUNT: u64 = 1 << 40;
/// More rows than any stage gives at once: as many origins are read before the rows are looked at.
const MAX_ROWS: usize = 1 << 24;

/// An output as a library sees it, for one call.
pub struct Saying<'a> {
    out: &'a mut Output,
    schema: &'a SchemaRef,
    /// What was given; none in `tick`.
    rows: Option<&'a RecordBatch>,
    /// How many rows were counted in this call.
    counted: u64,
}

impl<'a> Saying<'a> {
    /// For one call.
    pub fn new(out: &'a mut Output, schema: &'a SchemaRef, rows: Option<&'a RecordBatch>) -> Said<Self> {
        Said::new(Saying { out, schema, rows, counted: 0 })
    }

    /// As the library sees it.
    pub fn raw(said: &Said<Self>) -> RawOutput {
        RawOutput {
            struct_size: size_of::<RawOutput>() as u32,
            context: said.context(),
            emit: Some(emit),
            emit_created: Some(emit_created),
            reject: Some(reject),
            late: Some(late),
            filtered: Some(filtered),
            created: Some(created),
        }
    }

    fn n_rows(&self) -> usize {
        self.rows.map_or(0, RecordBatch::num_rows)
    }

    /// Takes rows; without origins row i came from row i.
    fn emit(&mut self, batch: RecordBatch, origins: Option<Vec<u32>>) -> Result<()> {
        match origins {
            None if batch.num_rows() != self.n_rows() => Err(StageError::fatal(format!(
                "the plugin gave {} rows for {} without saying which came from which",
                batch.num_rows(),
                self.n_rows()
            ))),
            None => {
                self.out.emit(batch, Origin::Same);
                Ok(())
            }
            Some(origins) => {
                origins.iter().try_for_each(|row| self.check_row(*row))?;
                self.out.emit(batch, Origin::Rows(origins));
                Ok(())
            }
        }
    }

    /// A number of rows that may be counted: without a limit the books could be balanced by overflow.
    fn count(&mut self, rows: u64) -> Result<u64> {
        self.counted = self.counted.saturating_add(rows);
        match self.counted <= MAX_COUNT {
            true => Ok(rows),
            false => Err(StageError::fatal(format!("the plugin counted {} rows in one call", self.counted))),
        }
    }

    fn check_row(&self, row: u32) -> Result<()> {
        match (row as usize) < self.n_rows() {
            true => Ok(()),
            false => Err(StageError::fatal(format!("the plugin named row {row} of a batch of {} rows", self.n_rows()))),
        }
    }
}

/// Does what a library asks for.
fn answer(context: *mut c_void, body: impl FnOnce(&mut Saying<'_>) -> Result<()>) -> i32 {
    // SAFETY: the context of `raw`, in the call that it was made for (rule 1).
    let answered = outside(|| unsafe { listen(context, body) });
    answered.map_or(FATAL, |()| OK)
}

unsafe extern "C" fn emit(
    context: *mut c_void,
    rows: *mut FFI_ArrowArray,
    origins: *const u32,
    n_origins: usize,
) -> i32 {
    answer(context, |saying| {
        let n_rows = length_of(rows);
        let n_expected = if origins.is_null() { 0 } else { n_rows };
        let fits = n_origins == n_expected && n_origins <= MAX_ROWS;
        // Before the rows are taken: they may be released then, and the origins with them.
        // SAFETY: as many as there are rows (rule 1).
        let kept = (fits && !origins.is_null()).then(|| unsafe { copied(origins, n_origins) });
        // SAFETY: an array of the library's, which becomes ours, also when it is wrong (rule 3).
        let batch = unsafe { import(rows, saying.schema, saying.rows) }?;
        match fits {
            true => saying.emit(batch, kept),
            false => Err(StageError::fatal(format!("the plugin gave {n_rows} rows and {n_origins} origins"))),
        }
    })
}

unsafe extern "C" fn emit_created(context: *mut c_void, rows: *mut FFI_ArrowArray) -> i32 {
    answer(context, |saying| {
        // SAFETY: an array of the library's, which becomes ours (rule 3).
        let batch = unsafe { import(rows, saying.schema, None) }?;
        saying.out.emit(batch, Origin::Created);
        Ok(())
    })
}

unsafe extern "C" fn reject(context: *mut c_void, row: u32, why: *const c_char) {
    answer(context, |saying| {
        saying.check_row(row)?;
        // SAFETY: NULL, or text for the time of the call (rule 2).
        let why = match unsafe { text(why) } {
            Ok(Some(why)) if !why.trim().is_empty() => why.to_owned(),
            Ok(_) => "the plugin rejected it without words".to_owned(),
            Err(()) => "the plugin rejected it in words that are not UTF-8".to_owned(),
        };
        saying.out.reject(row as usize, why);
        Ok(())
    });
}

unsafe extern "C" fn late(context: *mut c_void, row: u32) {
    answer(context, |saying| {
        saying.check_row(row)?;
        saying.out.late(row as usize);
        Ok(())
    });
}

unsafe extern "C" fn filtered(context: *mut c_void, rows: u64) {
    answer(context, |saying| {
        let rows = saying.count(rows)?;
        saying.out.filtered(rows);
        Ok(())
    });
}

unsafe extern "C" fn created(context: *mut c_void, rows: u64) {
    answer(context, |saying| {
        let rows = saying.count(rows)?;
        saying.out.created(rows);
        Ok(())
    });
}
