//! Libraries that are broken, mistaken or malicious: each gives an error in words, none takes the process down.
//!
//! `c/hostile.c` is compiled once for each case.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod compile;
mod log;

use std::path::{Path, PathBuf};

use log::Log;
use pipeline_abi::host::Library;
use pipeline_stage::{
    ErrorKind, Make, Origin, Outcome, Output, Result, SavedState, StageError, StateWriter, Transform,
};
use pipeline_testkit::{reading_schema, readings, stage_context};
use serde_json::json;
use tempfile::TempDir;

/// `ROWS` of the C file.
const ROWS: usize = 8;

/// Compiles the fixture for a case. `GOOD` is none that it knows: nothing is wrong then.
fn compile(folder: &TempDir, case: &str) -> PathBuf {
    compile::compile(folder, "hostile.c", case)
}

/// What is said about a file that is refused, without the path it begins with.
fn words_about(path: &Path) -> String {
    let error = Library::load(path, None).map(|library| library.name).expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let about = format!("`{}` ", path.display());
    error.to_string().strip_prefix(&about).map(ToOwned::to_owned).unwrap_or_else(|| panic!("{error}"))
}

fn build(case: &str) -> Result<Box<dyn Transform>> {
    let folder = compile::folder();
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
    let folder = compile::folder();
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
        ("third", &good[..good.len() / 3], &format!("is cut off: it has {} bytes", good.len() / 3)),
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
        ("OTHER_MAJOR", "is built for version 2.1 of the plugin interface, this engine has 1.1"),
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
    let folder = compile::folder();
    for (case, expected) in cases {
        assert_eq!(words_about(&compile(&folder, case)), expected, "{case}");
    }
}

#[test]
fn a_library_is_loaded_only_with_the_sha256_that_is_written() {
    let folder = compile::folder();
    let path = compile(&folder, "GOOD");
    let error = Library::load(&path, Some(&"0".repeat(64))).map(|library| library.name).unwrap_err();
    assert_eq!(error.option(), Some("sha256"));
    let words = error.to_string();
    let found = words.split("has the SHA-256 ").nth(1).and_then(|rest| rest.split(',').next()).expect("it is said");
    assert_eq!(words, format!("`{}` has the SHA-256 {found}, not the one that is written here", path.display()));
    let library = Library::load(&path, Some(&found.to_uppercase())).unwrap();
    assert_eq!((library.name.as_str(), library.version.as_str(), library.abi), ("hostile", "0.1", (1, 1)));
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
        ("COLUMN_AT_AN_ODD_ADDRESS", "the plugin gave rows whose column `metric_type` is NULL"),
        ("ORIGINS_GO_WITH_ROWS_THAT_ARE_WRONG", "the plugin gave rows of 3 columns, its schema has 4"),
        ("RELEASES_TWICE", "the plugin has released the same rows twice"),
        ("COUNTS_OVERFLOW", "the plugin counted 18446744073709551615 rows in one call"),
        ("CREATES_TOO_MUCH", "the plugin counted 1099511627777 rows in one call"),
        ("REJECT_OUT_OF_RANGE", "the plugin named row 8 of a batch of 8 rows"),
        ("LATE_OUT_OF_RANGE", "the plugin named row 4294967295 of a batch of 8 rows"),
        ("CONTEXT_NULL", "the plugin failed without words"),
    ];
    for (case, words) in cases {
        let error = failure(case);
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words), "{case}");
    }
}

/// Reading it would end the process.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_not_there_is_not_read() {
    let rows = |column, rows| {
        format!(
            "the plugin gave rows whose column `{column}` has {rows} rows, which are not all in memory that is there"
        )
    };
    let text = "the plugin gave rows whose column `sensor_id` has 1048576 bytes of text, which are not all in memory \
                that is there";
    let cases = [
        ("TEXT_NOT_MAPPED", text.to_owned()),
        ("TEXT_NOT_READABLE", text.to_owned()),
        ("VALUES_NOT_MAPPED", rows("value", 20_000)),
        ("OFFSETS_NOT_MAPPED", rows("sensor_id", 20_000)),
        ("OFFSET_WITHOUT_ROWS", rows("sensor_id", 30_000)),
    ];
    for (case, words) in cases {
        assert_eq!(failure(case).to_string(), words, "{case}");
    }
}

#[test]
fn origins_may_lie_anywhere_and_go_with_the_rows() {
    for case in ["ORIGINS_GO_WITH_THE_ROWS", "ORIGINS_AT_AN_ODD_ADDRESS"] {
        let (done, outcome) = process(case);
        done.unwrap_or_else(|error| panic!("{case}: {}", error.chain()));
        let Origin::Rows(origins) = &outcome.emitted[0].1 else { panic!("{case} names the rows") };
        assert_eq!(origins, &[0, 1, 2, 3, 4, 5, 6, 7], "{case}");
    }
}

#[test]
fn rows_that_a_stage_says_it_holds_cannot_overflow_the_books() {
    assert_eq!(build("HOLDS_TOO_MUCH").unwrap().held(), 1 << 40);
}

#[test]
fn a_library_that_needs_a_function_of_nobody_is_refused() {
    let folder = compile::folder();
    let words = words_about(&compile(&folder, "MISSING_SYMBOL"));
    assert_eq!(words, "cannot be loaded: undefined symbol: pipeline_function_of_nobody");
}

/// The warnings of this thread while something is done.
fn warnings(body: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    tracing::subscriber::with_default(log.subscriber(), body);
    log.lines()
}

#[test]
fn a_library_that_keeps_more_and_more_rows_is_named_but_not_at_once() {
    let mut stage = build("KEEPS_ROWS").unwrap();
    let rows = readings(1, ROWS);
    let mut keep =
        |n: usize| warnings(|| (0..n).for_each(|_| stage.process(0, &rows, &mut Output::default()).unwrap()));
    let told = keep(1_000);
    assert!(told.is_empty(), "{told:?}");
    let words = "stage: its plugin keeps 1001 batches of rows that it was given; if it has no use for them, it does not \
                 `release` them, and memory will run out";
    assert_eq!(keep(8_000), [format!("WARN {words}")]);
    assert_eq!(keep(2_000), [format!("WARN {}", words.replace("1001", "10001"))], "told again at ten times as many");
    let mut good = build("GOOD").unwrap();
    let told = warnings(|| (0..1_100).for_each(|_| good.process(0, &rows, &mut Output::default()).unwrap()));
    assert!(told.is_empty(), "{told:?}");
}

/// What a stage has saved.
#[derive(Default)]
struct Saved(Vec<(Vec<u8>, usize)>);

impl StateWriter for Saved {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), value.len()));
    }
    fn delete(&mut self, _: &[u8]) {}
}

#[test]
fn state_that_cannot_be_is_not_saved() {
    let parted = "it must be parted over several keys";
    for (case, words) in [
        (
            "VALUE_TOO_LARGE",
            format!("a value of the plugin's state has 67108865 bytes, it may have 67108864: {parted}"),
        ),
        (
            "VALUE_OF_1_GB",
            format!("a value of the plugin's state has 1073741824 bytes, it may have 67108864: {parted}"),
        ),
        (
            "VALUES_OF_1_GB",
            "the plugin's state has changed by more than 1073741824 bytes since its last checkpoint: it must keep \
             less, or the rows be parted over more tasks"
                .to_owned(),
        ),
        ("KEY_NULL", "a key of the plugin's state is NULL with 1 bytes".to_owned()),
        ("VALUE_NULL", "a value of the plugin's state is NULL with 1 bytes".to_owned()),
        ("FORGETS_NULL", "a key of the plugin's state is NULL with 1 bytes".to_owned()),
    ] {
        let error = build(case).unwrap().save(&mut Saved::default()).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Fatal, words), "{case}");
    }
    for (case, expected) in [("GOOD", (vec![7], 1)), ("NULL_OF_NO_BYTES", (vec![], 0))] {
        let mut saved = Saved::default();
        build(case).unwrap().save(&mut saved).unwrap();
        assert_eq!(saved.0, [expected], "{case}");
    }
}

#[test]
fn a_stage_that_cannot_read_its_state_says_so() {
    let state = SavedState { entries: vec![(vec![7], vec![7]), (vec![8], vec![7, 7])] };
    let folder = compile::folder();
    let library = Library::load(&compile(&folder, "STATE_OF_ANOTHER_SIZE"), None).unwrap();
    let Make::Transform(make) = &library.stages[0].make else { panic!("it is no transform") };
    let made = make(json!({}), &stage_context(), &[reading_schema()], state);
    let error = made.map(|_| panic!("it was built")).unwrap_err();
    let words = "the saved state has another size: start it with `--cold-start`";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_loaded_is_what_was_hashed_whatever_becomes_of_the_file() {
    let folder = compile::folder();
    let sha256 = |path: &Path| {
        let error = Library::load(path, Some("")).map(|library| library.name).unwrap_err();
        error.to_string().split("has the SHA-256 ").nth(1).unwrap()[..64].to_owned()
    };
    let (first, second) = (compile(&folder, "FIRST"), compile(&folder, "DATA"));
    let (of_first, of_second) = (sha256(&first), sha256(&second));
    let library = Library::load(&first, Some(&of_first)).unwrap();
    // Written over in place: a library that was mapped from the file would change under its own feet.
    std::fs::write(&first, std::fs::read(&second).unwrap()).unwrap();
    let Make::Transform(make) = &library.stages[0].make else { panic!("it is no transform") };
    let mut stage = make(json!({}), &stage_context(), &[reading_schema()], SavedState::default()).unwrap();
    stage.process(0, &readings(1, ROWS), &mut Output::default()).unwrap();
    // The file has another hash now, but it is not what runs.
    Library::load(&first, Some(&of_first)).unwrap();
    let error = Library::load(&first, Some(&of_second)).map(|library| library.name).unwrap_err();
    let words = format!("is loaded already and has the SHA-256 {of_first}, not the one that is written here");
    assert_eq!((error.to_string(), error.option()), (format!("`{}` {words}", first.display()), Some("sha256")));
    // One that was loaded without a hash, and replaced since.
    Library::load(&second, None).unwrap();
    std::fs::remove_file(&second).unwrap();
    std::fs::write(&second, "another file").unwrap();
    Library::load(&second, Some(&of_second)).unwrap();
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
