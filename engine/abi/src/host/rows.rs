//! Rows of a library: believed only once they are checked.
//!
//! Arrow's C data interface has no lengths of buffers, so that an array which lies about its length cannot be found
//! out from the array alone. What can be known is checked: the shape, offsets that rise, UTF-8, nulls, and that what is
//! large is in memory that is there.

use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, SchemaRef};
use pipeline_stage::{Result, StageError};

use super::mapped::is_there;
use crate::raw::FFI_ArrowArray;

/// The most bytes that one text column of a batch may have: an offset beyond it is a mistake, not a text.
const MAX_TEXT_BYTES: i32 = 1 << 30;

/// Takes an array over, checks it and makes rows of it.
///
/// Columns that are those of `given` are taken from there: they need no check.
///
/// # Safety
/// The array is NULL or a structure of Arrow's C data interface.
pub unsafe fn import(
    array: *mut FFI_ArrowArray,
    schema: &SchemaRef,
    given: Option<&RecordBatch>,
) -> Result<RecordBatch> {
    if array.is_null() || !array.is_aligned() {
        return Err(StageError::fatal("the plugin gave NULL for rows"));
    }
    // SAFETY: it is there; what is left has no `release`, so that it is ours alone (rule 3).
    let taken = unsafe { std::ptr::replace(array, FFI_ArrowArray::empty()) };
    if taken.is_released() {
        return Err(StageError::fatal("the plugin gave rows that are released already"));
    }
    let own: Vec<ArrayData> = given.into_iter().flat_map(RecordBatch::columns).map(|column| column.to_data()).collect();
    check_struct(&taken, schema, &own)?;
    // SAFETY: its shape is that of the schema, as far as can be known.
    let data = unsafe { from_ffi_and_data_type(taken, DataType::Struct(schema.fields().clone())) }?;
    let n_rows = data.len();
    let columns = schema.fields().iter().zip(data.child_data()).map(|(field, column)| {
        let is_whole = data.offset() == 0 && column.len() == n_rows;
        let column = if is_whole { column.clone() } else { column.slice(data.offset(), n_rows) };
        match own.iter().position(|own| own.ptr_eq(&column)) {
            Some(place) => Ok(given.map_or_else(|| make_array(column), |rows| rows.column(place).clone())),
            None => believed(field, column),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
    rows.map_err(|error| StageError::fatal("the plugin gave rows that its columns do not allow").because(error))
}

/// How many rows an array says it has, before it is taken; 0 of what is no array.
pub fn length_of(array: *const FFI_ArrowArray) -> usize {
    let array = if array.is_aligned() { array } else { std::ptr::null() };
    // SAFETY: NULL or a structure of Arrow's.
    unsafe { array.as_ref() }.map_or(0, FFI_ArrowArray::len)
}

fn check_struct(array: &FFI_ArrowArray, schema: &SchemaRef, own: &[ArrayData]) -> Result<()> {
    let wrong = |what: String| Err(StageError::fatal(format!("the plugin gave rows {what}")));
    let raw = layout(array);
    let is_too_long = raw.length.checked_add(raw.offset).is_none_or(|end| i64::from(u32::MAX) < end);
    if raw.length < 0 || raw.offset < 0 || is_too_long {
        return wrong(format!("of length {} and offset {}", raw.length, raw.offset));
    }
    if raw.n_children != schema.fields().len() as i64
        || (raw.children.is_null() && 0 < raw.n_children)
        || !raw.children.is_aligned()
    {
        return wrong(format!("of {} columns, its schema has {}", raw.n_children, schema.fields().len()));
    }
    if raw.n_buffers != 1 || raw.buffers.is_null() || !raw.buffers.is_aligned() {
        return wrong(format!("with {} buffers, a struct has 1", raw.n_buffers));
    }
    // SAFETY: there is one buffer, which is NULL when nothing is null.
    if !unsafe { *raw.buffers }.is_null() && raw.null_count != 0 {
        return wrong("of which some are null as a whole".into());
    }
    for (number, field) in schema.fields().iter().enumerate() {
        // SAFETY: there are as many as it says.
        let child = unsafe { *raw.children.add(number) };
        let child = if child.is_aligned() { child } else { std::ptr::null() };
        // SAFETY: NULL or a structure of Arrow's.
        let Some(child) = (unsafe { child.as_ref() }) else {
            return wrong(format!("whose column `{}` is NULL", field.name()));
        };
        let checked = check_column(child, field, raw.length + raw.offset);
        if let Err(what) = checked.and_then(|()| check_buffers(child, field, own)) {
            return wrong(format!("whose column `{}` {what}", field.name()));
        }
    }
    Ok(())
}

fn check_column(array: &FFI_ArrowArray, field: &Field, needed: i64) -> Result<(), String> {
    let raw = layout(array);
    if array.is_released() {
        return Err("is released already".into());
    }
    if raw.offset < 0 || i64::from(u32::MAX) < raw.offset {
        return Err(format!("has the offset {}", raw.offset));
    }
    if raw.length < needed || i64::from(u32::MAX) < raw.length {
        return Err(format!("has {} rows, the batch needs {needed}", raw.length));
    }
    if raw.null_count < -1 || raw.length < raw.null_count {
        return Err(format!("says that {} of {} rows are null", raw.null_count, raw.length));
    }
    if raw.n_children != 0 || !raw.dictionary.is_null() {
        return Err("has children or a dictionary, its type has none".into());
    }
    let n_buffers = if is_text(field) { 3 } else { 2 };
    if raw.n_buffers != n_buffers || raw.buffers.is_null() || !raw.buffers.is_aligned() {
        return Err(format!("has {} buffers, a {} has {n_buffers}", raw.n_buffers, field.data_type()));
    }
    Ok(())
}

fn is_text(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Utf8 | DataType::Binary)
}

fn check_buffers(array: &FFI_ArrowArray, field: &Field, own: &[ArrayData]) -> Result<(), String> {
    let raw = layout(array);
    let end = raw.offset + raw.length;
    // SAFETY: there are at least two buffers.
    let (nulls, values) = unsafe { (*raw.buffers, *raw.buffers.add(1)) };
    if values.is_null() && 0 < end {
        return Err("has no values: the buffer is NULL".into());
    }
    if nulls.is_null() && 0 < raw.null_count {
        return Err("has nulls, but no buffer that says where".into());
    }
    let (alignment, bits) = match field.data_type() {
        DataType::Boolean => (1, 1),
        _ if is_text(field) => (align_of::<i32>(), 32),
        _ => (align_of::<i64>(), 64),
    };
    if !values.addr().is_multiple_of(alignment) {
        return Err(format!("has a buffer that is not aligned to {alignment} bytes"));
    }
    let end = end as usize;
    let wrong = || format!("has {end} rows, which are not all in memory that is there");
    if !nulls.is_null() && !is_there(nulls.cast(), end.div_ceil(8)) {
        return Err(wrong());
    }
    if !is_text(field) {
        return if is_there(values.cast(), end * bits / 8) { Ok(()) } else { Err(wrong()) };
    }
    // SAFETY: there are three buffers.
    let bytes = unsafe { *raw.buffers.add(2) };
    // The engine's own text rises and is there: to look at it again would cost more than the rest of the call. Arrow
    // reads the last offset of a column that begins behind others, also when it has no rows.
    if end == 0 || own.iter().any(|own| has_text(own, values, bytes, end)) {
        return Ok(());
    }
    if !is_there(values.cast(), (end + 1) * bits / 8) {
        return Err(wrong());
    }
    let n_bytes = check_offsets(values.cast(), end, bytes.is_null())?;
    match is_there(bytes.cast(), n_bytes) {
        true => Ok(()),
        false => Err(format!("has {n_bytes} bytes of text, which are not all in memory that is there")),
    }
}

/// Whether these are the offsets and bytes of a column of the engine's, up to a row that it has.
fn has_text(own: &ArrayData, offsets: *const std::ffi::c_void, bytes: *const std::ffi::c_void, end: usize) -> bool {
    let is_text = matches!(own.data_type(), DataType::Utf8) && own.buffers().len() == 2;
    is_text
        && own.buffers()[0].as_ptr().cast() == offsets
        && own.buffers()[1].as_ptr().cast() == bytes
        && end <= own.offset() + own.len()
}

/// How many bytes of text there must be.
fn check_offsets(offsets: *const i32, count: usize, has_no_bytes: bool) -> Result<usize, String> {
    // SAFETY: text has one offset more than rows; that they are there cannot be known (see the module).
    let offsets = unsafe { std::slice::from_raw_parts(offsets, count + 1) };
    if offsets[0] < 0 || !offsets.is_sorted() {
        return Err("has offsets that do not rise".into());
    }
    match offsets[count] {
        0 => Ok(0),
        last if has_no_bytes => Err(format!("has {last} bytes of text, and a buffer that is NULL")),
        last if MAX_TEXT_BYTES < last => Err(format!("has {last} bytes of text, at most {MAX_TEXT_BYTES} can be")),
        last => Ok(last as usize),
    }
}

/// Arrow's structure, whose fields its own type hides.
#[repr(C)]
struct Layout {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const std::ffi::c_void,
    children: *const *const FFI_ArrowArray,
    dictionary: *const FFI_ArrowArray,
}

fn layout(array: &FFI_ArrowArray) -> &Layout {
    // SAFETY: these are the first fields of the structure, in their order (Arrow's C data interface).
    unsafe { &*std::ptr::from_ref(array).cast::<Layout>() }
}

/// A column that may be believed once its values are checked.
fn believed(field: &Field, column: ArrayData) -> Result<ArrayRef> {
    column.validate_full().map_err(|error| {
        StageError::fatal(format!("the plugin gave a column `{}` that is damaged", field.name())).because(error)
    })?;
    Ok(make_array(column))
}
