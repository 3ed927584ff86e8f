//! A call into a library, and what becomes of its status.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use pipeline_stage::{Result, StageError};

use super::guard::guarded;
use crate::raw::{CONFIG, DATA, FATAL, LOST, OK, RawError, TRANSIENT};
use pipeline_blocking::InFlight;

/// Room for a long sentence; what is longer is cut.
const MESSAGE_SIZE: usize = 4_096;
/// Room for the path of an option.
const OPTION_SIZE: usize = 256;

/// Runs a call with room for its error. It is watched, and what it throws becomes an error.
pub fn call(calls: &InFlight, body: impl FnOnce(*mut RawError) -> i32) -> Result<()> {
    let mut message = [0 as c_char; MESSAGE_SIZE];
    let mut option = [0 as c_char; OPTION_SIZE];
    let mut error = RawError {
        struct_size: size_of::<RawError>() as u32,
        message_size: MESSAGE_SIZE as u32,
        message: message.as_mut_ptr(),
        option: option.as_mut_ptr(),
        option_size: OPTION_SIZE as u32,
        retry_after_ms: 0,
    };
    let status = calls.watch(|| guarded(|| body(&mut error))).map_err(|words| threw(&words))?;
    if status == OK {
        return Ok(());
    }
    (message[MESSAGE_SIZE - 1], option[OPTION_SIZE - 1]) = (0, 0);
    let failed = failed(status, &words(&message), &words(&option));
    Err(match error.retry_after_ms {
        0 => failed,
        pause => failed.retry_after(Duration::from_millis(pause.into())),
    })
}

/// What an exception becomes.
pub fn threw(words: &str) -> StageError {
    StageError::fatal(format!("the plugin threw an exception: {words}"))
}

fn words(buffer: &[c_char]) -> String {
    // SAFETY: the last byte is 0, whatever the library has written.
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    text.to_string_lossy().trim().to_owned()
}

/// The error that a status and its words are.
pub fn failed(status: i32, message: &str, option: &str) -> StageError {
    let words = if message.is_empty() { "the plugin failed without words" } else { message };
    let error = match status {
        CONFIG => StageError::config(words),
        DATA => StageError::data(words),
        TRANSIENT => StageError::transient(words),
        LOST => StageError::lost(words),
        FATAL => StageError::fatal(words),
        other => StageError::fatal(format!("the plugin gave the status {other}, which there is not: {words}")),
    };
    if option.is_empty() { error } else { error.at_option(option) }
}
