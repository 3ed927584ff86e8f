//! What is installed, and installing what is missing.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// True if a Docker daemon answers; asked once.
pub(crate) fn docker_answers() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    *ANSWERS.get_or_init(|| {
        let info = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
        info.is_ok_and(|status| status.success())
    })
}

/// True if this process runs as root.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("`id` is part of every Unix");
    id.stdout.trim_ascii() == b"0"
}

/// The program called `name` on the `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The folder of this crate for what is worth keeping between runs, inside cargo's target folder.
pub(crate) fn kept_folder() -> PathBuf {
    let program = env::current_exe().expect("a running program has a path");
    // Cargo puts this file into its target folder, wherever that is and however deep the program lies in it.
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let target = match target {
        Some(folder) => folder.to_owned(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    let folder = target.join("services");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", folder.display()));
    folder
}

/// Runs `work` while no other test process is inside `one_at_a_time` with the same `name`.
pub(crate) fn one_at_a_time<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let path = kept_folder().join(format!("{name}.lock"));
    let file = File::create(&path).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("cannot lock `{}`: {error}", path.display()));
    // The lock goes with the file, even if `work` panics or the process is killed.
    work()
}

/// Packages that bring a program, and what to tell people who cannot have them installed.
pub(crate) struct Packages {
    /// Debian's names.
    pub debian: &'static [&'static str],
    /// A shell command to run before they are installed; `true` does nothing.
    pub before: &'static str,
    /// For the error: what is missing, for example `Java 17 or newer`.
    pub what: &'static str,
    /// For the error: what else would do.
    pub otherwise: &'static str,
}

impl Packages {
    /// Installs the packages unless `is_there` already; panics, saying what to install, if that cannot be done.
    pub fn require(&self, is_there: impl Fn() -> bool) {
        if is_there() {
            return;
        }
        one_at_a_time("apt", || {
            // Another test process may have installed it while this one waited.
            if is_there() {
                return;
            }
            let failure = self.install().err();
            if !is_there() {
                let reason = failure.unwrap_or_else(|| "its packages do not bring it".to_owned());
                panic!("{}", self.advice(&reason));
            }
        });
    }

    fn install(&self) -> Result<(), String> {
        if on_path("apt-get").is_none() {
            return Err("this is not Debian".to_owned());
        }
        if !is_root() {
            return Err("only root may install packages".to_owned());
        }
        let (before, packages) = (self.before, self.debian.join(" "));
        let script = format!("apt-get update && {before} && apt-get install --yes --no-install-recommends {packages}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .map_err(|error| format!("`sh` does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("apt-get failed:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(())
    }

    fn advice(&self, reason: &str) -> String {
        format!(
            "{} is missing and could not be installed: {reason}\nDebian: `sudo apt-get install {}`. Otherwise: {}",
            self.what,
            self.debian.join(" "),
            self.otherwise
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_on_the_path() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let packages = Packages { debian: &["no-such-package"], before: "false", what: "x", otherwise: "y" };
        packages.require(|| true);
    }

    #[test]
    fn says_what_to_install() {
        let packages = Packages { debian: &["maven"], before: "true", what: "Maven", otherwise: "start Docker" };
        assert_eq!(
            packages.advice("only root may install packages"),
            "Maven is missing and could not be installed: only root may install packages\n\
             Debian: `sudo apt-get install maven`. Otherwise: start Docker"
        );
    }

    #[test]
    fn what_is_kept_lies_in_the_target_folder() {
        assert!(kept_folder().parent().expect("has a parent").join("CACHEDIR.TAG").is_file());
    }
}
