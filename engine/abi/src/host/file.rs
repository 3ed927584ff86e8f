//! The file of a library, opened once: what was hashed is what is loaded.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::binary;

/// A library's file.
pub struct LibraryFile {
    path: PathBuf,
    file: File,
    sha256: Option<String>,
}

impl LibraryFile {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(unreadable)?;
        Ok(LibraryFile { path: path.to_owned(), file, sha256: None })
    }

    /// Fails unless this is the SHA-256 of the file that was opened; another one may have taken its place since.
    pub fn check_sha256(&mut self, expected: &str) -> Result<(), String> {
        let found = match self.sha256.take() {
            Some(found) => found,
            None => hash(&self.bytes()?),
        };
        let is_right = found.eq_ignore_ascii_case(expected);
        let words = format!("has the SHA-256 {found}, not the one that is written here");
        self.sha256 = Some(found);
        if is_right { Ok(()) } else { Err(words) }
    }

    /// The bytes of the file, which have this SHA-256.
    pub fn bytes_of(&mut self, sha256: &str) -> Result<Vec<u8>, String> {
        let bytes = self.bytes()?;
        self.sha256 = Some(hash(&bytes));
        self.check_sha256(sha256).map(|()| bytes)
    }

    /// Loads what is at the file's path now.
    ///
    /// # Safety
    /// As `libloading::Library::new`.
    pub unsafe fn load(&self) -> Result<libloading::Library, String> {
        binary::check(&self.file)?;
        // SAFETY: the caller's.
        unsafe { load_now(&self.path) }.map_err(|error| self.cannot(&error, &self.path))
    }

    /// Loads a copy of these bytes in memory that nobody can change. Where there is no such memory (it is Linux that has
    /// it) the file is loaded from its path, right after it was hashed.
    ///
    /// # Safety
    /// As `libloading::Library::new`.
    pub unsafe fn load_sealed(&self, bytes: &[u8]) -> Result<libloading::Library, String> {
        binary::check(&self.file)?;
        #[cfg(target_os = "linux")]
        {
            let path = sealed(bytes).map_err(|error| format!("cannot be copied to memory: {error}"))?;
            // SAFETY: the caller's.
            unsafe { load_now(&path) }.map_err(|error| self.cannot(&error, &path))
        }
        #[cfg(not(target_os = "linux"))]
        {
            // SAFETY: the caller's.
            unsafe { self.load() }
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(unreadable)?;
        Ok(bytes)
    }

    fn cannot(&self, error: &libloading::Error, path: &Path) -> String {
        format!("cannot be loaded: {}", binary::reason(error, path))
    }
}

/// What is said of a file that cannot be read.
pub fn unreadable(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Memory with these bytes that cannot be written any more, as a path. It stays open for the life of the process, as
/// the library stays loaded: the loader takes two libraries of one path for the same.
#[cfg(target_os = "linux")]
fn sealed(bytes: &[u8]) -> std::io::Result<PathBuf> {
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};

    // SAFETY: the name ends with a NUL.
    let number = unsafe { libc::memfd_create(c"plugin".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if number < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nobody else has it.
    let mut memory = unsafe { File::from_raw_fd(number) };
    memory.write_all(bytes)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: a command about a file that is open, with a number.
    if unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    std::mem::forget(memory);
    Ok(path)
}

/// Loads with every symbol found at once: one that is missing would end the process in the middle of a run.
///
/// # Safety
/// As `libloading::Library::new`.
unsafe fn load_now(path: &Path) -> Result<libloading::Library, libloading::Error> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        // SAFETY: the caller's.
        unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
    }
    #[cfg(not(unix))]
    {
        // SAFETY: the caller's.
        unsafe { libloading::Library::new(path) }
    }
}
