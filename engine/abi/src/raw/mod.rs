//! The structures of `pipeline_plugin.h`, field by field; the header says what they mean.
//!
//! Functions of a stage are `C-unwind`: they must not unwind, and one that does all the same is caught.

mod output;
mod sink;
mod source;
mod stage;

use std::ffi::{c_char, c_void};

pub use arrow_data::ffi::FFI_ArrowArray;
pub use arrow_schema::ffi::FFI_ArrowSchema;

pub use output::*;
pub use sink::*;
pub use source::*;
pub use stage::*;

/// Raised when an old library cannot be loaded any more.
pub const ABI_MAJOR: u32 = 1;
/// Raised when something was added.
pub const ABI_MINOR: u32 = 1;

/// `PIPELINE_OK`.
pub const OK: i32 = 0;
/// `PIPELINE_CONFIG`.
pub const CONFIG: i32 = 1;
/// `PIPELINE_DATA`.
pub const DATA: i32 = 2;
/// `PIPELINE_TRANSIENT`.
pub const TRANSIENT: i32 = 3;
/// `PIPELINE_LOST`.
pub const LOST: i32 = 4;
/// `PIPELINE_FATAL`.
pub const FATAL: i32 = 5;

/// `PIPELINE_SOURCE`.
pub const SOURCE: u32 = 1;
/// `PIPELINE_TRANSFORM`.
pub const TRANSFORM: u32 = 2;
/// `PIPELINE_DETECTOR`.
pub const DETECTOR: u32 = 3;
/// `PIPELINE_SINK`.
pub const SINK: u32 = 4;

/// `PIPELINE_NO_FRAMING`.
pub const NO_FRAMING: u32 = 0;
/// `PIPELINE_LINES`.
pub const LINES: u32 = 1;
/// `PIPELINE_CSV`.
pub const CSV: u32 = 2;

/// `PIPELINE_RAW`.
pub const RAW: u32 = 1;
/// `PIPELINE_CANNOT_REPLAY`.
pub const CANNOT_REPLAY: u32 = 2;
/// `PIPELINE_HAS_PARTITIONS`.
pub const HAS_PARTITIONS: u32 = 4;

/// `PIPELINE_TRANSACTIONAL`.
pub const TRANSACTIONAL: u32 = 1;
/// `PIPELINE_TRUNCATING`.
pub const TRUNCATING: u32 = 2;
/// `PIPELINE_AT_LEAST_ONCE`.
pub const AT_LEAST_ONCE: u32 = 3;
/// `PIPELINE_OUTBOX`.
pub const OUTBOX: u32 = 4;

/// `PIPELINE_DIGEST`.
pub const DIGEST: u32 = 0;
/// `PIPELINE_WAIT`.
pub const WAIT: u32 = 1;

/// `PIPELINE_NO_TIME`.
pub const NO_TIME: i64 = i64::MIN;

/// `PIPELINE_LOG_ERROR` to `PIPELINE_LOG_TRACE`.
pub const LOG_LEVELS: std::ops::RangeInclusive<i32> = 1..=5;

/// `PipelineError`.
#[repr(C)]
#[derive(Debug)]
pub struct RawError {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub message_size: u32,
    /// See the header.
    pub message: *mut c_char,
    /// See the header.
    pub option: *mut c_char,
    /// See the header.
    pub option_size: u32,
    /// See the header.
    pub retry_after_ms: u32,
}

/// `PipelineEngine`.
#[repr(C)]
#[derive(Debug)]
pub struct RawEngine {
    /// See the header.
    pub abi_major: u32,
    /// See the header.
    pub abi_minor: u32,
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub version: *const c_char,
    /// See the header.
    pub log: Option<unsafe extern "C" fn(i32, *const c_char)>,
    /// See the header.
    pub log_level: Option<unsafe extern "C" fn() -> i32>,
}

/// `PipelineOptions`.
#[repr(C)]
#[derive(Debug)]
pub struct RawOptions {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub json: *const c_char,
    /// See the header.
    pub context: *const c_void,
    /// See the header.
    pub number: Option<unsafe extern "C" fn(*const c_void, *const c_char, *mut f64) -> i32>,
    /// See the header.
    pub integer: Option<unsafe extern "C" fn(*const c_void, *const c_char, *mut i64) -> i32>,
    /// See the header.
    pub flag: Option<unsafe extern "C" fn(*const c_void, *const c_char, *mut i32) -> i32>,
    /// See the header.
    pub text: Option<unsafe extern "C" fn(*const c_void, *const c_char, *mut *const c_char) -> i32>,
}

/// `PipelineEntry`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawEntry {
    /// See the header.
    pub key: *const u8,
    /// See the header.
    pub key_length: usize,
    /// See the header.
    pub value: *const u8,
    /// See the header.
    pub value_length: usize,
}

/// `PipelineBuild`.
#[repr(C)]
#[derive(Debug)]
pub struct RawBuild {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub pipeline: *const c_char,
    /// See the header.
    pub id: *const c_char,
    /// See the header.
    pub directory: *const c_char,
    /// See the header.
    pub key: *const *const c_char,
    /// See the header.
    pub n_key: usize,
    /// See the header.
    pub once: i32,
    /// See the header.
    pub options: *const RawOptions,
    /// See the header.
    pub inputs: *const *const FFI_ArrowSchema,
    /// See the header.
    pub n_inputs: usize,
    /// See the header.
    pub state: *const RawEntry,
    /// See the header.
    pub n_state: usize,
    /// See the header.
    pub cold_start: i32,
    /// See the header.
    pub console: *const c_void,
    /// See the header.
    pub print: Option<unsafe extern "C" fn(*const c_void, *const u8, usize) -> i32>,
    /// See the header.
    pub console_is_terminal: i32,
    /// See the header.
    pub is_follower: i32,
    /// See the header.
    pub framing: u32,
    /// See the header.
    pub delimiter: u8,
    /// See the header.
    pub quote: u8,
    /// See the header.
    pub has_header: u8,
    /// See the header.
    pub detector: *const c_char,
    /// See the header.
    pub detector_key: *const *const c_char,
    /// See the header.
    pub n_detector_key: usize,
    /// See the header.
    pub detector_time: *const c_char,
}

/// `PipelineBuilt`.
#[repr(C)]
#[derive(Debug)]
pub struct RawBuilt {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub stage: *mut c_void,
    /// See the header.
    pub schema: FFI_ArrowSchema,
    /// See the header.
    pub bytes_per_series: u64,
    /// See the header.
    pub series_size: usize,
    /// See the header.
    pub flags: u32,
    /// See the header.
    pub delivery: u32,
    /// See the header.
    pub at_most_every_ms: u32,
    /// See the header.
    pub timeout_ms: u32,
    /// See the header.
    pub max_pending: u64,
    /// See the header.
    pub when_full: u32,
    /// See the header.
    pub looks_back: u64,
}
