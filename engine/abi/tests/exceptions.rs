//! C++ exceptions that leave a library become errors with their words, whichever function they leave.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod compile;

use pipeline_abi::host::Library;
use pipeline_stage::{
    Alert, BuiltSink, EpochRows, ErrorKind, Make, Mark, OutboxSink, Output, Owner, Partition, Position, Reader, Result,
    Role, SavedState, Sink, SinkContext, Source, SourceContext, StageError, StageType, StateWriter, Times, Timestamp,
    Transform,
};
use pipeline_testkit::{reading_schema, readings, stage_context};
use serde_json::json;

fn load(case: &str) -> Result<StageType> {
    Ok(stages(case)?.swap_remove(0))
}

fn stages(case: &str) -> Result<Vec<StageType>> {
    let folder = compile::folder();
    let library = compile::compile(&folder, "throws.cpp", case);
    Library::load(&library, None).map(|library| library.stages)
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
        ("WORDS_NULL", "the plugin threw an exception: without words"),
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

const WORDS: &str = "the plugin threw an exception: the sensor table is empty";

fn assert_throws<T>(case: &str, called: Result<T>) {
    let Err(error) = called else { panic!("{case} did not throw") };
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, WORDS), "{case}");
}

fn transform(case: &str) -> Box<dyn Transform> {
    let Make::Transform(make) = &stages(case).unwrap()[1].make else { panic!("it is no transform") };
    make(json!({}), &stage_context(), &[reading_schema()], SavedState::default()).unwrap()
}

#[test]
fn a_transform_may_throw_from_each_of_its_functions() {
    struct Nothing;
    impl StateWriter for Nothing {
        fn put(&mut self, _: &[u8], _: &[u8]) {}
        fn delete(&mut self, _: &[u8]) {}
    }
    let mut out = Output::default();
    assert_throws("PROCESS", transform("PROCESS").process(0, &readings(1, 5), &mut out));
    let at = Times { now: Timestamp(1), watermark: None };
    assert_throws("TICK", transform("TICK").tick(at, &mut out));
    assert_throws("SAVE", transform("SAVE").save(&mut Nothing));
    assert_eq!(transform("GOOD").held(), 7);
    assert_eq!(transform("HELD").held(), 0, "nothing is believed of one that throws");
}

fn source(case: &str) -> Box<dyn Source> {
    let Make::Source(make) = &stages(case).unwrap()[2].make else { panic!("it is no source") };
    make(json!({}), SourceContext { stage: stage_context(), framing: None, role: Role::Leader }).unwrap()
}

async fn reader(case: &str) -> Box<dyn Reader> {
    source(case).open(&Partition::numbered(0), None).await.unwrap()
}

#[tokio::test]
async fn a_source_may_throw_from_each_of_its_functions() {
    let (partition, through) = (Partition::numbered(0), Position::at(1));
    assert_throws("PARTITION_COUNT", source("PARTITION_COUNT").partition_count().await);
    assert_throws("ASSIGNMENT", source("ASSIGNMENT").assignment().await);
    assert_throws("OPEN", source("OPEN").open(&partition, None).await.map(drop));
    assert_throws("READ", reader("READ").await.next(None).await);
    assert_throws("LOGGED", source("LOGGED").logged(&partition, &through).await);
    assert_throws("FORGET", source("FORGET").forget(&partition, &through).await);
    assert_throws("RELEASE", source("RELEASE").release(&partition).await);
    let problems: Vec<StageError> = source("CHECK").check().await;
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [WORDS]);
    let mut closing = source("CLOSE");
    let mut reader = closing.open(&partition, None).await.unwrap();
    assert!(reader.next(None).await.unwrap().is_none());
    drop(reader);
    closing.release(&partition).await.expect("it throws only when its reader is closed");
}

fn sink(case: &str) -> Box<dyn Sink> {
    let Make::Sink(make) = &stages(case).unwrap()[3].make else { panic!("it is no sink") };
    match make(json!({}), SinkContext { stage: stage_context(), schema: reading_schema(), detector: None }).unwrap() {
        BuiltSink::Epochs(sink) => sink,
        BuiltSink::Outbox(_) => panic!("it takes epochs"),
    }
}

fn outbox(case: &str) -> Box<dyn OutboxSink> {
    let Make::Sink(make) = &stages(case).unwrap()[4].make else { panic!("it is no sink") };
    match make(json!({}), SinkContext { stage: stage_context(), schema: reading_schema(), detector: None }).unwrap() {
        BuiltSink::Outbox(sink) => sink,
        BuiltSink::Epochs(_) => panic!("it has an outbox"),
    }
}

#[tokio::test]
async fn a_sink_may_throw_from_each_of_its_functions() {
    let text = |text: &str| text.to_owned();
    let (pipeline, name, task, state_id) = (text("iot"), text("sink"), text("0"), text("a1"));
    let mark = Mark {
        pipeline: pipeline.clone(),
        sink: name.clone(),
        task: task.clone(),
        state_id: state_id.clone(),
        generation: 1,
        epoch: 1,
        positions: text("{}"),
        detail: None,
    };
    let owner = Owner { pipeline, sink: name, task, state_id, generation: 1, stored: None, takes_over: false };
    assert_throws("CLAIM", sink("CLAIM").claim(&owner).await);
    assert_throws("COMMIT", sink("COMMIT").commit(&[EpochRows { mark, rows: Vec::new() }]).await);
    let alert = Alert { id: text("1"), row: serde_json::Map::new(), digest_of: None };
    assert_throws("DELIVER", outbox("DELIVER").deliver(&alert).await);
}
