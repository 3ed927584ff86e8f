//! Partitions, positions and marks, read and written by both sides.

use std::ffi::{CString, c_char};
use std::mem::offset_of;

use pipeline_stage::{Mark, Partition, Position, Result, StageError};

use crate::memory::{c_text, sized, text};
use crate::raw::{RawBatch, RawMark, RawPartition, RawPosition};

/// A text that must be there.
///
/// # Safety
/// NULL, or text that ends with a NUL and is valid during the call (rule 2).
pub unsafe fn owned(from: *const c_char, what: &str) -> Result<String> {
    // SAFETY: the caller's.
    let found = unsafe { optional(from, what) }?;
    found.ok_or_else(|| StageError::fatal(format!("{what} is NULL")))
}

/// A text that may be missing.
///
/// # Safety
/// NULL, or text that ends with a NUL and is valid during the call (rule 2).
pub unsafe fn optional(from: *const c_char, what: &str) -> Result<Option<String>> {
    // SAFETY: the caller's.
    let found = unsafe { text(from) }.map_err(|()| StageError::fatal(format!("{what} is not UTF-8")))?;
    Ok(found.map(ToOwned::to_owned))
}

/// A structure that the other side makes. All its fields may be 0.
pub trait Structure: Copy {
    /// What an error calls it.
    const NAME: &'static str;
    /// Up to its last field in version 1.0, which whoever made it knew. It stays when fields are added.
    const LEAST: usize;
}

impl Structure for RawPartition {
    const NAME: &'static str = "partition";
    const LEAST: usize = offset_of!(RawPartition, name) + size_of::<*const c_char>();
}

impl Structure for RawPosition {
    const NAME: &'static str = "position";
    const LEAST: usize = offset_of!(RawPosition, detail) + size_of::<*const c_char>();
}

impl Structure for RawMark {
    const NAME: &'static str = "mark";
    const LEAST: usize = offset_of!(RawMark, detail) + size_of::<*const c_char>();
}

impl Structure for RawBatch {
    const NAME: &'static str = "batch";
    const LEAST: usize = offset_of!(RawBatch, header_length) + size_of::<usize>();
}

/// A structure that may be missing, as far as the other side knows it.
///
/// # Safety
/// NULL, or a structure that begins with its size (rule 6).
pub unsafe fn structure<T: Structure>(from: *const T) -> Result<Option<T>> {
    if from.is_null() {
        return Ok(None);
    }
    if !from.is_aligned() {
        return Err(StageError::fatal(format!("a {} is at an odd address", T::NAME)));
    }
    // SAFETY: every structure begins with its size.
    let struct_size = unsafe { *from.cast::<u32>() };
    if (struct_size as usize) < T::LEAST {
        let words = format!("a {} says that it has {struct_size} bytes, it has at least {}", T::NAME, T::LEAST);
        return Err(StageError::fatal(words));
    }
    // SAFETY: it has as many bytes as it says.
    Ok(Some(unsafe { sized(from, struct_size) }))
}

/// Reads a partition.
///
/// # Safety
/// NULL, or a partition of the other side, valid during the call.
pub unsafe fn read_partition(from: *const RawPartition) -> Result<Partition> {
    // SAFETY: the caller's.
    let raw = unsafe { structure(from) }?.ok_or_else(|| StageError::fatal("a partition is NULL"))?;
    // SAFETY: the caller's.
    let name = unsafe { owned(raw.name, "a partition's name") }?;
    Ok(Partition { name: name.into(), number: raw.number })
}

/// Reads a position; none for NULL.
///
/// # Safety
/// NULL, or a position of the other side, valid during the call.
pub unsafe fn read_position(from: *const RawPosition) -> Result<Option<Position>> {
    // SAFETY: the caller's.
    let Some(raw) = (unsafe { structure(from) })? else { return Ok(None) };
    // SAFETY: the caller's.
    let detail = unsafe { optional(raw.detail, "a position's detail") }?;
    Ok(Some(Position { offset: raw.offset, detail }))
}

/// Reads a mark; none for NULL.
///
/// # Safety
/// NULL, or a mark of the other side, valid during the call.
pub unsafe fn read_mark(from: *const RawMark) -> Result<Option<Mark>> {
    // SAFETY: the caller's.
    let Some(raw) = (unsafe { structure(from) })? else { return Ok(None) };
    // SAFETY: the caller's.
    let read = |from, what| unsafe { owned(from, what) };
    Ok(Some(Mark {
        pipeline: read(raw.pipeline, "a mark's pipeline")?,
        sink: read(raw.sink, "a mark's sink")?,
        task: read(raw.task, "a mark's task")?,
        state_id: read(raw.state_id, "a mark's state id")?,
        generation: raw.generation,
        epoch: raw.epoch,
        positions: read(raw.positions, "a mark's positions")?,
        // SAFETY: the caller's.
        detail: unsafe { optional(raw.detail, "a mark's detail") }?,
    }))
}

/// A pointer to a text that may be missing.
pub fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// A partition with its text.
pub struct WrittenPartition {
    name: CString,
    number: u32,
}

impl WrittenPartition {
    pub fn new(partition: &Partition) -> Self {
        WrittenPartition { name: c_text(&partition.name), number: partition.number }
    }

    /// As the other side sees it; valid as long as this.
    pub fn raw(&self) -> RawPartition {
        RawPartition { struct_size: size_of::<RawPartition>() as u32, number: self.number, name: self.name.as_ptr() }
    }
}

/// A position with its text.
pub struct WrittenPosition {
    offset: u64,
    detail: Option<CString>,
}

impl WrittenPosition {
    pub fn new(position: &Position) -> Self {
        WrittenPosition { offset: position.offset, detail: position.detail.as_deref().map(c_text) }
    }

    /// As the other side sees it; valid as long as this.
    pub fn raw(&self) -> RawPosition {
        let struct_size = size_of::<RawPosition>() as u32;
        RawPosition { struct_size, offset: self.offset, detail: pointer(self.detail.as_ref()) }
    }
}

/// A mark with its texts.
pub struct WrittenMark {
    texts: [CString; 5],
    detail: Option<CString>,
    generation: u64,
    epoch: u64,
}

impl WrittenMark {
    pub fn new(mark: &Mark) -> Self {
        let texts = [&mark.pipeline, &mark.sink, &mark.task, &mark.state_id, &mark.positions];
        WrittenMark {
            texts: texts.map(|text| c_text(text)),
            detail: mark.detail.as_deref().map(c_text),
            generation: mark.generation,
            epoch: mark.epoch,
        }
    }

    /// As the other side sees it; valid as long as this.
    pub fn raw(&self) -> RawMark {
        let [pipeline, sink, task, state_id, positions] = self.texts.each_ref().map(|text| text.as_ptr());
        RawMark {
            struct_size: size_of::<RawMark>() as u32,
            pipeline,
            sink,
            task,
            state_id,
            generation: self.generation,
            epoch: self.epoch,
            positions,
            detail: pointer(self.detail.as_ref()),
        }
    }
}
