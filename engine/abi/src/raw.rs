//! The structures of `pipeline_plugin.h`, field by field; the header says what they mean.
//!
//! Functions of a stage are `C-unwind`: they must not unwind, and one that does all the same is caught.

use std::ffi::{c_char, c_void};

pub use arrow_data::ffi::FFI_ArrowArray;
pub use arrow_schema::ffi::FFI_ArrowSchema;

/// Raised when an old library cannot be loaded any more.
pub const ABI_MAJOR: u32 = 1;
/// Raised when something was added.
pub const ABI_MINOR: u32 = 0;

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

/// `PIPELINE_TRANSFORM`.
pub const TRANSFORM: u32 = 2;
/// `PIPELINE_DETECTOR`.
pub const DETECTOR: u32 = 3;

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
}

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

/// `PipelineStage`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawStage {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub kind: u32,
    /// See the header.
    pub name: *const c_char,
    /// See the header.
    pub example: *const c_char,
    /// See the header.
    pub schema: *const c_char,
    /// See the header.
    pub build:
        Option<unsafe extern "C-unwind" fn(*const RawStage, *const RawBuild, *mut RawBuilt, *mut RawError) -> i32>,
    /// See the header.
    pub destroy: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    /// See the header.
    pub process: Option<
        unsafe extern "C-unwind" fn(*mut c_void, u32, *mut FFI_ArrowArray, *const RawOutput, *mut RawError) -> i32,
    >,
    /// See the header.
    pub tick: Option<unsafe extern "C-unwind" fn(*mut c_void, i64, i64, *const RawOutput, *mut RawError) -> i32>,
    /// See the header.
    pub save: Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawState, *mut RawError) -> i32>,
    /// See the header.
    pub held: Option<unsafe extern "C-unwind" fn(*mut c_void) -> u64>,
    /// See the header.
    pub start: Option<unsafe extern "C-unwind" fn(*const c_void, *mut c_void)>,
    /// See the header.
    pub observe:
        Option<unsafe extern "C-unwind" fn(*const c_void, *mut c_void, *const RawReading, *mut RawScore) -> i32>,
    /// See the header.
    pub load: Option<unsafe extern "C-unwind" fn(*const c_void, *const u8, usize, *mut c_void, *mut RawError) -> i32>,
    /// See the header.
    pub statistic: *const c_char,
    /// See the header.
    pub state_version: u16,
}

/// `PipelinePlugin`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawPlugin {
    /// See the header.
    pub abi_major: u32,
    /// See the header.
    pub abi_minor: u32,
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub name: *const c_char,
    /// See the header.
    pub version: *const c_char,
    /// See the header.
    pub stages: *const *const RawStage,
    /// See the header.
    pub n_stages: usize,
}
