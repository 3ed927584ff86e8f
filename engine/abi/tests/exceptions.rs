//! C++ exceptions that leave a library become errors with their words, whichever function they leave.

use std::path::Path;
use std::process::Command;

use pipeline_abi::host::Library;
use pipeline_stage::{ErrorKind, Make, Output, Result, SavedState, StageType, Transform};
use pipeline_testkit::{reading_schema, readings, stage_context};
use serde_json::json;

fn load(case: &str) -> Result<StageType> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = folder.path().join("throws.so");
    let mut compiler = Command::new("c++");
    compiler.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-std=c++17", &format!("-DCASE_{case}")]);
    compiler.arg("-I").arg(here.join("include")).arg(here.join("tests/c/throws.cpp")).arg("-o").arg(&library);
    let done = compiler.output().expect("these tests need a C++ compiler `c++`: install g++ or clang");
    assert!(done.status.success(), "{case}: {}", String::from_utf8_lossy(&done.stderr));
    Library::load(&library, None).map(|library| library.stages[0].clone())
}

fn build(case: &str) -> Result<Box<dyn Transform>> {
    let Make::Transform(make) = load(case)?.make else { panic!("{case} is no transform") };
    make(json!({"value": "value"}), &stage_context(), &[reading_schema()], SavedState::default())
}

fn process(case: &str) -> Result<usize> {
    let mut out = Output::default();
    let mut stage = build(case)?;
    stage.process(0, &readings(1, 500), &mut out)?;
    Ok(out.take().emitted[0].0.num_rows())
}

#[test]
fn what_a_library_throws_is_told_in_its_words() {
    let words = "the plugin threw an exception: the sensor table is empty";
    for (case, expected) in [
        ("BUILD", words),
        ("START", words),
        ("OBSERVE", words),
        ("WITHOUT_WORDS", "the plugin threw an exception: of a type that has no words"),
    ] {
        let error = process(case).expect_err("it throws");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, expected), "{case}");
    }
}

#[test]
fn a_library_that_throws_while_it_is_loaded_is_refused() {
    let error = load("LOAD").map(|stage| stage.name).expect_err("it throws");
    assert_eq!(error.kind(), ErrorKind::Config);
    let words = error.to_string();
    assert!(words.ends_with("threw an exception while it was loaded: the sensor table is empty"), "{words}");
}

#[test]
fn a_stage_that_throws_when_it_goes_has_done_its_work() {
    assert_eq!(process("DESTROY").expect("it throws only at the end"), 500);
    assert_eq!(process("GOOD").expect("it does not throw"), 500);
}
