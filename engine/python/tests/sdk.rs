//! The package's own tests, with the Python of the others.

use std::path::Path;
use std::process::Command;

use pipeline_testkit::python;

#[test]
fn the_package_passes_its_own_tests() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
    let run = Command::new(python())
        .args(["-m", "unittest", "discover", "--start-directory", "tests"])
        .current_dir(sdk)
        .output();
    let output = run.expect("the Python of the tests can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Ran 13 tests"), "{said}");
}
