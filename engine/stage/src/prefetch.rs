//! Memory that is asked for ahead of its use, so that the processor need not wait for it. With many series each stands
//! somewhere else, and waiting is what most of a row's time would go into.

// The processor's instruction is called through a pointer, though nothing is read that the program could see.
#![allow(unsafe_code)]

/// In how large pieces memory comes, in bytes.
const LINE: usize = 64;

/// Asks for values that will be read soon, and does not wait for them. Nothing else happens, whatever they are.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    let size = size_of_val(values);
    if size == 0 {
        return;
    }
    let first = values.as_ptr().cast::<u8>();
    // `step_by` costs more than the one line that it is mostly about.
    let mut at = 0;
    while at < size {
        fetch(first.wrapping_add(at));
        at += LINE;
    }
    // They may begin in the middle of a line.
    fetch(first.wrapping_add(size - 1));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch(place: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every processor of this kind has the instruction, and whatever the address, it neither fails nor changes
    // anything that can be seen.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn fetch(place: *const u8) {
    // SAFETY: as on the other; the instruction touches neither memory nor flags nor the stack.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{place}]", place = in(reg) place, options(nostack, preserves_flags, readonly));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn fetch(_place: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_nothing_and_fails_at_nothing() {
        let values: Vec<u64> = (0..1_000).collect();
        for start in 0..20 {
            for end in start..40 {
                prefetch(&values[start..end]);
            }
        }
        prefetch(&[(); 3]);
        prefetch::<u64>(&[]);
        assert!(values.iter().copied().eq(0..1_000));
    }
}
