//! What a reader of a library says it has found; believed only once it is checked.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use pipeline_blocking::Read;
use pipeline_stage::{MAX_BATCH_ROWS, Position, RawRows, Result, SourceBatch, SourceRows, StageError};

use super::rows::import;
use crate::exchange::{owned, read_position, structure};
use crate::memory::slice;
use crate::payloads;
use crate::raw::{FATAL, OK, RawBatch, RawFound, RawPosition};

/// For one call.
pub struct Found<'a> {
    columns: &'a SchemaRef,
    is_raw: bool,
    /// The rows of this call.
    pub batch: Option<SourceBatch>,
    /// Where the reader says it stands.
    pub position: Option<Position>,
    lag: Option<u64>,
    is_over: bool,
    /// The first thing that was wrong.
    wrong: Option<StageError>,
}

impl<'a> Found<'a> {
    /// Nothing yet.
    pub fn new(columns: &'a SchemaRef, is_raw: bool) -> Self {
        Found { columns, is_raw, batch: None, position: None, lag: None, is_over: false, wrong: None }
    }

    /// As the library sees it.
    pub fn raw(&mut self) -> RawFound {
        RawFound {
            struct_size: size_of::<RawFound>() as u32,
            context: std::ptr::from_mut(self).cast(),
            rows: Some(rows),
            position: Some(position),
            lag: Some(lag),
            over: Some(over),
        }
    }

    /// The first thing that was wrong, whatever the library made of it.
    pub fn finish(self, called: Result<()>) -> Result<Self> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => called.map(|()| self),
        }
    }

    fn take(&mut self, raw: &RawBatch) -> Result<()> {
        // SAFETY: an array of the library's, which becomes ours, also when it is wrong (rule 3).
        let batch = unsafe { import(raw.rows, self.columns, None) }?;
        let n_rows = batch.num_rows();
        if self.batch.is_some() {
            return Err(StageError::fatal("the plugin gave rows twice in one call of `read`"));
        }
        if MAX_BATCH_ROWS < n_rows {
            return Err(StageError::fatal(format!(
                "the plugin gave {n_rows} rows at once, at most {MAX_BATCH_ROWS} can be"
            )));
        }
        if raw.n_offsets != n_rows || (raw.offsets.is_null() && 0 < n_rows) {
            let words = format!("the plugin gave {n_rows} rows and {} offsets, it must be one for each", raw.n_offsets);
            return Err(StageError::fatal(words));
        }
        // SAFETY: as many as there are rows (rule 1).
        let offsets = unsafe { slice(raw.offsets, n_rows) }.to_vec();
        if let Some(pair) = offsets.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(StageError::fatal(format!(
                "the plugin gave offset {} after {}, they must rise",
                pair[1], pair[0]
            )));
        }
        let rows = match self.is_raw {
            true => SourceRows::Raw(payload_rows(&batch, raw)?),
            false => SourceRows::Columns(batch),
        };
        self.batch = (n_rows != 0).then_some(SourceBatch { rows, offsets });
        Ok(())
    }
}

fn payload_rows(batch: &RecordBatch, raw: &RawBatch) -> Result<RawRows> {
    let column = |number: usize| batch.column_by_name(payloads::NAMES[number]);
    // A column that is null in every row is as good as none.
    let some = |number: usize| column(number).filter(|column| column.null_count() < column.len());
    let payloads = column(payloads::PAYLOAD).ok_or_else(|| StageError::fatal("the plugin gave no payloads"))?;
    // SAFETY: text of the library's, valid during the call (rule 2).
    let topic = unsafe { owned(raw.topic, "the topic of the plugin's rows") }?;
    // SAFETY: as many bytes as it says (rule 1).
    let header = (!raw.header.is_null()).then(|| Arc::from(unsafe { slice(raw.header, raw.header_length) }));
    Ok(RawRows {
        payloads: payloads.as_binary::<i32>().clone(),
        keys: some(payloads::KEY).map(|keys| keys.as_binary::<i32>().clone()),
        times: some(payloads::TIME).map(|times| times.as_primitive::<TimestampMicrosecondType>().clone()),
        header,
        topic: topic.into(),
        partition: raw.partition,
    })
}

/// What was found, if it can be true of a reader that stood at `before`.
pub fn into_read(found: Found<'_>, before: &Position, until: Option<&Position>) -> Result<Read> {
    let (first, last) = match &found.batch {
        Some(batch) => (batch.offsets.first().copied(), batch.offsets.last().copied()),
        None => (None, None),
    };
    if let Some(first) = first.filter(|first| *first < before.offset) {
        let words = format!("the plugin gave a row of offset {first}, though its reader stood at {}", before.offset);
        return Err(StageError::fatal(words));
    }
    if let (Some(last), Some(until)) = (last, until)
        && until.offset <= last
    {
        let words = format!("the plugin gave a row of offset {last}, it was asked for those before {}", until.offset);
        return Err(StageError::fatal(words));
    }
    let position = match (found.position, last) {
        (Some(position), _) => position,
        (None, None) => before.clone(),
        (None, Some(_)) => {
            return Err(StageError::fatal("the plugin gave rows without saying where its reader stands"));
        }
    };
    let least = last.map_or(before.offset, |last| last.saturating_add(1));
    if position.offset < least {
        let words =
            format!("the plugin's reader says that it stands at {}, it must be {least} at least", position.offset);
        return Err(StageError::fatal(words));
    }
    Ok(Read { rows: found.batch, position, lag: found.lag, is_over: found.is_over })
}

/// Runs what a library says; a mistake is kept for the end of the call.
fn answer(context: *mut c_void, body: impl FnOnce(&mut Found<'_>) -> Result<()>) -> i32 {
    // SAFETY: made by `raw` for this call; the library calls from one thread (rule 4).
    let Some(found) = (unsafe { context.cast::<Found<'_>>().as_mut() }) else { return FATAL };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut *found)));
    let outcome =
        outcome.unwrap_or_else(|_| Err(StageError::fatal("the plugin gave rows that Arrow cannot make sense of")));
    if let Err(error) = outcome {
        found.wrong.get_or_insert(error);
        return FATAL;
    }
    OK
}

unsafe extern "C" fn rows(context: *mut c_void, batch: *const RawBatch) -> i32 {
    answer(context, |found| {
        // SAFETY: a structure of the library's that begins with its size (rule 6).
        let raw = unsafe { structure(batch) }.ok_or_else(|| StageError::fatal("the plugin gave NULL for rows"))?;
        found.take(&raw)
    })
}

unsafe extern "C" fn position(context: *mut c_void, position: *const RawPosition) {
    answer(context, |found| {
        // SAFETY: a position of the library's, valid during the call (rule 1).
        let read = unsafe { read_position(position) }?;
        found.position =
            Some(read.ok_or_else(|| StageError::fatal("the plugin's reader says that it stands at NULL"))?);
        Ok(())
    });
}

unsafe extern "C" fn lag(context: *mut c_void, rows: u64) {
    answer(context, |found| {
        found.lag = Some(rows);
        Ok(())
    });
}

unsafe extern "C" fn over(context: *mut c_void) {
    answer(context, |found| {
        found.is_over = true;
        Ok(())
    });
}
