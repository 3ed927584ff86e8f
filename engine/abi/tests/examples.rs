//! The examples in C obey the laws, also under the sanitizers of `.ci/sanitize`.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod compile;

use std::path::Path;

use pipeline_abi::host::Library;
use pipeline_stage::{
    Branches, BuiltSink, Claim, Commit, EpochRows, Make, Mark, Origins, Owner, Rows, SinkContext, StageContext,
    StageType,
};
use pipeline_testkit::{obeys_laws, reading_schema, readings, stage_context};
use serde_json::json;

fn example(name: &str) -> StageType {
    let (here, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), compile::folder());
    let source = here.join("../../plugins/example-c").join(name).with_extension("c");
    let library = compile::compile_with(&folder, &source, &here.join("include"), name);
    Library::load(&library, None).unwrap().stages.swap_remove(0)
}

#[test]
fn the_detector_obeys_the_laws() {
    let options = json!({"value": "value", "time": "timestamp", "window": 10});
    obeys_laws(&example("zscore"), &options, &readings(3, 5_000));
}

#[tokio::test]
async fn the_sink_cuts_its_file_back_to_its_mark() {
    let folder = compile::folder();
    let Make::Sink(make) = example("journal").make else { panic!("it is a sink") };
    let stage = StageContext { directory: folder.path().to_owned(), ..stage_context() };
    let context = SinkContext { stage, schema: reading_schema(), detector: None };
    let Ok(BuiltSink::Epochs(mut sink)) = make(json!({"path": "out.csv"}), context) else { panic!("it takes epochs") };
    let text = |text: &str| text.to_owned();
    let (pipeline, name, task, state_id) = (text("iot"), text("journal"), text("0"), text("a1b2c3d4e5"));
    let mut mark = Mark {
        pipeline: pipeline.clone(),
        sink: name.clone(),
        task: task.clone(),
        state_id: state_id.clone(),
        generation: 1,
        epoch: 1,
        positions: text("{}"),
        detail: None,
    };
    let mut owner = Owner { pipeline, sink: name, task, state_id, generation: 1, stored: None, takes_over: false };
    let epoch = |mark: &Mark, epoch| {
        let origins = Origins { place: "readings/0".into(), offsets: (0..50).collect(), branches: Branches::All(1) };
        let rows = vec![Rows { batch: readings(epoch, 50), origins }];
        EpochRows { mark: Mark { epoch, ..mark.clone() }, rows }
    };
    assert_eq!(sink.claim(&owner).await.unwrap(), Claim::New);
    let Commit::Done(details) = sink.commit(&[epoch(&mark, 1)]).await.unwrap() else { panic!("nothing is refused") };
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let after_one = std::fs::read(&file).unwrap();
    sink.commit(&[epoch(&mark, 2)]).await.unwrap();
    let after_two = std::fs::read(&file).unwrap();
    assert!(after_one.len() < after_two.len());
    // As after a crash whose second mark was not kept.
    mark.detail = details[0].clone();
    owner.stored = Some(mark.clone());
    assert_eq!(sink.claim(&owner).await.unwrap(), Claim::At(mark.clone()));
    assert_eq!(std::fs::read(&file).unwrap(), after_one);
    sink.commit(&[epoch(&mark, 2)]).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), after_two);
}
