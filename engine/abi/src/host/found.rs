//! What a reader of a library says it has found; believed only once it is checked.

use std::ffi::c_void;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use pipeline_blocking::Read;
use pipeline_stage::{MAX_BATCH_ROWS, Position, RawRows, Result, SourceBatch, SourceRows, StageError};

use super::rows::{import, length_of};
use super::said::{Said, listen};
use crate::exchange::{owned, read_position, structure};
use crate::memory::{copied, slice};
use crate::payloads;
use crate::raw::{FATAL, OK, RawBatch, RawFound, RawPosition};

/// More than any header record has: a longer one is a mistake.
const MAX_HEADER_BYTES: usize = 16 << 20;

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
    has_rows: bool,
}

impl<'a> Found<'a> {
    /// Nothing yet.
    pub fn new(columns: &'a SchemaRef, is_raw: bool) -> Said<Self> {
        let (batch, position, lag) = (None, None, None);
        Said::new(Found { columns, is_raw, batch, position, lag, is_over: false, has_rows: false })
    }

    /// As the library sees it.
    pub fn raw(said: &Said<Self>) -> RawFound {
        RawFound {
            struct_size: size_of::<RawFound>() as u32,
            context: said.context(),
            rows: Some(rows),
            position: Some(position),
            lag: Some(lag),
            over: Some(over),
        }
    }

    fn take(&mut self, raw: &RawBatch) -> Result<()> {
        // Before the rows are taken: they may be released then, and what lies beside them with them.
        let offsets = offsets(raw);
        let told = self.is_raw.then(|| told(raw));
        // SAFETY: an array of the library's, which becomes ours, also when it is wrong (rule 3).
        let batch = unsafe { import(raw.rows, self.columns, None) }?;
        if std::mem::replace(&mut self.has_rows, true) {
            return Err(StageError::fatal("the plugin gave rows twice in one call of `read`"));
        }
        let n_rows = batch.num_rows();
        if MAX_BATCH_ROWS < n_rows {
            return Err(StageError::fatal(format!(
                "the plugin gave {n_rows} rows at once, at most {MAX_BATCH_ROWS} can be"
            )));
        }
        let offsets = offsets?;
        let rows = match told {
            Some(told) => SourceRows::Raw(payload_rows(&batch, told?)?),
            None => SourceRows::Columns(batch),
        };
        self.batch = (n_rows != 0).then_some(SourceBatch { rows, offsets });
        Ok(())
    }
}

/// The offsets of rows, one for each, rising.
fn offsets(raw: &RawBatch) -> Result<Vec<u64>> {
    let n_rows = length_of(raw.rows);
    let is_one_each = raw.n_offsets == n_rows && !(raw.offsets.is_null() && 0 < n_rows);
    if !is_one_each {
        let found = if raw.offsets.is_null() { 0 } else { raw.n_offsets };
        let words = format!("the plugin gave {n_rows} rows and {found} offsets, it must be one for each");
        return Err(StageError::fatal(words));
    }
    // More rows than there can be are refused afterwards.
    // SAFETY: as many as there are rows (rule 1).
    let offsets = unsafe { copied(raw.offsets, raw.n_offsets.min(MAX_BATCH_ROWS)) };
    match offsets.windows(2).find(|pair| pair[1] <= pair[0]) {
        None => Ok(offsets),
        Some(pair) => {
            let words = format!("the plugin gave offset {} after {}, they must rise", pair[1], pair[0]);
            Err(StageError::fatal(words))
        }
    }
}

/// What is said about payloads beside their columns.
struct Told {
    topic: Arc<str>,
    partition: u32,
    header: Option<Arc<[u8]>>,
}

fn told(raw: &RawBatch) -> Result<Told> {
    // SAFETY: text of the library's, valid during the call (rule 2).
    let topic = unsafe { owned(raw.topic, "the topic of the plugin's rows") }?.into();
    if MAX_HEADER_BYTES < raw.header_length && !raw.header.is_null() {
        let words = format!("the plugin's header has {} bytes, it may have {MAX_HEADER_BYTES}", raw.header_length);
        return Err(StageError::fatal(words));
    }
    // SAFETY: as many bytes as it says (rule 1).
    let header = (!raw.header.is_null()).then(|| Arc::from(unsafe { slice(raw.header, raw.header_length) }));
    Ok(Told { topic, partition: raw.partition, header })
}

fn payload_rows(batch: &RecordBatch, told: Told) -> Result<RawRows> {
    let column = |number: usize| batch.column_by_name(payloads::NAMES[number]);
    // A column that is null in every row is as good as none.
    let some = |number: usize| column(number).filter(|column| column.null_count() < column.len());
    let payloads = column(payloads::PAYLOAD).ok_or_else(|| StageError::fatal("the plugin gave no payloads"))?;
    Ok(RawRows {
        payloads: payloads.as_binary::<i32>().clone(),
        keys: some(payloads::KEY).map(|keys| keys.as_binary::<i32>().clone()),
        times: some(payloads::TIME).map(|times| times.as_primitive::<TimestampMicrosecondType>().clone()),
        header: told.header,
        topic: told.topic,
        partition: told.partition,
    })
}

/// Where a reader begins that was opened at `from`.
pub fn into_start(found: Found<'_>, from: Option<&Position>) -> Result<Position> {
    if found.has_rows {
        return Err(StageError::fatal("the plugin gave rows in `open`, it must give them in `read`"));
    }
    let Some(start) = found.position else {
        return Err(StageError::fatal(
            "the plugin has opened a partition without saying where it begins: `position` was not called",
        ));
    };
    match from.filter(|from| start.offset < from.offset) {
        None => Ok(start),
        Some(from) => {
            let words = format!("the plugin's reader begins at {}, it was opened at {}", start.offset, from.offset);
            Err(StageError::fatal(words))
        }
    }
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

/// Takes what a library says.
fn answer(context: *mut c_void, body: impl FnOnce(&mut Found<'_>) -> Result<()>) -> i32 {
    // SAFETY: the context of `raw`, in the call that it was made for (rule 1).
    let answered = unsafe { listen(context, body) };
    answered.map_or(FATAL, |()| OK)
}

unsafe extern "C" fn rows(context: *mut c_void, batch: *const RawBatch) -> i32 {
    answer(context, |found| {
        // SAFETY: a structure of the library's that begins with its size (rule 6).
        let raw = unsafe { structure(batch) }?.ok_or_else(|| StageError::fatal("the plugin gave NULL for rows"))?;
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
