//! Every built-in stage says what it is, and its example works.

use pipeline_builtin::stages;
use pipeline_testkit::checks_out;

#[test]
fn all_check_out() {
    let stages = stages();
    assert!(5 <= stages.len());
    for stage in &stages {
        checks_out(stage);
    }
}
