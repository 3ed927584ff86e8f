//! Rows that libraries were given and have not released yet.
//!
//! A library takes rows by copying Arrow's structure, whose `release` gives them back once. Here the engine's own
//! structure gets a number in place of its memory: one that comes back twice is found out, and those that never come
//! back are counted.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow_array::{Array, RecordBatch, StructArray};
use pipeline_stage::{Result, StageError};

use crate::raw::FFI_ArrowArray;

/// A stage may hold rows for good reasons, a window of them for one. One that holds so many batches mostly leaks.
const MANY: u64 = 1_000;

/// The rows of one stage that are with its library.
pub struct Given {
    stage: String,
    /// The first number of this stage; those of another begin elsewhere.
    first: usize,
    kept: Mutex<Kept>,
    /// How many there must be to be told next.
    tell_at: AtomicU64,
    is_released_twice: AtomicBool,
}

#[derive(Default)]
struct Kept {
    n_given: usize,
    arrays: HashMap<usize, Original>,
}

/// What Arrow wants to see again when rows are released.
struct Original {
    release: Option<unsafe extern "C" fn(*mut FFI_ArrowArray)>,
    private_data: *mut c_void,
}

// SAFETY: rows may be released by any thread, which is all that is done with it.
unsafe impl Send for Original {}

/// How many rows a stage may be given before its numbers are those of the next: 2^44, which takes centuries.
const NUMBERS: u32 = usize::BITS * 11 / 16;

/// Of all stages, by the upper bits of their numbers. Rows may be released at any time: none of these ever goes.
static STAGES: RwLock<Vec<Arc<Given>>> = RwLock::new(Vec::new());

impl Given {
    /// Nothing yet, of the stage with this id.
    pub fn new(stage: &str) -> Arc<Self> {
        let mut stages = STAGES.write().unwrap_or_else(PoisonError::into_inner);
        let given = Arc::new(Given {
            stage: stage.into(),
            first: stages.len() << NUMBERS,
            kept: Mutex::default(),
            tell_at: AtomicU64::new(MANY),
            is_released_twice: AtomicBool::new(false),
        });
        stages.push(given.clone());
        given
    }

    /// Rows for the library.
    pub fn export(&self, rows: &RecordBatch) -> FFI_ArrowArray {
        let mut array = FFI_ArrowArray::new(&StructArray::from(rows.clone()).into_data());
        let original = Original { release: array.release, private_data: array.private_data };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.first + kept.n_given;
        kept.n_given += 1;
        kept.arrays.insert(number, original);
        // Never followed: it says which rows come back.
        array.private_data = std::ptr::without_provenance_mut(number);
        array.release = Some(release);
        array
    }

    /// After a call: warns of a library that keeps more and more, and fails if one gave rows back twice.
    pub fn check(&self) -> Result<()> {
        if self.is_released_twice.load(Relaxed) {
            return Err(StageError::fatal("the plugin has released the same rows twice"));
        }
        let n_kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).arrays.len() as u64;
        let tell_at = self.tell_at.load(Relaxed);
        if tell_at < n_kept {
            self.tell_at.store(tell_at * 10, Relaxed);
            tracing::warn!(
                "{}: its plugin keeps {n_kept} batches of rows that it was given; if it has no use for them, it does not `release` them, and memory will run out",
                self.stage
            );
        }
        Ok(())
    }
}

/// Takes rows back, once.
unsafe extern "C" fn release(array: *mut FFI_ArrowArray) {
    // SAFETY: NULL or the structure of whoever releases it.
    let Some(array) = (unsafe { array.as_mut() }) else { return };
    let number = array.private_data.addr();
    let stages = STAGES.read().unwrap_or_else(PoisonError::into_inner);
    let given = stages.get(number >> NUMBERS).cloned();
    drop(stages);
    let original = given.as_ref().and_then(|given| {
        let mut kept = given.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.arrays.remove(&number)
    });
    array.release = None;
    match original {
        Some(Original { release: Some(release), private_data }) => {
            (array.release, array.private_data) = (Some(release), private_data);
            // SAFETY: Arrow's own, with what it wants to see again; the number is gone, so this is the only time.
            unsafe { release(array) };
        }
        _ => {
            if let Some(given) = given {
                given.is_released_twice.store(true, Relaxed);
            }
        }
    }
}
