//! Epochs for a sink of a library, and what it says of them.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};

use pipeline_stage::{Branches, Commit, EpochRows, Refused, Result, Rows, StageError};

use super::build::Handle;
use super::said::{Said, listen};
use crate::exchange::{WrittenMark, optional, pointer};
use crate::memory::{c_text, text};
use crate::raw::*;

/// The room that a row's id takes, with its NUL.
const ID_SIZE: usize = 20;

/// Epochs with all that C needs of them.
pub struct WrittenEpochs<'a> {
    marks: Vec<WrittenMark>,
    /// Of each epoch.
    rows: Vec<Vec<WrittenRows<'a>>>,
}

struct WrittenRows<'a> {
    array: FFI_ArrowArray,
    place: CString,
    rows: &'a Rows,
}

/// Epochs as C sees them; valid as long as what they were made of.
pub struct RawEpochs {
    epochs: Vec<RawEpoch>,
    _rows: Vec<(Vec<RawRowsOf>, Vec<*const RawRowsOf>)>,
    _marks: Vec<RawMark>,
}

impl<'a> WrittenEpochs<'a> {
    /// Exports the rows.
    pub fn new(epochs: &'a [EpochRows], handle: &Handle) -> Self {
        let export = |rows: &'a Rows| WrittenRows {
            array: handle.export(&rows.batch),
            place: c_text(&rows.origins.place),
            rows,
        };
        WrittenEpochs {
            marks: epochs.iter().map(|epoch| WrittenMark::new(&epoch.mark)).collect(),
            rows: epochs.iter().map(|epoch| epoch.rows.iter().map(export).collect()).collect(),
        }
    }

    /// As the library sees them.
    pub fn raw(&mut self) -> RawEpochs {
        let marks: Vec<RawMark> = self.marks.iter().map(WrittenMark::raw).collect();
        let rows: Vec<(Vec<RawRowsOf>, Vec<*const RawRowsOf>)> = self
            .rows
            .iter_mut()
            .map(|rows| {
                let raw: Vec<RawRowsOf> = rows.iter_mut().map(WrittenRows::raw).collect();
                let pointers = raw.iter().map(std::ptr::from_ref).collect();
                (raw, pointers)
            })
            .collect();
        let epoch = |(mark, (_, rows)): (&RawMark, &(Vec<RawRowsOf>, Vec<*const RawRowsOf>))| RawEpoch {
            struct_size: size_of::<RawEpoch>() as u32,
            mark,
            rows: rows.as_ptr(),
            n_rows: rows.len(),
        };
        let epochs = marks.iter().zip(&rows).map(epoch).collect();
        // What the vectors point to stays where it is when they are moved.
        RawEpochs { epochs, _rows: rows, _marks: marks }
    }
}

impl WrittenRows<'_> {
    fn raw(&mut self) -> RawRowsOf {
        let origins = &self.rows.origins;
        let (branch, branches) = match &origins.branches {
            Branches::All(branch) => (*branch, std::ptr::null()),
            Branches::Each(branches) => (0, branches.as_ptr()),
        };
        RawRowsOf {
            struct_size: size_of::<RawRowsOf>() as u32,
            rows: &mut self.array,
            place: pointer(Some(&self.place)),
            offsets: origins.offsets.as_ptr(),
            branch,
            branches,
        }
    }
}

impl RawEpochs {
    /// One for each epoch.
    pub fn pointers(&self) -> Vec<*const RawEpoch> {
        self.epochs.iter().map(std::ptr::from_ref).collect()
    }
}

/// What a sink says of a commit, for one call.
pub struct Committing<'a> {
    epochs: &'a [EpochRows],
    /// By epoch, rows and row: one that is named twice is refused once.
    refused: BTreeMap<(usize, usize, usize), String>,
    details: Vec<Option<String>>,
}

impl<'a> Committing<'a> {
    /// Nothing was said yet.
    pub fn new(epochs: &'a [EpochRows]) -> Said<Self> {
        Said::new(Committing { epochs, refused: BTreeMap::new(), details: vec![None; epochs.len()] })
    }

    /// As the library sees it.
    pub fn raw(said: &Said<Self>) -> RawCommit {
        RawCommit {
            struct_size: size_of::<RawCommit>() as u32,
            context: said.context(),
            refuse: Some(refuse),
            detail: Some(detail),
            row_id: Some(row_id),
        }
    }

    /// What became of the commit.
    pub fn finish(self) -> Result<Commit> {
        if !self.refused.is_empty() {
            let refused = self.refused.into_iter();
            return Ok(Commit::Refused(
                refused.map(|((epoch, batch, row), why)| Refused { epoch, batch, row, why }).collect(),
            ));
        }
        let has_details = self.details.iter().any(Option::is_some);
        Ok(Commit::Done(if has_details { self.details } else { Vec::new() }))
    }

    /// The rows that have a row of this number.
    fn find(&self, epoch: usize, rows: usize, row: usize) -> Result<&'a Rows> {
        let found = self.epochs.get(epoch).and_then(|epoch| epoch.rows.get(rows));
        found.filter(|rows| row < rows.batch.num_rows()).ok_or_else(|| {
            StageError::fatal(format!("the plugin named row {row} of rows {rows} of epoch {epoch}, which there is not"))
        })
    }
}

/// Does what a library asks for.
fn answer(context: *mut c_void, body: impl FnOnce(&mut Committing<'_>) -> Result<()>) -> Option<()> {
    // SAFETY: the context of `raw`, in the call that it was made for (rule 1).
    unsafe { listen(context, body) }
}

unsafe extern "C" fn refuse(context: *mut c_void, epoch: usize, rows: usize, row: usize, why: *const c_char) {
    answer(context, |committing| {
        committing.find(epoch, rows, row)?;
        // SAFETY: NULL, or text for the time of the call (rule 2).
        let why = match unsafe { text(why) } {
            Ok(Some(why)) if !why.trim().is_empty() => why.to_owned(),
            Ok(_) => "the plugin refused it without words".to_owned(),
            Err(()) => "the plugin refused it in words that are not UTF-8".to_owned(),
        };
        committing.refused.entry((epoch, rows, row)).or_insert(why);
        Ok(())
    });
}

unsafe extern "C" fn detail(context: *mut c_void, epoch: usize, detail: *const c_char) {
    answer(context, |committing| {
        // SAFETY: NULL, or text for the time of the call (rule 2).
        let detail = unsafe { optional(detail, "the detail of a mark") }?;
        let words = || StageError::fatal(format!("the plugin gave a detail for epoch {epoch}, which there is not"));
        *committing.details.get_mut(epoch).ok_or_else(words)? = detail;
        Ok(())
    });
}

unsafe extern "C" fn row_id(context: *mut c_void, epoch: usize, rows: usize, row: usize, id: *mut c_char) -> i32 {
    let found = answer(context, |committing| {
        let origins = &committing.find(epoch, rows, row)?.origins;
        let text = origins.row_id(&committing.epochs[epoch].mark.pipeline, row);
        // SAFETY: the library has room for an id.
        unsafe { crate::memory::write_text(&text, id, ID_SIZE as u32) };
        Ok(())
    });
    i32::from(found.is_some())
}
