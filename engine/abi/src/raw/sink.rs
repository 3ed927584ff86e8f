//! What passes between the engine and a sink.

use std::ffi::{c_char, c_void};

use super::FFI_ArrowArray;

/// `PipelineMark`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawMark {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub pipeline: *const c_char,
    /// See the header.
    pub sink: *const c_char,
    /// See the header.
    pub task: *const c_char,
    /// See the header.
    pub state_id: *const c_char,
    /// See the header.
    pub generation: u64,
    /// See the header.
    pub epoch: u64,
    /// See the header.
    pub positions: *const c_char,
    /// See the header.
    pub detail: *const c_char,
}

/// `PipelineOwner`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawOwner {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub pipeline: *const c_char,
    /// See the header.
    pub sink: *const c_char,
    /// See the header.
    pub task: *const c_char,
    /// See the header.
    pub state_id: *const c_char,
    /// See the header.
    pub generation: u64,
    /// See the header.
    pub stored: *const RawMark,
    /// See the header.
    pub takes_over: i32,
}

/// `PipelineClaim`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawClaim {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub at: Option<unsafe extern "C" fn(*mut c_void, *const RawMark)>,
}

/// `PipelineRows`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawRowsOf {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub rows: *mut FFI_ArrowArray,
    /// See the header.
    pub place: *const c_char,
    /// See the header.
    pub offsets: *const u64,
    /// See the header.
    pub branch: u64,
    /// See the header.
    pub branches: *const u64,
}

/// `PipelineEpoch`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawEpoch {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub mark: *const RawMark,
    /// See the header.
    pub rows: *const *const RawRowsOf,
    /// See the header.
    pub n_rows: usize,
}

/// `PipelineCommit`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawCommit {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub refuse: Option<unsafe extern "C" fn(*mut c_void, usize, usize, usize, *const c_char)>,
    /// See the header.
    pub detail: Option<unsafe extern "C" fn(*mut c_void, usize, *const c_char)>,
    /// See the header.
    pub row_id: Option<unsafe extern "C" fn(*mut c_void, usize, usize, usize, *mut c_char) -> i32>,
}

/// `PipelineAlert`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawAlert {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub id: *const c_char,
    /// See the header.
    pub json: *const c_char,
    /// See the header.
    pub digest_of: u64,
}
