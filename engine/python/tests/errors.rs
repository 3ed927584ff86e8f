//! Whatever goes wrong on Python's side ends in words, with the place in the code where that helps.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Store, Written, build, interpreter, process, try_build};
use pipeline_python::{Interpreter, Plugin};
use pipeline_stage::{ErrorKind, SavedState, StageError};
use pipeline_testkit::{python, readings};
use serde_json::json;

/// A detector whose `observe` does this.
fn detector(observe: &str) -> Written {
    Written::new(&format!(
        "import os, signal, logging, sys\n\
         class Odd(Detector):\n    \
             'Is odd.'\n    \
             def start(self):\n        \
                 return {{}}\n    \
             def observe(self, series, reading):\n        \
                 {observe}\n"
    ))
}

fn error_of(plugin: &Written) -> StageError {
    let rows = readings(1, 100);
    let mut transform = build(&plugin.stage(), json!({"value": "value"}), &rows);
    process(&mut *transform, &rows).unwrap_err()
}

#[test]
fn an_exception_stops_the_run_with_its_traceback() {
    let error = error_of(&detector("return 1 / len(series)"));
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let words = error.to_string();
    assert!(words.starts_with("ZeroDivisionError: division by zero\n  File "), "{words}");
    assert!(words.contains("plugin.py\", line 8, in observe\n    return 1 / len(series)"), "{words}");
    assert!(!words.contains("serve.py"), "the package's own calls are left out: {words}");
}

#[test]
fn what_an_author_says_is_told_as_it_is() {
    let error = error_of(&detector("raise FatalError('the moon is full')"));
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, "the moon is full"));
    // Half of a batch may be remembered: a detector's rows are not dead letters, and are not tried again.
    for raised in ["DataError('bad')", "TransientError('later')"] {
        assert_eq!(error_of(&detector(&format!("raise {raised}"))).kind(), ErrorKind::Fatal);
    }
}

#[test]
fn a_process_that_ends_is_lost_with_its_last_words() {
    for (observe, words) in [
        ("print('no', 'more'); os._exit(3)", "the Python process has ended: it exited with code 3\n  no more"),
        (
            "logging.error('dying'); os.kill(os.getpid(), signal.SIGKILL)",
            "the Python process has ended: it was ended by signal 9 (SIGKILL: by a person, or for lack of memory)\n  dying",
        ),
    ] {
        let error = error_of(&detector(observe));
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Lost, words));
    }
}

#[test]
fn a_plugin_that_wants_to_exit_ends_the_run() {
    // Started again it would only exit again, for ever.
    let error = error_of(&detector("sys.exit(4)"));
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let words = error.to_string();
    assert!(words.starts_with("SystemExit: 4\n  File ") && words.contains("sys.exit(4)"), "{words}");
}

#[test]
fn what_is_no_score_is_refused() {
    for (observe, words) in [
        ("return 1.5", "`observe` gave a float; it must give a `Score` or None"),
        (
            "return Score('high')",
            "`observe` gave Score(score='high', expected=nan, lower=-inf, upper=inf, statistic=nan, is_anomaly=None); the parts of a `Score` are numbers",
        ),
    ] {
        let error = error_of(&detector(observe));
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
    }
}

#[test]
fn a_print_does_not_disturb_the_protocol() {
    let plugin = detector("print('x' * 200); sys.stdout.flush(); os.write(1, b'raw'); return Score(2.0)");
    let rows = readings(1, 500);
    let mut transform = build(&plugin.stage(), json!({"value": "value"}), &rows);
    process(&mut *transform, &rows).unwrap();
}

#[test]
fn garbage_in_the_pipe_is_told_and_not_believed() {
    let everywhere =
        "for pipe in range(3, 12):\n            try: os.write(pipe, b'garbage')\n            except OSError: pass";
    let error = error_of(&detector(everywhere));
    let words = "the Python process has written `garb`, which is no answer";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
}

#[test]
fn series_that_cannot_be_saved_are_refused_when_they_are() {
    let rows = readings(1, 100);
    for (observe, words) in [
        (
            "series['seen'] = {1}",
            "the series['seen'] is a set, which cannot be saved; it must be a dict, list, text, number or None",
        ),
        (
            "series['pair'] = (1, 2)",
            "the series['pair'] is a tuple, which cannot be saved; it must be a dict, list, text, number or None",
        ),
        ("series[3] = 1", "the series has the key 3, which would come back as text; its keys must be text"),
    ] {
        let mut transform = build(&detector(observe).stage(), json!({"value": "value"}), &rows);
        process(&mut *transform, &rows).unwrap();
        let error = transform.save(&mut Store::default()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
    }
}

#[test]
fn infinite_numbers_and_dataclasses_survive_a_restart() {
    let plugin = Written::new(
        "import dataclasses, math\n\
         @dataclasses.dataclass\nclass Past:\n    least: float = math.inf\n    odd: float = math.nan\n    n: int = 0\n\
         class Least(Detector):\n    'Tells the least.'\n    def start(self): return Past()\n    \
         def observe(self, series, reading):\n        \
             series.n += 1\n        \
             assert math.isnan(series.odd)\n        \
             return Score(series.n, series.least)\n",
    );
    let rows = readings(1, 300);
    let mut transform = build(&plugin.stage(), json!({"value": "value"}), &rows);
    process(&mut *transform, &rows).unwrap();
    let mut store = Store::default();
    transform.save(&mut store).unwrap();
    assert!(20 < store.0.len());
    let mut again = try_build(&plugin.stage(), json!({"value": "value"}), &rows, store.saved()).unwrap();
    assert_eq!(
        process(&mut *again, &rows).unwrap().take().emitted,
        process(&mut *transform, &rows).unwrap().take().emitted
    );
}

#[test]
fn arrays_of_another_length_are_refused() {
    let rows = readings(1, 100);
    for (observe, words) in [
        ("Scores(values[:3])", "`score` has the shape (3,), there are 99 readings"),
        ("values", "`observe` gave ndarray; it must give `Scores` or None"),
        (
            "Scores(values, is_anomaly=values.reshape(1, -1))",
            "`is_anomaly` has the shape (1, 99), there are 99 readings",
        ),
    ] {
        let plugin = Written::new(&format!(
            "class Odd(BatchDetector):\n    'Is odd.'\n    def observe(self, series, values, at): return {observe}\n"
        ));
        let mut transform = build(&plugin.stage(), json!({"value": "value"}), &rows);
        let error = process(&mut *transform, &rows).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
    }
}

fn load_error(text: &str) -> String {
    let plugin = Written::new(text);
    let error = plugin.load().err().expect("it is wrong");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string().replace(&plugin.path.display().to_string(), "plugin.py")
}

#[test]
fn a_plugin_that_is_wrong_says_where() {
    let words = load_error("def f(:\n    pass\n");
    assert!(words.contains("`plugin.py`: SyntaxError: ") && words.contains("line 2\n    def f(:"), "{words}");
    let words = load_error("limit = unknown\n");
    assert!(words.contains("NameError: name 'unknown' is not defined\n"), "{words}");
    assert!(words.contains("line 2, in <module>\n    limit = unknown"), "{words}");
    let words = load_error("import no_such_module\n");
    assert!(words.contains("; if it is a package: ") && words.contains("-m pip install no_such_module"), "{words}");
    let words = load_error("import os; print('not today'); os._exit(5)\n");
    assert!(words.contains("cannot be loaded: ") && words.contains("exited with code 5\n  not today"), "{words}");
    for (text, part) in [
        ("", "there is no class in it that derives from Detector, BatchDetector, Transform, Source, Sink or Outbox"),
        (
            "class A(Detector):\n  'A.'\n  name = 'x'\nclass B(BatchDetector):\n  'B.'\n  name = 'x'\n",
            "there are two detectors called `x`: the classes A and B; give one of them another `name`",
        ),
        ("class A(Detector): pass\n", "A has no docstring; it is the stage's documentation"),
        ("class A(Detector):\n  'A.'\n  name = 'A b'\n", "A is called `A b`, a name is made of a-z, 0-9 and _"),
        ("class A(Detector):\n  'A.'\n  key: str = option('', 'K.')\n", "A has an option `key`, which every stage has"),
        (
            "class A(Detector):\n  'A.'\n  of = option(1, 'K.')\n",
            "option `of` of A has no type: write `of: float = option(…)`",
        ),
        (
            "class A(Detector):\n  'A.'\n  of: set = option(1, 'K.')\n",
            "option `of` has the type <class 'set'>; an option is an int",
        ),
        ("class A(Detector):\n  'A.'\n  state_version = 0\n", "`state_version` of A is 0, it must be 1 to 65535"),
    ] {
        let words = load_error(text);
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_start_that_gives_what_cannot_change_is_refused() {
    let plugin = Written::new("class A(Detector):\n  'A.'\n  def start(self): return 0.0\n");
    let rows = readings(1, 10);
    let error = try_build(&plugin.stage(), json!({"value": "value"}), &rows, SavedState::default()).err().unwrap();
    assert!(error.to_string().starts_with("`start` gave a float; it must give a list, a dict or"), "{error}");
}

#[test]
fn a_file_that_has_changed_is_described_anew() {
    let plugin = Written::new("class One(Detector):\n  'One.'\n");
    assert_eq!(plugin.stage().name, "one");
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::write(&plugin.path, "from pipeline_plugin import *\nclass Two(Detector):\n  'Two.'\n").unwrap();
    std::fs::File::open(&plugin.path).unwrap().set_modified(later).unwrap();
    assert_eq!(plugin.stage().name, "two");
}

#[test]
fn only_the_file_with_the_right_sum_runs() {
    let plugin = Written::new("class One(Detector):\n  'One.'\n  def start(self): return []\n");
    let wrong = Plugin::load(&plugin.path, interpreter(), Some(&"0".repeat(64))).err().unwrap();
    assert_eq!(wrong.option(), Some("sha256"));
    let words = wrong.to_string();
    let sum = words.split("has the SHA-256 ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let stage = Plugin::load(&plugin.path, interpreter(), Some(&sum)).unwrap().stages.remove(0);
    let rows = readings(1, 10);
    build(&stage, json!({"value": "value"}), &rows);
    // What is started later is not what was checked any more.
    std::fs::write(&plugin.path, "from pipeline_plugin import *\nraise SystemExit\n").unwrap();
    let error = try_build(&stage, json!({"value": "value"}), &rows, SavedState::default()).err().unwrap();
    assert!(error.to_string().ends_with("has changed since its SHA-256 was checked"), "{error}");
    let folder = plugin.path.parent().unwrap();
    let error = Plugin::load(folder, interpreter(), Some(&sum)).err().unwrap().to_string();
    assert!(error.contains("is a folder, which has no SHA-256"), "{error}");
}

#[test]
fn a_folder_with_an_init_file_is_a_plugin_of_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("heartbeat");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("__init__.py"), "from .beat import Beat\n").unwrap();
    let beat =
        "from pipeline_plugin import Detector\nclass Beat(Detector):\n  'Beats.'\n  def start(self): return []\n";
    std::fs::write(package.join("beat.py"), beat).unwrap();
    assert!(pipeline_python::is_plugin(&package) && !pipeline_python::is_plugin(folder.path()));
    let stages = Plugin::load(&package, interpreter(), None).unwrap().stages;
    assert_eq!(stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["beat"]);
}

/// A virtual environment without anything in it, and the package by its path alone if wanted.
fn bare_python(folder: &Path, has_package: bool) -> Interpreter {
    let venv = folder.join("bare");
    let made = Command::new(python()).args(["-m", "venv", "--without-pip"]).arg(&venv).status();
    assert!(made.unwrap().success());
    let packages = std::fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path().join("site-packages");
    if has_package {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
        std::fs::write(packages.join("sdk.pth"), format!("{}\n", sdk.display())).unwrap();
    }
    Interpreter::find(Some("./bare/bin/python"), folder)
}

#[test]
fn what_is_missing_is_told_with_the_command_that_installs_it() {
    let plugin = Written::new("class One(Detector):\n  'One.'\n");
    let missing = |interpreter| Plugin::load(&plugin.path, interpreter, None).err().unwrap().to_string();
    let words = missing(Interpreter::find(Some("./no/python"), Path::new("/nowhere")));
    assert!(words.contains("there is no Python `/nowhere/./no/python`: install it"), "{words}");
    let folder = tempfile::tempdir().unwrap();
    let words = missing(bare_python(folder.path(), false));
    assert!(words.contains("bare/bin/python -m pip install engine/python/sdk"), "{words}");
}

#[test]
fn pyarrow_is_needed_by_transforms_alone() {
    let plugin = Written::new(
        "class One(Detector):\n  'One.'\n  def start(self): return []\n  def observe(self, series, reading): return Score(1)\n\
         class Same(Transform):\n  'Same.'\n  def process(self, input, batch, out): out.emit(batch)\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let interpreter = bare_python(folder.path(), true);
    let stages =
        Plugin::load(&plugin.path, interpreter, None).unwrap_or_else(|error| panic!("{}", error.chain())).stages;
    let rows = readings(1, 100);
    let mut one = build(&stages[0], json!({"value": "value"}), &rows);
    process(&mut *one, &rows).unwrap();
    let error = try_build(&stages[1], json!({}), &rows, SavedState::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("No module named 'pyarrow'; if it is a package: "), "{error}");
    assert!(error.to_string().contains("bare/bin/python -m pip install pyarrow"), "{error}");
}

#[test]
fn what_is_no_python_is_found_out_before_anything_is_sent() {
    use std::os::unix::fs::PermissionsExt;
    let plugin = Written::new("class One(Detector):\n  'One.'\n");
    let folder = tempfile::tempdir().unwrap();
    for (script, words) in [
        ("yes hello", "has written `hell`, which is no answer; is `"),
        ("exit 7", "the Python process has ended: it exited with code 7"),
        ("printf 'PPL1\\017\\0\\0\\0{\"protocol\":99}'", "speaks version 99 of the protocol, this engine 1"),
    ] {
        let program = folder.path().join("python");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let interpreter = Interpreter::find(Some("./python"), folder.path());
        let error = Plugin::load(&plugin.path, interpreter, None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(words), "{error}");
    }
}
