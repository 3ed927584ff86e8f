//! Libraries that are broken, mistaken or malicious: each gives an error in words, none takes the process down.
//!
//! `c/hostile.c` is compiled once for each case.

use std::path::{Path, PathBuf};
use std::process::Command;

use pipeline_abi::host::Library;
use pipeline_stage::{ErrorKind, Make, Outcome, Output, Result, SavedState, StageError, StateWriter, Transform};
use pipeline_testkit::{reading_schema, readings, stage_context};
use serde_json::json;
use tempfile::TempDir;

/// `ROWS` of the C file.
const ROWS: usize = 8;

/// Compiles the fixture for a case. `GOOD` is none that it knows: nothing is wrong then.
fn compile(folder: &TempDir, case: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = folder.path().join(format!("{case}.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-std=c99", &format!("-DCASE_{case}")]);
    compiler.arg("-I").arg(here.join("include")).arg(here.join("tests/c/hostile.c")).arg("-o").arg(&library);
    let done = compiler.output().expect("these tests need a C compiler `cc`: install gcc or clang");
    assert!(done.status.success(), "{case}: {}", String::from_utf8_lossy(&done.stderr));
    library
}

/// What is said about a file that is refused, without the path it begins with.
fn words_about(path: &Path) -> String {
    let error = Library::load(path, None).map(|library| library.name).expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let about = format!("`{}` ", path.display());
    error.to_string().strip_prefix(&about).map(ToOwned::to_owned).unwrap_or_else(|| panic!("{error}"))
}

fn build(case: &str) -> Result<Box<dyn Transform>> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let library = Library::load(&compile(&folder, case), None)?;
    let Make::Transform(make) = &library.stages[0].make else { panic!("{case} is no transform") };
    make(json!({}), &stage_context(), &[reading_schema()], SavedState::default())
}

fn process(case: &str) -> (Result<()>, Outcome) {
    let mut stage = build(case).unwrap_or_else(|error| panic!("{case}: {}", error.chain()));
    let mut out = Output::default();
    let done = stage.process(0, &readings(1, ROWS), &mut out);
    (done, out.take())
}

fn failure(case: &str) -> StageError {
    process(case).0.map(|()| panic!("{case} was taken for good")).unwrap_err()
}

#[test]
fn files_that_are_no_library_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(compile(&folder, "GOOD")).unwrap();
    let (machine, name) = if cfg!(target_arch = "aarch64") { (62_u16, "x86_64") } else { (183, "aarch64") };
    let mut foreign = good.clone();
    foreign[18..20].copy_from_slice(&machine.to_le_bytes());
    let foreign_words = format!("is built for {name}, this machine is {}", std::env::consts::ARCH);
    let cases: [(&str, &[u8], &str); 8] = [
        ("text", b"type: zscore\nwindow: 10\ncolumn: value\n", "is no shared library"),
        ("empty", b"", "is no shared library"),
        ("beginning", &good[..10], "is no shared library"),
        ("header", &good[..40], "is cut off: it has 40 bytes"),
        ("table", &good[..100], "is cut off: it has 100 bytes"),
        // Without its own check the loader ends the process here (SIGBUS).
        ("quarter", &good[..good.len() / 4], &format!("is cut off: it has {} bytes", good.len() / 4)),
        ("half", &good[..good.len() / 2], &format!("is cut off: it has {} bytes", good.len() / 2)),
        ("foreign", &foreign, &foreign_words),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let words = words_about(&path);
        assert!(words == expected || words.starts_with(&format!("{expected}, ")), "{name}: {words}");
    }
    let missing = words_about(&folder.path().join("missing.so"));
    assert_eq!(missing, "cannot be read: No such file or directory (os error 2)");
    assert_eq!(words_about(folder.path()), "cannot be read: Is a directory (os error 21)");
}

#[test]
fn libraries_that_describe_nonsense_are_refused() {
    let lacks = "lacks functions: a transform needs `build`, and `process`";
    let lacks = &format!("has a stage 0 that is called `hostile` and {lacks}");
    let cases = [
        ("NO_SYMBOL", "is no plugin: it does not export `pipeline_plugin`"),
        ("NO_DESCRIPTION", "has not described itself: `pipeline_plugin` gave no description"),
        ("OTHER_MAJOR", "is built for version 2.0 of the plugin interface, this engine has 1.0"),
        ("NO_STAGES", "says that it has 0 stages, it may have 1 to 1024"),
        ("STAGES_NULL", "says that it has 1 stages, but not where: `stages` is NULL"),
        ("TOO_MANY_STAGES", "says that it has 18446744073709551615 stages, it may have 1 to 1024"),
        ("PLUGIN_NAME_NULL", "has no name"),
        ("STAGE_NULL", "has a stage 0 that is NULL"),
        ("STAGE_TOO_SMALL", "has a stage 0 that says that its descriptor has 8 bytes, which is too few"),
        ("NAME_NULL", "has a stage 0 that has no name"),
        ("NAME_NOT_UTF8", "has a stage 0 that has a name that is not UTF-8"),
        ("NAME_WITH_CAPITALS", "has a stage 0 that is called `Hostile`, a name is made of a-z, 0-9 and _"),
        ("NAME_EMPTY", "has a stage 0 that is called ``, a name is made of a-z, 0-9 and _"),
        ("EXAMPLE_NULL", "has a stage 0 that is called `hostile` and has no example"),
        (
            "SCHEMA_NOT_JSON",
            "has a stage 0 that is called `hostile` and has a schema that is no JSON: expected value at line 1 column 1",
        ),
        ("SCHEMA_NO_OBJECT", "has a stage 0 that is called `hostile` and has a schema that is no JSON object"),
        ("SCHEMA_OF_TEXT", "has a stage 0 that is called `hostile` and has a schema whose `type` is not `object`"),
        ("NO_BUILD", lacks),
        ("NO_PROCESS", lacks),
        ("UNKNOWN_KIND", "has a stage 0 that is called `hostile` and is of kind 9, which this engine does not know"),
        ("TWO_OF_ONE_NAME", "has two transforms called `hostile`"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (case, expected) in cases {
        assert_eq!(words_about(&compile(&folder, case)), expected, "{case}");
    }
}

#[test]
fn a_library_is_loaded_only_with_the_sha256_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(&folder, "GOOD");
    let error = Library::load(&path, Some(&"0".repeat(64))).map(|library| library.name).unwrap_err();
    assert_eq!(error.option(), Some("sha256"));
    let words = error.to_string();
    let found = words.split("has the SHA-256 ").nth(1).and_then(|rest| rest.split(',').next()).expect("it is said");
    assert_eq!(words, format!("`{}` has the SHA-256 {found}, not the one that is written here", path.display()));
    let library = Library::load(&path, Some(&found.to_uppercase())).unwrap();
    assert_eq!((library.name.as_str(), library.version.as_str(), library.abi), ("hostile", "0.1", (1, 0)));
}

#[test]
fn a_stage_that_cannot_be_built_says_why() {
    let no_struct = "the plugin's `schema` is no struct of columns";
    let minus_one = "the plugin's `schema` has -1 columns, it may have up to 16384";
    let types = "it must be Utf8, Int64, Float64, Boolean or Timestamp(Microsecond)";
    let int32 = format!("the plugin gives a column `value` of type Int32, {types}");
    let status = "the plugin gave the status 77, which there is not: the plugin failed without words";
    let no_schema = "the plugin has not said which columns it gives: `schema` is empty";
    let (cut, option) = ("x".repeat(4_095), "y".repeat(255));
    let cases = [
        ("BUILD_WITHOUT_WORDS", ErrorKind::Config, "the plugin failed without words", None),
        ("BUILD_WITH_WORDS", ErrorKind::Config, "`window` is 1, it must be at least 2", Some("window")),
        ("WORDS_NOT_UTF8", ErrorKind::Fatal, "caf\u{fffd} is closed", None),
        ("WORDS_WITHOUT_END", ErrorKind::Transient, &cut, Some(option.as_str())),
        ("STATUS_77", ErrorKind::Fatal, status, None),
        ("NO_SCHEMA", ErrorKind::Fatal, no_schema, None),
        ("INT32", ErrorKind::Fatal, &int32, None),
        ("NO_FORMAT", ErrorKind::Fatal, no_struct, None),
        ("FORMAT_OF_NOTHING", ErrorKind::Fatal, no_struct, None),
        ("COLUMN_NAME_NOT_UTF8", ErrorKind::Fatal, no_struct, None),
        ("SCHEMA_IS_NO_STRUCT", ErrorKind::Fatal, no_struct, None),
        ("SCHEMA_WITHOUT_CHILDREN", ErrorKind::Fatal, no_struct, None),
        ("MINUS_ONE_COLUMNS", ErrorKind::Fatal, minus_one, None),
        ("TWO_COLUMNS_OF_ONE_NAME", ErrorKind::Fatal, "the plugin gives two columns called `sensor_id`", None),
    ];
    for (case, kind, words, option) in cases {
        let error = build(case).map(|_| panic!("{case} was built")).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str(), error.option()), (kind, words, option), "{case}");
    }
}

#[test]
fn rows_that_cannot_be_are_not_taken() {
    let cases = [
        ("FEWER_ROWS", "the plugin gave 7 rows for 8 without saying which came from which"),
        ("ORIGIN_OUT_OF_RANGE", "the plugin named row 8 of a batch of 8 rows"),
        ("TOO_FEW_ORIGINS", "the plugin gave 8 rows and 3 origins"),
        ("THREE_COLUMNS", "the plugin gave rows of 3 columns, its schema has 4"),
        ("COLUMN_NULL", "the plugin gave rows whose column `metric_type` is NULL"),
        ("COLUMN_RELEASED", "the plugin gave rows whose column `metric_type` is released already"),
        ("COLUMN_TOO_SHORT", "the plugin gave rows whose column `sensor_id` has 1 rows, the batch needs 8"),
        ("CREATED_TOO_SHORT", "the plugin gave rows whose column `sensor_id` has 1 rows, the batch needs 8"),
        ("NEGATIVE_LENGTH", "the plugin gave rows of length -1 and offset 0"),
        ("LENGTH_THAT_OVERFLOWS", "the plugin gave rows of length 9223372036854775807 and offset 9223372036854775807"),
        ("NEGATIVE_COLUMN_OFFSET", "the plugin gave rows whose column `sensor_id` has the offset -1"),
        ("ROWS_NULL_AS_A_WHOLE", "the plugin gave rows of which some are null as a whole"),
        ("NO_VALUES", "the plugin gave rows whose column `value` has no values: the buffer is NULL"),
        ("TOO_MANY_NULLS", "the plugin gave rows whose column `value` says that 9 of 8 rows are null"),
        ("NULLS_WHERE_NONE_MAY_BE", "the plugin gave rows that its columns do not allow"),
        ("NOT_ALIGNED", "the plugin gave rows whose column `value` has a buffer that is not aligned to 8 bytes"),
        ("TWO_BUFFERS_OF_TEXT", "the plugin gave rows whose column `sensor_id` has 2 buffers, a Utf8 has 3"),
        ("OFFSETS_FALL", "the plugin gave rows whose column `sensor_id` has offsets that do not rise"),
        (
            "OFFSETS_FAR_OUT",
            "the plugin gave rows whose column `sensor_id` has 2147483647 bytes of text, at most 1073741824 can be",
        ),
        ("TEXT_NOT_UTF8", "the plugin gave a column `sensor_id` that is damaged"),
        ("RELEASED", "the plugin gave rows that are released already"),
        ("TWICE", "the plugin gave rows that are released already"),
        ("NULL_ROWS", "the plugin gave NULL for rows"),
        ("REJECT_OUT_OF_RANGE", "the plugin named row 8 of a batch of 8 rows"),
        ("LATE_OUT_OF_RANGE", "the plugin named row 4294967295 of a batch of 8 rows"),
        ("CONTEXT_NULL", "the plugin failed without words"),
    ];
    for (case, words) in cases {
        let error = failure(case);
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words), "{case}");
    }
}

#[test]
fn what_is_right_is_taken() {
    let (done, outcome) = process("GOOD");
    done.unwrap();
    assert_eq!(outcome.emitted.iter().map(|(rows, _)| rows.clone()).collect::<Vec<_>>(), [readings(1, ROWS)]);
}

#[test]
fn rows_that_are_rejected_without_words_are_given_some() {
    let (done, outcome) = process("REJECT_WITHOUT_WORDS");
    done.unwrap();
    let none = "the plugin rejected it without words".to_owned();
    let other = "the plugin rejected it in words that are not UTF-8".to_owned();
    assert_eq!(outcome.rejected, [(2, none.clone()), (3, none), (4, other)]);
}

#[test]
fn an_error_about_the_rows_stays_one() {
    let error = failure("DATA");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Data, "these rows are odd"));
}

#[test]
fn state_that_is_too_large_is_not_saved() {
    #[derive(Default)]
    struct Saved(Vec<(Vec<u8>, Vec<u8>)>);
    impl StateWriter for Saved {
        fn put(&mut self, key: &[u8], value: &[u8]) {
            self.0.push((key.to_vec(), value.to_vec()));
        }
        fn delete(&mut self, _: &[u8]) {}
    }
    let mut saved = Saved::default();
    let error = build("VALUE_TOO_LARGE").unwrap().save(&mut saved).unwrap_err();
    let words =
        "a value of the plugin's state has 67108865 bytes, it may have 67108864: it must be parted over several keys";
    assert_eq!((error.kind(), error.to_string().as_str(), saved.0.len()), (ErrorKind::Fatal, words, 0));
    build("GOOD").unwrap().save(&mut saved).unwrap();
    assert_eq!(saved.0, [(vec![7], vec![7])]);
}
