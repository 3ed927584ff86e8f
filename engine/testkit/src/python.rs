//! A Python for tests: a virtual environment with the package that plugins import, made once for a target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of a Python that has the package of the repository as it stands, pyarrow and NumPy.
///
/// # Panics
/// When it cannot be made, with what to install.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own program");
        let target = test.ancestors().nth(3).expect("cargo puts tests into target/<profile>/deps");
        let folder = target.join("tmp");
        fs::create_dir_all(&folder).expect("the target folder can be written");
        let lock = File::create(folder.join("python-venv.lock")).expect("the target folder can be written");
        lock.lock().expect("files can be locked: other tests make the same environment");
        prepare(&folder.join("python-venv"))
    })
}

fn prepare(venv: &Path) -> PathBuf {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/sdk");
    let (program, stamp) = (venv.join("bin/python"), venv.join("installed"));
    let content = content(&sdk);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == content) {
        return program;
    }
    if !stamp.exists() {
        // What a test that was ended has left is no environment.
        let _ = fs::remove_dir_all(venv);
        run(Command::new("python3").args(["-m", "venv"]).arg(venv), "on Debian, apt-get install python3-venv");
    }
    let _ = fs::remove_file(&stamp);
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps"]).arg(&sdk);
    run(&mut install, "the package must be installable");
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet"]).arg(format!("{}[numpy]", sdk.display()));
    run(&mut install, "pyarrow and NumPy come from the package index");
    fs::write(stamp, content).expect("the target folder can be written");
    program
}

/// All that the package consists of: the environment is brought up to date when it changes.
fn content(sdk: &Path) -> String {
    let mut files: Vec<PathBuf> = ["", "pipeline_plugin"]
        .iter()
        .flat_map(|folder| fs::read_dir(sdk.join(folder)).expect("the package is in the repository"))
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py" || extension == "toml"))
        .collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).expect("source is text")).collect()
}

fn run(command: &mut Command, help: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {help}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}\n{help}", String::from_utf8_lossy(&output.stdout));
}
