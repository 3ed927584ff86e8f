//! The command that watches the memory of a long run: what it says, and that it can say no.

use std::process::{Command, Output};

use serde_json::Value;

use crate::production::repository;

fn soaked(options: &[&str]) -> Output {
    let mut soak = Command::new(repository().join("tests/bench/soak/run"));
    soak.arg(env!("CARGO_BIN_EXE_pipeline")).args(["--seconds", "10", "--rate", "200"]).args(options);
    soak.output().expect("it starts")
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_run_is_judged_by_the_memory_that_it_takes() {
    let (good, bad) = tokio::join!(
        tokio::task::spawn_blocking(|| soaked(&["--limit", "500", "--growth", "100"])),
        tokio::task::spawn_blocking(|| soaked(&["--limit", "1", "--growth", "-100"])),
    );
    let (good, bad) = (good.unwrap(), bad.unwrap());
    assert!(good.status.success(), "{good:?}");
    let said = figures(&good);
    assert_eq!(said["holds"], true);
    assert!(said["rows"].as_u64() >= Some(1_800) && said["megabytes_late"].as_f64() > Some(1.0), "{said}");

    assert_eq!((bad.status.code(), &figures(&bad)["holds"]), (Some(1), &Value::Bool(false)));
    let words = String::from_utf8_lossy(&bad.stderr);
    assert!(words.contains("at most 1 are allowed") && words.contains("it grew from"), "{words}");
}
