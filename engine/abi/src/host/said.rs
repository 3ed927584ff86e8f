//! What a library says during a call, through functions that it is given for it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pipeline_stage::{Result, StageError};

/// What is said in one call, and the first thing about it that was wrong.
///
/// A library that speaks while it is listened to, from another thread or from the `release` of what it gives, is
/// refused: two at once would change the same memory.
pub struct Said<T> {
    what: UnsafeCell<T>,
    is_listening: AtomicBool,
    is_wrong: AtomicBool,
    wrong: Mutex<Option<StageError>>,
}

impl<T> Said<T> {
    /// Nothing yet.
    pub fn new(what: T) -> Self {
        Said {
            what: UnsafeCell::new(what),
            is_listening: AtomicBool::new(false),
            is_wrong: AtomicBool::new(false),
            wrong: Mutex::new(None),
        }
    }

    /// What the library hands back with everything it says; valid as long as this stays where it is.
    pub fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// What was said, unless something was wrong, whatever the library made of it.
    pub fn finish(self) -> Result<T> {
        match self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(wrong) => Err(wrong),
            None => Ok(self.what.into_inner()),
        }
    }

    fn refuse(&self, wrong: StageError) {
        // The first one: the others follow from it.
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(wrong);
        self.is_wrong.store(true, Ordering::Relaxed);
    }
}

/// Listens to a library; a mistake is kept for the end of the call. None when it was one.
///
/// # Safety
/// The context is NULL, or that of a `Said<T>` whose call is not over (rule 1).
pub unsafe fn listen<T, R>(context: *mut c_void, body: impl FnOnce(&mut T) -> Result<R>) -> Option<R> {
    // SAFETY: the caller's.
    let said = unsafe { context.cast::<Said<T>>().as_ref() }?;
    if said.is_listening.swap(true, Ordering::Acquire) {
        said.refuse(StageError::fatal(
            "the plugin called the engine while the engine took what it gave: `release` must not, and no other thread",
        ));
        return None;
    }
    // SAFETY: nobody else is here as long as the flag is set.
    let what = unsafe { &mut *said.what.get() };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(what)));
    said.is_listening.store(false, Ordering::Release);
    match outcome.unwrap_or_else(|_| Err(StageError::fatal("the plugin gave what Arrow cannot make sense of"))) {
        Ok(answer) if !said.is_wrong.load(Ordering::Relaxed) => Some(answer),
        Ok(_) => None,
        Err(error) => {
            said.refuse(error);
            None
        }
    }
}
