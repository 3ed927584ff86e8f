//! How long calls are inside of a library, for `pipeline plugin bench`: what is left of a call is the hop.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Off, it costs one load of a variable for each call.
static IS_ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The time inside of libraries, in nanoseconds, without what they had the engine do meanwhile.
    static INSIDE: Cell<i64> = const { Cell::new(0) };
}

/// Starts measuring, in all threads, for the rest of the process.
pub fn measure_calls() {
    IS_ON.store(true, Relaxed);
}

/// The time that calls of `process` by this thread were inside of libraries since it was asked last. What a library
/// asks the engine for (`emit`) does not count.
pub fn inside_of_libraries() -> Duration {
    Duration::from_nanos(INSIDE.take().max(0) as u64)
}

/// A call into a library.
pub(super) fn inside<R>(call: impl FnOnce() -> R) -> R {
    timed(1, call)
}

/// A call back out of it.
pub(super) fn outside<R>(call: impl FnOnce() -> R) -> R {
    timed(-1, call)
}

fn timed<R>(sign: i64, call: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Relaxed) {
        return call();
    }
    let start = Instant::now();
    let result = call();
    let nanoseconds = start.elapsed().as_nanos() as i64;
    INSIDE.set(INSIDE.get() + sign * nanoseconds);
    result
}
