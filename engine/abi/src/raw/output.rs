//! What transforms and detectors say of rows and of their state.

use std::ffi::{c_char, c_void};

use super::FFI_ArrowArray;

/// `PipelineOutput`.
#[repr(C)]
#[derive(Debug)]
pub struct RawOutput {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub emit: Option<unsafe extern "C" fn(*mut c_void, *mut FFI_ArrowArray, *const u32, usize) -> i32>,
    /// See the header.
    pub emit_created: Option<unsafe extern "C" fn(*mut c_void, *mut FFI_ArrowArray) -> i32>,
    /// See the header.
    pub reject: Option<unsafe extern "C" fn(*mut c_void, u32, *const c_char)>,
    /// See the header.
    pub late: Option<unsafe extern "C" fn(*mut c_void, u32)>,
    /// See the header.
    pub filtered: Option<unsafe extern "C" fn(*mut c_void, u64)>,
    /// See the header.
    pub created: Option<unsafe extern "C" fn(*mut c_void, u64)>,
}

/// `PipelineState`.
#[repr(C)]
#[derive(Debug)]
pub struct RawState {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub put: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize, *const u8, usize) -> i32>,
    /// See the header.
    pub forget: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize) -> i32>,
}

/// `PipelineReading`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawReading {
    /// See the header.
    pub at: i64,
    /// See the header.
    pub value: f64,
}

/// `PipelineScore`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RawScore {
    /// See the header.
    pub score: f64,
    /// See the header.
    pub expected: f64,
    /// See the header.
    pub lower: f64,
    /// See the header.
    pub upper: f64,
    /// See the header.
    pub statistic: f64,
    /// See the header.
    pub is_anomaly: i32,
}
