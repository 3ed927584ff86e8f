//! A stage's descriptor and a library's.

use std::ffi::{c_char, c_void};

use super::*;

/// `PipelineFindings`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawFindings {
    /// See the header.
    pub struct_size: u32,
    /// See the header.
    pub context: *mut c_void,
    /// See the header.
    pub found: Option<unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char)>,
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
    /// See the header.
    pub check: Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawFindings, *mut RawError) -> i32>,
    /// See the header.
    pub partition_count: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut u32, *mut RawError) -> i32>,
    /// See the header.
    pub assignment: Option<unsafe extern "C-unwind" fn(*mut c_void, u32, *const RawAssignment, *mut RawError) -> i32>,
    /// See the header.
    pub open: Option<
        unsafe extern "C-unwind" fn(
            *mut c_void,
            *const RawPartition,
            *const RawPosition,
            *const RawFound,
            *mut *mut c_void,
            *mut RawError,
        ) -> i32,
    >,
    /// See the header.
    pub read: Option<
        unsafe extern "C-unwind" fn(*mut c_void, *const RawPosition, u32, *const RawFound, *mut RawError) -> i32,
    >,
    /// See the header.
    pub close: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    /// See the header.
    pub logged:
        Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawPartition, *const RawPosition, *mut RawError) -> i32>,
    /// See the header.
    pub forget:
        Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawPartition, *const RawPosition, *mut RawError) -> i32>,
    /// See the header.
    pub release: Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawPartition, *mut RawError) -> i32>,
    /// See the header.
    pub claim: Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawOwner, *const RawClaim, *mut RawError) -> i32>,
    /// See the header.
    pub commit: Option<
        unsafe extern "C-unwind" fn(*mut c_void, *const *const RawEpoch, usize, *const RawCommit, *mut RawError) -> i32,
    >,
    /// See the header.
    pub deliver: Option<unsafe extern "C-unwind" fn(*mut c_void, *const RawAlert, *mut RawError) -> i32>,
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

impl RawStage {
    /// A descriptor of a kind without a name that can do nothing yet.
    pub const fn empty(kind: u32) -> Self {
        RawStage {
            struct_size: size_of::<RawStage>() as u32,
            kind,
            name: std::ptr::null(),
            example: std::ptr::null(),
            schema: std::ptr::null(),
            build: None,
            destroy: None,
            process: None,
            tick: None,
            save: None,
            held: None,
            start: None,
            observe: None,
            load: None,
            statistic: std::ptr::null(),
            state_version: 0,
            check: None,
            partition_count: None,
            assignment: None,
            open: None,
            read: None,
            close: None,
            logged: None,
            forget: None,
            release: None,
            claim: None,
            commit: None,
            deliver: None,
        }
    }
}
