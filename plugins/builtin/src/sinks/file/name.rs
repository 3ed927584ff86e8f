//! What the files of a task are called.

use std::fs;
use std::path::{Path, PathBuf};

use pipeline_stage::{Result, StageError};

const TASK: &str = "{task}";

/// The option `path`.
pub struct NamePattern {
    text: String,
}

impl NamePattern {
    /// Checks the option.
    ///
    /// # Errors
    /// Of kind `Config`, for a path without a file name or with a placeholder that is not `{task}`.
    pub fn new(text: &str) -> Result<Self> {
        if Path::new(text).file_name().is_none() || text.ends_with('/') {
            return Err(StageError::config(format!("`path` is `{text}`, it must name a file")));
        }
        let rest = text.replace(TASK, "");
        if rest.contains(['{', '}']) {
            return Err(StageError::config(format!(
                "`path` is `{text}`, the only placeholder it may have is `{TASK}`"
            )));
        }
        Ok(NamePattern { text: text.into() })
    }

    /// Whether every task has a file of its own.
    pub fn has_task(&self) -> bool {
        self.text.contains(TASK)
    }

    /// The file of a task, before any rotation.
    pub fn of_task(&self, task: &str) -> PathBuf {
        PathBuf::from(self.text.replace(TASK, &safe(task)))
    }

    /// Looks whether the file can be written, as far as its name is known before there are tasks.
    ///
    /// # Errors
    /// Of kind `Config`, when it cannot.
    pub fn check(&self, directory: &Path) -> Result<()> {
        let path = directory.join(&self.text);
        if path.is_dir() {
            return Err(StageError::config(format!("`{}` is a folder, it must be a file", self.text)));
        }
        if path.exists() {
            return match fs::OpenOptions::new().append(true).open(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(StageError::config(format!("`{}` cannot be written", self.text)).because(error)),
            };
        }
        // Those of its folders that are not there are made at the start.
        let Some(parent) = path.ancestors().skip(1).find(|parent| parent.exists()) else { return Ok(()) };
        let metadata =
            fs::metadata(parent).map_err(|error| StageError::config(self.unwritable(parent)).because(error))?;
        match metadata.is_dir() && !metadata.permissions().readonly() {
            true => Ok(()),
            false => Err(StageError::config(self.unwritable(parent))),
        }
    }

    fn unwritable(&self, parent: &Path) -> String {
        format!("`{}` cannot be made: `{}` is not a folder that can be written", self.text, parent.display())
    }
}

/// A task's name as a part of a file's: `/` becomes `-`, whatever else could mean something to a file system `%XX`.
fn safe(task: &str) -> String {
    let mut safe = String::new();
    for (idx, byte) in task.bytes().enumerate() {
        match byte {
            b'/' => safe.push('-'),
            b'.' if idx > 0 => safe.push('.'),
            b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => safe.push(char::from(byte)),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

/// The file that a number stands for: `out.jsonl` is 0, `out.1.jsonl` the next.
pub fn numbered(name: &Path, number: u64) -> PathBuf {
    if number == 0 {
        return name.into();
    }
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    match name.extension() {
        Some(extension) => name.with_file_name(format!("{stem}.{number}.{}", extension.to_string_lossy())),
        None => name.with_file_name(format!("{stem}.{number}")),
    }
}

/// The number that a file in the same folder has; none for other files.
pub fn number_of(name: &Path, file_name: &str) -> Option<u64> {
    let stem = name.file_stem()?.to_str()?;
    let rest = file_name.strip_prefix(stem)?.strip_prefix('.')?;
    let digits = match name.extension() {
        Some(extension) => rest.strip_suffix(extension.to_str()?)?.strip_suffix('.')?,
        None => rest,
    };
    let number = digits.parse().ok()?;
    // `out.01.jsonl` and `out.+1.jsonl` are not ours.
    (digits == u64::to_string(&number) && number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_names_become_safe_file_names() {
        let pattern = NamePattern::new("out/{task}.jsonl").unwrap();
        for (task, path) in [
            ("iot-data-stream/3", "out/iot-data-stream-3.jsonl"),
            ("../../etc/passwd", "out/%2E.-..-etc-passwd.jsonl"),
            ("a b\0\\:é", "out/a%20b%00%5C%3A%C3%A9.jsonl"),
        ] {
            assert_eq!(pattern.of_task(task), Path::new(path));
        }
    }

    #[test]
    fn numbers_are_found_again_in_names() {
        for (name, number, expected) in
            [("out.jsonl", 0, "out.jsonl"), ("a.b.jsonl", 3, "a.b.3.jsonl"), ("rows", 12, "rows.12")]
        {
            assert_eq!(numbered(Path::new(name), number), Path::new(expected));
            assert_eq!(number_of(Path::new(name), expected), (number > 0).then_some(number));
        }
        for other in ["out.x.jsonl", "out.01.jsonl", "out.0.jsonl", "out.1.json", "put.1.jsonl", "out.1.2.jsonl"] {
            assert_eq!(number_of(Path::new("out.jsonl"), other), None, "{other}");
        }
    }

    #[test]
    fn refuses_paths_that_name_no_file() {
        for (path, message) in [
            ("", "`path` is ``, it must name a file"),
            ("out/", "`path` is `out/`, it must name a file"),
            ("..", "`path` is `..`, it must name a file"),
            ("{tsk}.jsonl", "`path` is `{tsk}.jsonl`, the only placeholder it may have is `{task}`"),
        ] {
            assert_eq!(NamePattern::new(path).err().unwrap().to_string(), message);
        }
    }
}
