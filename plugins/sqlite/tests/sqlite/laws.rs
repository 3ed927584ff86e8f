//! The laws that every sink obeys.

use pipeline_testkit::{Asked, Effort, trials};
use serde_json::json;

use crate::fixture::Folder;

#[test]
fn it_stands_the_trials() {
    let (stage, folder) = (pipeline_sqlite::stages().remove(0), Folder::new());
    let options = json!({"path": "iot.db", "table": "trial"});
    let trials =
        trials(&Asked { stage: &stage, options: &options, like: None, directory: folder.path(), effort: Effort::Full });
    assert_eq!(trials.len(), 3);
    for trial in trials {
        let name = trial.name.clone();
        let words = trial.run().unwrap_or_else(|broken| panic!("{name}: {broken}"));
        println!("{name}: {words}");
    }
}
