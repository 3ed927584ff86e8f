//! A library that was built for version 1.0 runs in this engine, and the header has only grown since.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod compile;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipeline_abi::host::Library;
use pipeline_abi::raw;
use pipeline_stage::{
    Alert, Assignment, Branches, BuiltSink, Claim, Commit, Console, Delivery, EpochRows, ErrorKind, Make, Mark, Origin,
    Origins, Outcome, Output, Owner, Partition, Position, Role, Rows, SavedState, SinkContext, SourceContext,
    SourceOutput, SourceRows, StageContext, StageType, StateWriter, Times, Timestamp, Transform, WhenFull,
};
use pipeline_testkit::stage_context;
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The stages of the fixture, built with the header that lies beside it.
fn stage(name: &str) -> StageType {
    let folder = compile::folder();
    let library =
        compile::compile_with(&folder, &repository("fixtures/1.0/stages.c"), &repository("fixtures/1.0"), "1_0");
    let library = Library::load(&library, None).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((library.abi, library.stages.len()), ((1, 0), 6));
    library.stages.into_iter().find(|stage| stage.name == name).unwrap()
}

fn transform(name: &str, options: Value, input: &SchemaRef, state: SavedState) -> Box<dyn Transform> {
    let Make::Transform(make) = stage(name).make else { panic!("`{name}` is no transform") };
    make(options, &stage_context(), std::slice::from_ref(input), state).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, true)]))
}

fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(numbers.collect::<Int64Array>())]).unwrap()
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[derive(Default)]
struct Saved(Vec<(Vec<u8>, Vec<u8>)>);

impl StateWriter for Saved {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), value.to_vec()));
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.retain(|(other, _)| other != key);
    }
}

#[test]
fn its_transform_runs() {
    let mut half = transform("half", json!({}), &schema(), SavedState::default());
    let mut out = Output::default();
    half.process(0, &rows(10..18).slice(1, 7), &mut out).unwrap();
    let outcome = out.take();
    let Origin::Rows(origins) = &outcome.emitted[0].1 else { panic!("it names its origins") };
    assert_eq!((numbers(&outcome.emitted[0].0), origins), (vec![12, 16], &vec![1, 5]));
    assert_eq!((outcome.rejected, outcome.late), (vec![(2, "13 brings bad luck".into())], vec![3]));
    assert_eq!(outcome.filtered, 3);
}

#[test]
fn its_detector_of_one_series_runs_and_goes_on_where_it_was() {
    let fields = [("sensor_id", DataType::Utf8), ("metric_type", DataType::Utf8), ("value", DataType::Float64)];
    let input: SchemaRef =
        Arc::new(Schema::new(fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect::<Vec<_>>()));
    let batch = |values: &[f64]| {
        let texts = Arc::new(StringArray::from(vec!["a"; values.len()]));
        let values = Arc::new(Float64Array::from(values.to_vec()));
        RecordBatch::try_new(input.clone(), vec![texts.clone(), texts, values]).unwrap()
    };
    let options = json!({"value": "value", "threshold": 2.0});
    let scores = |detector: &mut dyn Transform, values: &[f64]| {
        let mut out = Output::default();
        detector.process(0, &batch(values), &mut out).unwrap();
        let rows = out.take().emitted.swap_remove(0).0;
        let column = |name| rows.column_by_name(name).unwrap();
        let scores: Vec<_> = column("score").as_primitive::<Float64Type>().iter().collect();
        let jumps: Vec<_> = column("jump").as_primitive::<Float64Type>().iter().collect();
        let anomalies: Vec<_> = column("is_anomaly").as_boolean().iter().collect();
        (scores, jumps, anomalies)
    };
    let mut before = transform("jump", options.clone(), &input, SavedState::default());
    let found = scores(&mut *before, &[1.0, 2.0, -3.0]);
    let expected = (vec![None, Some(0.5), Some(2.5)], vec![None, Some(1.0), Some(-5.0)]);
    assert_eq!((found.0, found.1), expected);
    assert_eq!(found.2.last(), Some(&Some(true)));
    let mut saved = Saved::default();
    before.save(&mut saved).unwrap();
    let mut after = transform("jump", options.clone(), &input, SavedState { entries: saved.0 });
    assert_eq!(scores(&mut *after, &[-2.0]).0, [Some(0.5)]);

    // Its memory before an anomaly is evidence.
    let mut out = Output::with_evidence(1);
    after.process(0, &batch(&[-3.0, 9.0, -9.0]), &mut out).unwrap();
    let Outcome { emitted, mut evidence, .. } = out.take();
    let (key, judged) = evidence.pop().map(|evidence| (evidence.key.clone(), evidence)).unwrap();
    assert_eq!((evidence.len(), judged.row), (0, 1), "no more than is wanted");
    let before = SavedState { entries: vec![(key, judged.before.unwrap())] };
    let mut again = transform("jump", options, &input, before);
    let mut out = Output::default();
    again.process(0, &batch(&[9.0]), &mut out).unwrap();
    assert_eq!(out.take().emitted[0].0, emitted[0].0.slice(1, 1));
}

#[test]
fn its_detector_of_batches_runs_ticks_and_goes_on_where_it_was() {
    let mut before = transform("count", json!({}), &schema(), SavedState::default());
    let mut out = Output::default();
    before.process(0, &rows(0..3), &mut out).unwrap();
    before.tick(Times { now: Timestamp(5), watermark: None }, &mut out).unwrap();
    before.tick(Times { now: Timestamp(5), watermark: Some(Timestamp(4)) }, &mut out).unwrap();
    let outcome = out.take();
    let found: Vec<_> = outcome.emitted.iter().map(|(rows, _)| numbers(rows)).collect();
    assert_eq!((found, outcome.created, before.held()), (vec![vec![1, 2, 3], vec![3]], 1, 0));
    let mut saved = Saved::default();
    before.save(&mut saved).unwrap();
    before.save(&mut saved).unwrap();
    assert_eq!(saved.0, [(b"n".to_vec(), 3_i64.to_ne_bytes().to_vec())]);
    let mut after = transform("count", json!({}), &schema(), SavedState { entries: saved.0 });
    after.process(0, &rows(0..2), &mut out).unwrap();
    assert_eq!(numbers(&out.take().emitted[0].0), [4, 5]);
}

#[tokio::test]
async fn its_source_runs() {
    let Make::Source(make) = stage("counting").make else { panic!("it is no source") };
    let context = SourceContext { stage: stage_context(), framing: None, role: Role::Leader };
    let mut source = make(json!({"count": 16}), context).unwrap();
    assert!(matches!(source.output(), SourceOutput::Columns(columns) if columns.field(0).name() == "number"));
    assert!(source.has_partitions() && source.is_replayable());
    assert_eq!(source.partition_count().await.unwrap(), Some(1));
    let problems = source.check().await;
    assert_eq!((problems[0].to_string().as_str(), problems[0].option()), ("the door is locked", Some("count")));
    let partition = Partition { name: "numbers/0".into(), number: 0 };
    let all = vec![partition.clone()];
    let gained = Assignment::Gained(all.clone());
    for change in [gained.clone(), Assignment::Revoked(all.clone()), gained, Assignment::Lost(all), Assignment::Final] {
        assert_eq!(source.assignment().await.unwrap(), change);
    }
    let mut reader = source.open(&partition, None).await.unwrap();
    assert_eq!(reader.position(), Position { offset: 0, detail: Some("fresh".into()) });
    let mut found = Vec::new();
    for until in [Some(Position::at(5)), None] {
        while let Some(batch) = reader.next(until.as_ref()).await.unwrap() {
            let SourceRows::Columns(rows) = &batch.rows else { panic!("columns were promised") };
            found.extend(numbers(rows).into_iter().zip(batch.offsets));
        }
    }
    assert_eq!(found, (0..16).map(|number| (number, number as u64)).collect::<Vec<_>>());
    assert_eq!(reader.position(), Position { offset: 16, detail: Some("read".into()) });
    source.logged(&partition, &Position::at(5)).await.unwrap();
    source.forget(&partition, &Position::at(5)).await.unwrap();
    drop(reader);
    source.release(&partition).await.unwrap();
}

#[tokio::test]
async fn its_transactional_sink_runs() {
    let Make::Sink(make) = stage("total").make else { panic!("it is no sink") };
    let context = SinkContext { stage: stage_context(), schema: schema(), detector: None };
    let Ok(BuiltSink::Epochs(mut sink)) = make(json!({}), context) else { panic!("it takes epochs") };
    assert_eq!(sink.delivery(), Delivery::Transactional);
    let text = |text: &str| text.to_owned();
    let owner = |generation| Owner {
        pipeline: text("iot"),
        sink: text("sums"),
        task: text("0"),
        state_id: text("a1"),
        generation,
        stored: None,
        takes_over: false,
    };
    let epoch = |number: u64, numbers: std::ops::Range<i64>| {
        let mark = Mark {
            pipeline: text("iot"),
            sink: text("sums"),
            task: text("0"),
            state_id: text("a1"),
            generation: 2,
            epoch: number,
            positions: text("{}"),
            detail: None,
        };
        let offsets = numbers.clone().map(|number| number as u64).collect();
        let origins = Origins { place: "numbers/0".into(), offsets, branches: Branches::All(1) };
        EpochRows { mark, rows: vec![Rows { batch: rows(numbers), origins }] }
    };
    assert_eq!(sink.claim(&owner(2)).await.unwrap(), Claim::New);
    let Commit::Refused(refused) = sink.commit(&[epoch(1, 0..3), epoch(2, 12..15)]).await.unwrap() else { panic!() };
    assert_eq!((refused.len(), refused[0].epoch, refused[0].row), (1, 1, 1));
    let epochs = [epoch(1, 0..3), epoch(2, 14..16)];
    let Commit::Done(details) = sink.commit(&epochs).await.unwrap() else { panic!("nothing was refused") };
    assert_eq!(details, [Some(text("up to 32")), Some(text("up to 32"))]);
    assert_eq!(sink.claim(&owner(3)).await.unwrap(), Claim::At(epochs[1].mark.clone()));
    assert_eq!(sink.claim(&owner(2)).await.unwrap_err().kind(), ErrorKind::Lost);
}

/// Nobody reads what comes after the first line.
#[derive(Default)]
struct OneLine(Mutex<Vec<u8>>);

impl Console for OneLine {
    fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        let mut written = self.0.lock().unwrap();
        match written.is_empty() {
            true => std::io::Write::write_all(&mut *written, lines),
            false => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
    fn is_terminal(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn its_outbox_sink_runs() {
    let Make::Sink(make) = stage("bell").make else { panic!("it is no sink") };
    let console = Arc::new(OneLine::default());
    let context = StageContext { console: console.clone(), ..stage_context() };
    let built = make(json!({}), SinkContext { stage: context, schema: schema(), detector: None });
    let Ok(BuiltSink::Outbox(mut sink)) = built else { panic!("it has an outbox") };
    let pace = sink.pace();
    assert_eq!((pace.at_most_every, pace.timeout), (Duration::from_millis(100), Duration::from_secs(5)));
    assert_eq!((pace.max_pending, pace.when_full), (7, WhenFull::Wait));
    let row = json!({"number": 7}).as_object().unwrap().clone();
    let alert = Alert { id: "a-7".into(), row, digest_of: Some(3) };
    sink.deliver(&alert).await.unwrap();
    assert_eq!(*console.0.lock().unwrap(), b"a-7 {\"number\":7} 3\n");
    let error = sink.deliver(&alert).await.unwrap_err();
    assert_eq!((error.kind(), error.pause()), (ErrorKind::Transient, Some(Duration::from_secs(2))));
}

/// A structure of a header: its name and the declarations of its fields.
type Structure = (String, Vec<String>);

/// The header without comments, its white space made one.
fn plain(header: &str) -> String {
    let parts = header.split("/*").enumerate();
    let code = parts.map(|(number, part)| if number == 0 { part } else { part.split_once("*/").unwrap().1 });
    code.collect::<String>()
}

fn structures(header: &str) -> Vec<Structure> {
    let code = plain(header);
    let bodies = code.match_indices("struct ").filter_map(|(start, word)| {
        let (name, rest) = code[start + word.len()..].split_once(" {")?;
        let is_name = name.chars().all(char::is_alphanumeric);
        let (body, _) = rest.split_once('}')?;
        let fields = body.split(';').map(|field| field.split_whitespace().collect::<Vec<_>>().join(" "));
        is_name.then(|| (name.to_owned(), fields.filter(|field| !field.is_empty()).collect()))
    });
    bodies.collect()
}

/// `void (*log)(int32_t level)` → `log`
fn name_of(field: &str) -> &str {
    let name = match field.split_once("(*") {
        Some((_, function)) => function.split(')').next().unwrap(),
        None => field.rsplit([' ', '*']).next().unwrap(),
    };
    assert!(name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty(), "{field}");
    name
}

/// The names of all constants: enumerators and macros with a value.
fn constants(header: &str) -> Vec<String> {
    let code = plain(header);
    let enums = code.split("enum {").skip(1).flat_map(|after| after.split('}').next().unwrap().split(','));
    let enumerators = enums.filter_map(|entry| Some(entry.split_once('=')?.0.trim().to_owned()));
    let macros = code.lines().filter_map(|line| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        (!value.starts_with("__")).then(|| name.to_owned())
    });
    enumerators.chain(macros).collect()
}

/// What a C compiler makes of these structures and constants with the header of a folder.
fn measured(structures: &[Structure], constants: &[String], include: &Path) -> Vec<String> {
    let mut program = "#include \"pipeline_plugin.h\"\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (name, fields) in structures {
        for field in fields.iter().map(|field| name_of(field)) {
            program += &format!(
                "printf(\"{name}.{field} at %zu with %zu\\n\", offsetof(struct {name}, {field}), sizeof ((struct {name} *)0)->{field});\n"
            );
        }
    }
    for name in constants {
        program += &format!("printf(\"{name} is %lld\\n\", (long long){name});\n");
    }
    for (name, _) in structures {
        program += &format!("printf(\"sizeof {name} %zu\\n\", sizeof(struct {name}));\n");
    }
    let folder = compile::folder();
    let (source, binary) = (folder.path().join("measure.c"), folder.path().join("measure"));
    std::fs::write(&source, program + "}\n").unwrap();
    let mut compile = Command::new("cc");
    let done = compile.arg("-I").arg(include).arg(&source).arg("-o").arg(&binary).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = Command::new(&binary).output().unwrap().stdout;
    String::from_utf8(said).unwrap().lines().map(str::to_owned).collect()
}

fn header(folder: &str) -> (PathBuf, String) {
    let folder = repository(folder);
    let text = std::fs::read_to_string(folder.join("pipeline_plugin.h")).unwrap();
    (folder, text)
}

#[test]
fn the_header_has_only_grown() {
    let ((then_folder, then), (now_folder, now)) = (header("fixtures/1.0"), header("include"));
    let (then_structures, now_structures) = (structures(&then), structures(&now));
    assert!(26 <= then_structures.len(), "{} structures were found", then_structures.len());
    for (name, fields) in &then_structures {
        let (_, grown) = now_structures.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name}"));
        assert!(grown.starts_with(fields), "{name} was {fields:?} and is {grown:?}");
    }
    let constants: Vec<String> = constants(&then).into_iter().filter(|name| name != "PIPELINE_ABI_MINOR").collect();
    assert!(32 <= constants.len(), "{constants:?}");
    let before = measured(&then_structures, &constants, &then_folder);
    let after = measured(&then_structures, &constants, &now_folder);
    assert!(200 < before.len() && before.len() == after.len(), "{} and {} lines", before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        match before.strip_prefix("sizeof ").and_then(|size| size.split_once(' ')) {
            None => assert_eq!(before, after),
            Some((name, size)) => {
                let grown = after.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
                assert!(size.parse::<usize>().unwrap() <= grown, "{name} was {size} bytes and is {grown}");
            }
        }
    }
}

#[test]
fn structures_in_rust_are_those_of_the_header() {
    let (folder, text) = header("include");
    let measured = measured(&structures(&text), &[], &folder);
    let size = |name: &str| {
        let line = measured.iter().find_map(|line| line.strip_prefix(&format!("sizeof {name} ")));
        line.unwrap_or_else(|| panic!("{name}")).parse::<usize>().unwrap()
    };
    macro_rules! same {
        ($($rust:ident $c:literal),* $(,)?) => { [$(($c, size_of::<raw::$rust>())),*] };
    }
    for (name, in_rust) in same!(
        RawError "PipelineError", RawEngine "PipelineEngine", RawOptions "PipelineOptions", RawEntry "PipelineEntry",
        RawBuild "PipelineBuild", RawBuilt "PipelineBuilt", RawOutput "PipelineOutput", RawState "PipelineState",
        RawReading "PipelineReading", RawScore "PipelineScore", RawPartition "PipelinePartition",
        RawPosition "PipelinePosition", RawAssignment "PipelineAssignment", RawBatch "PipelineBatch",
        RawFound "PipelineFound", RawMark "PipelineMark", RawOwner "PipelineOwner", RawClaim "PipelineClaim",
        RawRowsOf "PipelineRows", RawEpoch "PipelineEpoch", RawCommit "PipelineCommit", RawAlert "PipelineAlert",
        RawFindings "PipelineFindings", RawStage "PipelineStage", RawPlugin "PipelinePlugin",
        FFI_ArrowArray "ArrowArray", FFI_ArrowSchema "ArrowSchema",
    ) {
        assert_eq!(size(name), in_rust, "{name}");
    }
}
