//! Calls into a library from which an exception may come.

use std::ffi::{CStr, c_char, c_void};

/// Room for the words of an exception; what is longer is cut.
const WORDS_SIZE: usize = 1_024;

// SAFETY: so it is declared in `guard.cpp`.
unsafe extern "C" {
    /// See `guard.cpp`.
    fn pipeline_guard(
        body: unsafe extern "C-unwind" fn(*mut c_void),
        context: *mut c_void,
        words: *mut c_char,
        size: usize,
    ) -> i32;
}

struct Call<F, R> {
    body: Option<F>,
    result: Option<R>,
}

/// Runs a call into a library. A C++ exception that leaves it becomes the error, in its words; a
/// Rust panic that does (`export_plugin!` lets none) ends the process.
///
/// Between the library and this function there must be nothing that has to be dropped.
pub fn guarded<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    let mut call = Call { body: Some(body), result: None };
    let mut words = [0 as c_char; WORDS_SIZE];
    let context = std::ptr::from_mut(&mut call).cast();
    let run = pointer_to_run(&call);
    // SAFETY: `run` gets the call that it is made for, which lives until after it; there is room for the words.
    let threw = unsafe { pipeline_guard(run, context, words.as_mut_ptr(), WORDS_SIZE) };
    match call.result {
        Some(result) if threw == 0 => Ok(result),
        _ => {
            // SAFETY: `snprintf` ends with a NUL, and so do the zeros they were before.
            Err(unsafe { CStr::from_ptr(words.as_ptr()) }.to_string_lossy().into_owned())
        }
    }
}

fn pointer_to_run<F: FnOnce() -> R, R>(_: &Call<F, R>) -> unsafe extern "C-unwind" fn(*mut c_void) {
    run::<F, R>
}

unsafe extern "C-unwind" fn run<F: FnOnce() -> R, R>(context: *mut c_void) {
    // SAFETY: `guarded` hands over its call.
    let call = unsafe { &mut *context.cast::<Call<F, R>>() };
    if let Some(body) = call.body.take() {
        call.result = Some(body());
    }
}
