//! A disk that can be filled, and made read-only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::pipeline_run::PipelineRun;
use crate::watched::{Launch, Watched};

/// Mounts a disk in memory where only this process and those it lets in see it, and stays to keep it.
///
/// Who may not mount as the user he is may in a user namespace of his own, where the system allows those.
const KEEPER: &str = r#"
if unshare --mount true 2> /dev/null; then how=--mount; else how='--user --map-root-user --mount'; fi
exec unshare $how sh -c 'mount -t tmpfs -o size="$1"m small "$2" && echo "$3" && exec sleep infinity' sh "$1" "$2" "$how"
"#;

/// A disk of a few MiB, for the programs that are [`put`](SmallDisk::put) on it.
pub struct SmallDisk {
    keeper: Watched,
    /// How programs get there: arguments of `nsenter`.
    enter: Vec<String>,
    folder: TempDir,
}

impl SmallDisk {
    /// An empty disk of this size.
    pub fn new(mebibytes: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = mebibytes.to_string();
        let args = ["-c", KEEPER, "keeper", &size].map(OsStr::new).into_iter().chain([folder.path().as_os_str()]);
        let started = Watched::start(Launch {
            program: OsStr::new("sh"),
            args: args.collect(),
            env: vec![],
            current_dir: None,
            tidy_up: String::new(),
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        });
        let mut keeper = started.unwrap_or_else(|error| panic!("cannot start a shell: {error}"));
        let mut how = String::new();
        let stdout = keeper.child().stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut how).expect("it can be read");
        if how.is_empty() {
            let mut said = String::new();
            keeper.child().stderr.take().expect("piped").read_to_string(&mut said).expect("it is text");
            panic!(
                "cannot mount a small disk: {said}it needs root with the right to mount, or user namespaces \
                 (`sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them on Ubuntu)"
            );
        }
        let mut enter = vec!["--target".to_owned(), keeper.child().id().to_string(), "--mount".to_owned()];
        if how.contains("--user") {
            enter.extend(["--user", "--preserve-credentials"].map(String::from));
        }
        SmallDisk { keeper, enter, folder }
    }

    /// Where the disk is, for programs that are put on it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The same run, which sees the disk.
    pub fn put(&self, run: PipelineRun) -> PipelineRun {
        run.through("nsenter", &self.enter)
    }

    /// Fills the disk, but for so many bytes.
    pub fn fill(&mut self, but: u64) {
        let mut ballast = File::create(self.seen("ballast")).expect("the disk is there");
        let is_full = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        let zeros = vec![0; 64 << 10];
        let mut length = 0;
        let error = loop {
            match ballast.write(&zeros) {
                Ok(n_bytes) => length += n_bytes as u64,
                Err(error) => break error,
            }
        };
        is_full(error);
        ballast.set_len(length.saturating_sub(but)).expect("it can be cut");
    }

    /// Takes away what [`fill`](Self::fill) has put there.
    pub fn make_room(&mut self) {
        fs::remove_file(self.seen("ballast")).expect("it was filled");
    }

    /// Makes it read-only, or writable again; nobody may have a file of it open for writing.
    pub fn remount(&self, how: &str) {
        let remount = format!("remount,{how}");
        let mut mount = Command::new("nsenter");
        mount.args(&self.enter).args(["mount", "-o", &remount]).arg(self.path());
        let status = mount.status().expect("nsenter is there");
        assert!(status.success(), "the small disk cannot be remounted with `{how}`");
    }

    /// Copies a folder of the disk to where everybody sees it.
    pub fn copy_out(&mut self, folder: &str, to: &Path) {
        fs::create_dir_all(to).expect("a folder can be made");
        for file in fs::read_dir(self.seen(folder)).expect("it is there") {
            let file = file.expect("it can be read");
            fs::copy(file.path(), to.join(file.file_name())).expect("it can be copied");
        }
    }

    /// A file of the disk as the test sees it.
    fn seen(&mut self, name: &str) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/").expect("it is absolute").join(name);
        Path::new("/proc").join(self.keeper.child().id().to_string()).join("root").join(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_full_when_it_is_filled_and_read_only_when_it_is_made_so() {
        let mut disk = SmallDisk::new(1);
        let write = |disk: &SmallDisk| {
            let script = "head -c 100000 /dev/zero > file";
            disk.put(PipelineRun::new("sh").args(["-c", &format!("cd {} && {script}", disk.path().display())]))
        };
        disk.fill(4096);
        let full = write(&disk).start().wait().await;
        assert!(full.stderr.contains("No space left on device"), "{}", full.stderr);
        disk.make_room();
        write(&disk).start().wait().await.assert_code(0);
        disk.remount("ro");
        let refused = write(&disk).start().wait().await;
        assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
        disk.remount("rw");
        write(&disk).start().wait().await.assert_code(0);
        let outside = tempfile::tempdir().expect("a folder");
        disk.copy_out("", outside.path());
        assert_eq!(fs::metadata(outside.path().join("file")).expect("copied").len(), 100_000);
    }
}
