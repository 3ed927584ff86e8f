//! Text and structures of the other side.

use std::ffi::{CStr, CString, c_char};

/// The text at a pointer; `None` for NULL, an error for bytes that are no UTF-8.
///
/// # Safety
/// The pointer is NULL or points to bytes that end with a NUL and stay as they are for `'a` (rule 2).
pub(crate) unsafe fn text<'a>(from: *const c_char) -> Result<Option<&'a str>, ()> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: it ends with a NUL, the caller says (rule 2).
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map(Some).map_err(|_| ())
}

/// Text for the other side; a NUL inside would cut it and is left out.
pub(crate) fn c_text(text: &str) -> CString {
    let without_nul: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(without_nul).expect("the NULs are left out")
}

/// Writes text into memory of the other side, cut at a character, with its NUL.
///
/// # Safety
/// There is room for `size` bytes at `to`, or `to` is NULL.
pub(crate) unsafe fn write_text(words: &str, to: *mut c_char, size: u32) {
    if to.is_null() || size == 0 {
        return;
    }
    let mut end = words.len().min(size as usize - 1);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    // SAFETY: `end` is below `size`, and the two do not overlap: one is ours, the other theirs.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), to.cast(), end) };
    // SAFETY: `end` is below `size`.
    unsafe { *to.add(end) = 0 };
}

/// A slice of the other side; NULL with a length of 0 is an empty one, and so is what no slice can be.
///
/// # Safety
/// There are `length` values at `from`, which stay as they are for `'a`.
pub(crate) unsafe fn slice<'a, T>(from: *const T, length: usize) -> &'a [T] {
    let is_too_long = length.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err());
    if from.is_null() || !from.is_aligned() || is_too_long || length == 0 {
        return &[];
    }
    // SAFETY: the caller says that they are there.
    unsafe { std::slice::from_raw_parts(from, length) }
}

/// Copies numbers of the other side, which may lie at any address.
///
/// # Safety
/// There are `length` of them at `from`, or it is NULL.
#[cfg(feature = "host")]
pub(crate) unsafe fn copied<T: Copy + Default>(from: *const T, length: usize) -> Vec<T> {
    if from.is_null() {
        return Vec::new();
    }
    let mut copy = vec![T::default(); length];
    // SAFETY: both have that many bytes, and ours are new.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast(), length * size_of::<T>()) };
    copy
}

/// A structure of which the other side knows `struct_size` bytes; what it does not know is 0.
///
/// # Safety
/// There are `struct_size` bytes at `from`, and `T` may be all 0 from there on (rule 6).
pub(crate) unsafe fn sized<T>(from: *const T, struct_size: u32) -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let known = size_of::<T>().min(struct_size as usize);
    // SAFETY: both have that many bytes, and ours are new.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known) };
    // SAFETY: all fields are plain pointers, numbers and optional functions, for which 0 is a value.
    unsafe { value.assume_init() }
}
