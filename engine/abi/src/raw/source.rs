//! What passes between the engine and a source.

use std::ffi::{c_char, c_void};

use super::FFI_ArrowArray;

/// `PipelinePartition`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawPartition {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub number: u32,
    /// See the header.
    pub name: *const c_char,
}

/// `PipelinePosition`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawPosition {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub offset: u64,
    /// See the header.
    pub detail: *const c_char,
}

/// `PipelineAssignment`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawAssignment {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub gained: Option<unsafe extern "C" fn(*mut c_void, *const RawPartition)>,
    /// See the header.
    pub revoked: Option<unsafe extern "C" fn(*mut c_void, *const RawPartition)>,
    /// See the header.
    pub lost: Option<unsafe extern "C" fn(*mut c_void, *const RawPartition)>,
    /// See the header.
    pub last: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// `PipelineBatch`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawBatch {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub rows: *mut FFI_ArrowArray,
    /// See the header.
    pub offsets: *const u64,
    /// See the header.
    pub n_offsets: usize,
    /// See the header.
    pub topic: *const c_char,
    /// See the header.
    pub partition: u32,
    /// See the header.
    pub header: *const u8,
    /// See the header.
    pub header_length: usize,
}

/// `PipelineFound`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawFound {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub rows: Option<unsafe extern "C" fn(*mut c_void, *const RawBatch) -> i32>,
    /// See the header.
    pub position: Option<unsafe extern "C" fn(*mut c_void, *const RawPosition)>,
    /// See the header.
    pub lag: Option<unsafe extern "C" fn(*mut c_void, u64)>,
    /// See the header.
    pub over: Option<unsafe extern "C" fn(*mut c_void)>,
}
