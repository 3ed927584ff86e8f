//! Compiles the C and C++ fixtures of these tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder that goes at the end of the test; what was loaded from it stays loaded.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// Compiles a file of this folder to a library, for a case, with more definitions if the case is followed by words.
#[allow(dead_code, reason = "not every test has cases")]
pub fn compile(folder: &TempDir, file: &str, case: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    compile_with(folder, &here.join("tests/c").join(file), &here.join("include"), case)
}

/// Compiles a file with the header of a folder.
///
/// `PIPELINE_TEST_CFLAGS` is added: the sanitizers of `.ci/sanitize`.
pub fn compile_with(folder: &TempDir, file: &Path, include: &Path, case: &str) -> PathBuf {
    let mut words = case.split(' ');
    let name = words.next().unwrap_or_default();
    let library = folder.path().join(format!("{name}.so"));
    let is_cpp = file.extension().is_some_and(|extension| extension == "cpp");
    let (compiler, standard) = if is_cpp { ("c++", "-std=c++17") } else { ("cc", "-std=gnu99") };
    let mut compile = Command::new(compiler);
    compile.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", standard]);
    compile.args([format!("-DCASE_{name}"), format!("-DCASE=\"{name}\"")]);
    compile.args(words.map(|word| format!("-D{word}")));
    compile.args(std::env::var("PIPELINE_TEST_CFLAGS").unwrap_or_default().split_whitespace());
    compile.arg("-I").arg(include).arg(file).arg("-o").arg(&library).arg("-lm");
    let done = compile.output();
    let done = done.unwrap_or_else(|error| panic!("these tests need a compiler `{compiler}`: {error}"));
    assert!(done.status.success(), "{case}: {}", String::from_utf8_lossy(&done.stderr));
    library
}
