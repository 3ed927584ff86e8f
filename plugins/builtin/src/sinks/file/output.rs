//! The file that a task writes, and the next one when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use pipeline_stage::{Result, StageError, write_json_row};
use serde::{Deserialize, Serialize};

use super::name::{number_of, numbered};

/// So much is gathered before it is written: large enough for the disk, small enough to be no matter in memory.
const WRITE_BYTES: usize = 1 << 20;

/// What is the same for all files of a sink.
pub struct FileSettings {
    /// Where relative paths start.
    pub directory: PathBuf,
    /// The size in bytes at which the next file is begun.
    pub rotate_at: Option<u64>,
    /// The columns to write; none for all.
    pub chosen: Option<Vec<usize>>,
}

/// A place between two rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The first file, as the option names it.
    pub path: PathBuf,
    /// Which file, counted from 0.
    pub file: u64,
    /// How many bytes of it come before the place.
    pub length: u64,
}

impl Place {
    /// Reads what [`Place::to_detail`] wrote.
    pub fn parse(detail: &str) -> Option<Self> {
        serde_json::from_str(detail).ok()
    }

    /// The place as the detail of a mark.
    pub fn to_detail(&self) -> String {
        serde_json::json!({ "path": self.path, "file": self.file, "length": self.length }).to_string()
    }

    /// The end of what is there; makes the folder and the file if they are not, and ends an unfinished last line.
    pub fn end_of(settings: &FileSettings, name: &Path) -> Result<Self> {
        let directory = &settings.directory;
        let parent = directory.join(name.parent().unwrap_or(Path::new("")));
        fs::create_dir_all(&parent).map_err(|error| in_words("made", name.parent().unwrap_or(name), error))?;
        let number = match settings.rotate_at {
            Some(_) => highest_number(&parent, name).map_err(|error| in_words("listed", name, error))?,
            None => 0,
        };
        let path = numbered(name, number);
        let mut file = open(&directory.join(&path)).map_err(|error| in_words("opened", &path, error))?;
        let length = end_last_line(&mut file).map_err(|error| in_words("written", &path, error))?;
        sync_folder(&directory.join(&path)).map_err(|error| in_words("written", &path, error))?;
        Ok(Place { path: name.into(), file: number, length })
    }

    fn file_name(&self) -> PathBuf {
        numbered(&self.path, self.file)
    }
}

/// A file open for writing.
pub struct Output {
    settings: Arc<FileSettings>,
    file: File,
    /// After the rows that were handed to the operating system.
    written: Place,
    /// Rows that were not, yet.
    buffer: Vec<u8>,
    is_synced: bool,
}

impl Output {
    /// Opens the file of a place and cuts off whatever is behind it, later files included.
    ///
    /// # Errors
    /// `Fatal` when the file is shorter or gone: somebody has changed it. `Transient` when the disk fails.
    pub fn cut(settings: &Arc<FileSettings>, place: &Place) -> Result<Self> {
        let directory = &settings.directory;
        let path = place.file_name();
        let changed = |found: String| {
            StageError::fatal(format!(
                "`{}` {found}, but {} bytes were committed to it: it was changed from outside; `--cold-start` goes on at its end",
                path.display(),
                place.length
            ))
        };
        let exists = fs::exists(directory.join(&path)).map_err(|error| in_words("opened", &path, error))?;
        if !exists && place.length > 0 {
            return Err(changed("is not there".into()));
        }
        let file = open(&directory.join(&path)).map_err(|error| in_words("opened", &path, error))?;
        let metadata = file.metadata().map_err(|error| in_words("opened", &path, error))?;
        if !metadata.is_file() {
            return Err(StageError::fatal(format!("`{}` is not a file that can be cut back", path.display())));
        }
        if metadata.len() < place.length {
            return Err(changed(format!("has {} bytes", metadata.len())));
        }
        let cut = || {
            for number in place.file + 1.. {
                match fs::remove_file(directory.join(numbered(&place.path, number))) {
                    Err(error) if error.kind() == ErrorKind::NotFound => break,
                    removed => removed?,
                }
            }
            file.set_len(place.length)?;
            file.sync_all()?;
            sync_folder(&directory.join(&path))
        };
        cut().map_err(|error| in_words("cut back", &path, error))?;
        Ok(Output { settings: settings.clone(), file, written: place.clone(), buffer: Vec::new(), is_synced: true })
    }

    /// The place after all rows so far.
    pub fn place(&self) -> Place {
        Place { length: self.written.length + self.buffer.len() as u64, ..self.written.clone() }
    }

    /// Appends the rows of a batch; they are on disk after the next `sync`.
    ///
    /// # Errors
    /// `Transient` when the disk fails (the place is then unknown until the next `cut`), `Fatal` when somebody else
    /// has changed the file.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = match &self.settings.chosen {
            Some(chosen) => &batch.project(chosen)?,
            None => batch,
        };
        let mut line = Vec::new();
        for row in 0..batch.num_rows() {
            line.clear();
            write_json_row(batch, row, &mut line);
            line.push(b'\n');
            let length = self.place().length;
            let is_full = self.settings.rotate_at.is_some_and(|limit| limit < length + line.len() as u64);
            if is_full && length > 0 {
                self.rotate()?;
            }
            self.buffer.extend_from_slice(&line);
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Returns once all rows so far are on disk.
    ///
    /// # Errors
    /// As those of [`Output::append`].
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        if !self.is_synced {
            self.file.sync_data().map_err(|error| in_words("written", &self.written.file_name(), error))?;
            self.is_synced = true;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.refuse_changed()?;
        self.is_synced = false;
        self.file.write_all(&self.buffer).map_err(|error| in_words("written", &self.written.file_name(), error))?;
        self.written.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        self.sync()?;
        let next = Place { file: self.written.file + 1, length: 0, ..self.written.clone() };
        let path = next.file_name();
        let file = OpenOptions::new().append(true).create_new(true).open(self.settings.directory.join(&path));
        self.file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let message =
                    format!("`{}` would be the next file, but there is one already; move it away", path.display());
                return Err(StageError::fatal(message));
            }
            Err(error) => return Err(in_words("made", &path, error)),
        };
        sync_folder(&self.settings.directory.join(&path)).map_err(|error| in_words("made", &path, error))?;
        self.written = next;
        Ok(())
    }

    /// By its name, not by the open file: a file that was moved away must not be written on.
    fn refuse_changed(&self) -> Result<()> {
        let path = self.written.file_name();
        let found = match fs::metadata(self.settings.directory.join(&path)) {
            Ok(metadata) if metadata.len() == self.written.length => return Ok(()),
            Ok(metadata) => format!("has {} bytes instead of {}", metadata.len(), self.written.length),
            Err(error) if error.kind() == ErrorKind::NotFound => "is gone".into(),
            Err(error) => return Err(in_words("looked at", &path, error)),
        };
        let message = format!("`{}` {found}: something else writes, moves or removes it", path.display());
        Err(StageError::fatal(message))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn highest_number(parent: &Path, name: &Path) -> io::Result<u64> {
    // Of an empty path, which means the working directory.
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut highest = 0;
    for entry in fs::read_dir(parent)? {
        let file_name = entry?.file_name();
        highest = highest.max(file_name.to_str().and_then(|file_name| number_of(name, file_name)).unwrap_or(0));
    }
    Ok(highest)
}

/// Ends the last line of a file that somebody else began; returns the file's length.
fn end_last_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(length + 1)
}

/// Makes the name of a new or removed file durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// What the disk refused to do, and whether it may do it later.
pub fn in_words(done: &str, path: &Path, error: io::Error) -> StageError {
    let message = format!("`{}` cannot be {done}", path.display());
    match error.kind() {
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::AlreadyExists => {
            StageError::fatal(message).because(error)
        }
        _ => StageError::transient(message).because(error),
    }
}
