//! Whether memory that a library points to is there at all.
//!
//! Arrow's C data interface has no lengths of buffers. An offset or a length that is far too large would end the
//! process when it is followed; the kernel can be asked before. It costs below a microsecond, so only what is large is
//! asked about: mistakes in small numbers mostly stay within memory that is there, and cannot be found out.

/// A column of 8,192 numbers has as many bytes; what has more is text, or is rare.
const LARGE: usize = 64 << 10;

/// False when some of these bytes are not there, as far as the kernel can tell for little.
pub fn is_there(from: *const u8, n_bytes: usize) -> bool {
    n_bytes <= LARGE || is_mapped(from, n_bytes)
}

#[cfg(not(target_os = "linux"))]
fn is_mapped(_: *const u8, _: usize) -> bool {
    true
}

#[cfg(target_os = "linux")]
fn is_mapped(from: *const u8, n_bytes: usize) -> bool {
    /// The smallest that there is; a multiple of it is what the kernel wants.
    const PAGE: usize = 4_096;
    let Some(end) = from.addr().checked_add(n_bytes) else { return false };
    // Rounded down to the largest page that a machine may have.
    let start = from.map_addr(|address| address & !(page_size().max(PAGE) - 1));
    // SAFETY: it starts no writing: nothing that is mapped here is a shared file. It fails where nothing is mapped.
    let is_without_hole = unsafe { libc::msync(start.cast_mut().cast(), end - start.addr(), libc::MS_ASYNC) } == 0;
    // Memory may be reserved without being readable: behind the end of a heap, for one.
    is_without_hole && is_readable(from.wrapping_add(n_bytes - 1))
}

#[cfg(target_os = "linux")]
fn page_size() -> usize {
    // SAFETY: a question about the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0)
}

/// Lets the kernel read a byte, which fails in words where reading it here would end the process.
#[cfg(target_os = "linux")]
fn is_readable(byte: *const u8) -> bool {
    let mut copy = 0_u8;
    let to = libc::iovec { iov_base: std::ptr::from_mut(&mut copy).cast(), iov_len: 1 };
    let from = libc::iovec { iov_base: byte.cast_mut().cast(), iov_len: 1 };
    // SAFETY: the kernel copies one byte into `copy`, or says that it cannot.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
    // Where the call is forbidden nothing is known.
    copied == 1 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_holes_and_what_cannot_be_read() {
        let size = 4 * LARGE;
        // SAFETY: new memory, which nobody else uses.
        let memory = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, -1, 0)
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let start = memory.cast::<u8>().cast_const();
        assert!(is_there(start, size));
        assert!(is_there(start.wrapping_add(1), size - 1), "it need not begin with a page");
        assert!(!is_there(start, usize::MAX), "beyond the end of all memory");
        // SAFETY: the last quarter of it, which nobody reads.
        unsafe { libc::mprotect(memory.wrapping_byte_add(3 * LARGE), LARGE, libc::PROT_NONE) };
        assert!(!is_there(start, size));
        // SAFETY: a quarter in the middle of it, which nobody reads.
        unsafe { libc::munmap(memory.wrapping_byte_add(LARGE), LARGE) };
        assert!(!is_there(start, 3 * LARGE));
        assert!(is_there(start, LARGE), "what is small is not asked about");
    }
}
