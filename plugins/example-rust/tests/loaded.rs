//! The detector obeys the laws, in this process and loaded from its library.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use pipeline_abi::host::Library;
use pipeline_example_rust::JumpOptions;
use pipeline_stage::StageType;
use pipeline_testkit::{checks_out, obeys_laws, readings};
use serde_json::json;

#[test]
fn obeys_the_laws_here_and_loaded() {
    let name = format!("{}pipeline_example_rust{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    // Cargo puts the library beside the test.
    let library = Library::load(&std::env::current_exe().unwrap().with_file_name(name), None).unwrap();
    for stage in [StageType::detector::<JumpOptions>(), library.stages[0].clone()] {
        checks_out(&stage);
        let evidence = obeys_laws(&stage, &json!({"value": "value", "limit": 3}), &readings(3, 4_000));
        assert_eq!(evidence.rows_out, 4_000);
        assert!(50 < evidence.resumed_with_state, "{evidence:?}");
    }
}
