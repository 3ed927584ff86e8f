//! The memory of the process: which allocator it has, and in what pieces and for how long that takes memory of the system.

// An option of the allocator can only be set by a function in C.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

/// librdkafka allocates for each message: a fast allocator, also for C, halves what it costs to take them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What mimalloc calls `purge_delay`, by its place in `mi_option_t`; and what it is if nothing is said, to know it by.
const PURGE_DELAY: c_int = 15;
const USUAL_PURGE_MS: c_long = 1_000;

/// So often all memory that is free goes back to the system. In the allocator's own second a process fills more and more of
/// it, as the buffers of each batch are elsewhere.
const PURGE_MS: c_long = 250;

// SAFETY: so they are declared in mimalloc.h.
unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
    safe fn mi_option_get(option: c_int) -> c_long;
    safe fn mi_collect(force: bool);
}

/// To be called first of all, before there is another thread.
pub fn take_little() {
    small_pages();
    debug_assert!(
        std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() || mi_option_get(PURGE_DELAY) == USUAL_PURGE_MS,
        "another option has this number"
    );
    // SAFETY: nobody else reads the option meanwhile. What the variable says stays.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_MS) };
    // Otherwise the first time would come after the usual delay: it was set when the first memory was given back.
    mi_collect(true);
}

/// Memory comes in pages of the usual size: the buffers of batches come and go, and clearing 2 MiB for each that touches a new
/// huge page costs more than those save, in time and in memory.
fn small_pages() {
    #[cfg(target_os = "linux")]
    // A kernel that cannot has none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
