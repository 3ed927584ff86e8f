//! What not every processor can do: ask for memory ahead of its use, and multiply and add with one rounding.

// One instruction reads through a pointer, the others are only there on some processors.
#![allow(unsafe_code)]

/// In how large pieces memory comes, in bytes.
const LINE: usize = 64;

/// Asks for values that will be read soon, and does not wait for them. Nothing else happens, whatever they are.
///
/// With many series each stands somewhere else in memory, and waiting is what most of a row's time would go into.
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
    if align_of::<T>() < LINE {
        fetch(first.wrapping_add(size - 1));
    }
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

/// Does some work, which is told whether [`f64::mul_add`] is one instruction in it, as on most processors since 2013. If not,
/// or if that is not known, it is a call that takes longer than what it saves, and the work should do without.
///
/// The closure has to be `#[inline(always)]`, and so has every function in it that is to have the instruction; without
/// optimisation none has it, which only takes time.
#[inline(always)]
pub fn with_fused_products<R>(work: impl FnOnce(bool) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the function wants a processor with these instructions, and this one has them.
        return unsafe { fused(work) };
    }
    work(cfg!(target_arch = "aarch64"))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn fused<R>(work: impl FnOnce(bool) -> R) -> R {
    work(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lines of memory.
    #[repr(align(64))]
    struct Lines(#[expect(dead_code)] [u64; 9]);

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
        prefetch(&[Lines([0; 9]), Lines([0; 9])]);
        assert!(values.iter().copied().eq(0..1_000));
    }

    #[test]
    fn fused_products_are_rounded_once_where_they_are_said_to_be() {
        let (a, minus_square) = (1.0 + f64::EPSILON, -(1.0 + 2.0 * f64::EPSILON));
        let (is_fused, rest) = with_fused_products(
            #[inline(always)]
            |is_fused| (is_fused, a.mul_add(a, minus_square)),
        );
        assert_eq!(rest, f64::EPSILON * f64::EPSILON);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(is_fused, std::arch::is_x86_feature_detected!("fma"));
        #[cfg(target_arch = "aarch64")]
        assert!(is_fused);
    }
}
