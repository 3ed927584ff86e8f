//! The bytes of a file, decompressed, counted, and recognised after a restart.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use pipeline_stage::{Position, Result, StageError};
use sha2::{Digest, Sha256};

use super::FileToRead;

/// By this many bytes a file is recognised: enough for some dozen rows, few enough to read again at any start.
const HEAD_BYTES: u64 = 4_096;

/// One read from the disk.
const BUFFER_BYTES: usize = 1 << 18;

/// The bytes of a file from its start, or from where it was left.
pub(super) struct Stream {
    bytes: Bytes,
    /// How many bytes were taken, those before the start included.
    taken: u64,
    /// The first of them, at most [`HEAD_BYTES`].
    head: Vec<u8>,
}

enum Bytes {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl Stream {
    /// The file from its start.
    pub fn open(file: &FileToRead) -> Result<Self> {
        check(file)?;
        let opened = File::open(&file.path).map_err(|error| cannot_open(file, error))?;
        let bytes = match file.is_gzip {
            true => {
                let unpacked = MultiGzDecoder::new(BufReader::new(opened));
                Bytes::Gzip(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)))
            }
            false => Bytes::Plain(BufReader::with_capacity(BUFFER_BYTES, opened)),
        };
        Ok(Stream { bytes, taken: 0, head: Vec::new() })
    }

    /// How many bytes were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The length of the file now; none if it is compressed.
    pub fn length(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Plain(bytes) => bytes.get_ref().metadata().ok().map(|about| about.len()),
            Bytes::Gzip(_) => None,
        }
    }

    /// Goes on to a position behind what was taken, if this is the file it belongs to.
    pub fn skip_to(&mut self, file: &FileToRead, position: &Position) -> Result<()> {
        self.skip(file, position.offset.min(HEAD_BYTES))?;
        let is_another = position.detail.is_some() && position.detail != self.fingerprint(position.offset);
        if is_another {
            return Err(StageError::fatal(format!(
                "`{}` does not begin like the file of which {} bytes were read: it was replaced; \
                 `--cold-start` reads it from its start",
                file.name, position.offset
            )));
        }
        self.skip(file, position.offset)
    }

    fn skip(&mut self, file: &FileToRead, end: u64) -> Result<()> {
        let is_seekable = self.length().is_some_and(|length| end <= length) && HEAD_BYTES <= self.taken;
        if let (Bytes::Plain(bytes), true, true) = (&mut self.bytes, is_seekable, self.taken < end) {
            bytes.seek(SeekFrom::Start(end)).map_err(|error| cannot_read(file, error))?;
            self.taken = end;
        }
        let missing = end.saturating_sub(self.taken);
        let skipped =
            io::copy(&mut self.by_ref().take(missing), &mut io::sink()).map_err(|error| cannot_read(file, error))?;
        if skipped < missing {
            return Err(StageError::fatal(format!(
                "`{}` has {} bytes, of which {end} were read before: it was cut or replaced; \
                 `--cold-start` reads it from its start",
                file.name, self.taken
            )));
        }
        Ok(())
    }

    /// By what the file is recognised when reading goes on at an offset; none at its start.
    pub fn fingerprint(&self, offset: u64) -> Option<String> {
        let count = offset.min(HEAD_BYTES);
        let head = self.head.get(..count as usize).filter(|head| !head.is_empty())?;
        let digest = Sha256::digest(head);
        let hexadecimal: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("first {count} bytes {hexadecimal}"))
    }

    /// Whether what stands under the file's name is still what is being read, and not shorter.
    ///
    /// # Errors
    /// Of kind `Fatal`, in words, when it is not.
    pub fn is_still(&self, file: &FileToRead) -> Result<()> {
        let Bytes::Plain(bytes) = &self.bytes else { return Ok(()) };
        let wrong = |what: &str| Err(StageError::fatal(format!("`{}` was {what} while it was followed", file.name)));
        let (Ok(read), Ok(named)) = (bytes.get_ref().metadata(), std::fs::metadata(&file.path)) else {
            return wrong("moved or deleted");
        };
        if !is_same(&read, &named) {
            return wrong("replaced");
        }
        if read.len() < self.taken {
            return wrong("cut");
        }
        Ok(())
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.bytes {
            Bytes::Plain(bytes) => bytes.fill_buf(),
            Bytes::Gzip(bytes) => bytes.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        let missing = (HEAD_BYTES as usize).saturating_sub(self.head.len()).min(count);
        let buffer = match &self.bytes {
            Bytes::Plain(bytes) => bytes.buffer(),
            Bytes::Gzip(bytes) => bytes.buffer(),
        };
        self.head.extend_from_slice(&buffer[..missing]);
        self.taken += count as u64;
        match &mut self.bytes {
            Bytes::Plain(bytes) => bytes.consume(count),
            Bytes::Gzip(bytes) => bytes.consume(count),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

/// Looks whether there is a file.
///
/// # Errors
/// Of kind `Config` when there is none, or something else in its place.
pub(super) fn check(file: &FileToRead) -> Result<()> {
    let about = std::fs::metadata(&file.path).map_err(|error| cannot_open(file, error))?;
    let what = match (about.is_dir(), about.is_file()) {
        (true, _) => "a folder",
        (_, false) => "a pipe or device, which cannot be read again",
        _ => return Ok(()),
    };
    Err(StageError::config(format!("`{}` is {what}, it must be a file", file.name)).at_option("path"))
}

fn cannot_open(file: &FileToRead, error: io::Error) -> StageError {
    let error = match error.kind() {
        ErrorKind::NotFound => StageError::config(format!("there is no file `{}`", file.name)),
        _ => StageError::config(format!("`{}` cannot be opened", file.name)).because(error),
    };
    error.at_option("path")
}

/// What an error in the middle of a file means: a broken archive stays broken, a disk may come back.
pub(super) fn cannot_read(file: &FileToRead, error: io::Error) -> StageError {
    let is_broken = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof);
    match file.is_gzip && is_broken {
        true => StageError::fatal(format!("`{}` is no gzip file, or a broken one", file.name)).because(error),
        false => StageError::transient(format!("`{}` cannot be read", file.name)).because(error),
    }
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Without inodes a replaced file is noticed by its length only.
#[cfg(not(unix))]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.len() <= other.len()
}
