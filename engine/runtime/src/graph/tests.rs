//! Pictures of a small plan.

use std::path::Path;

use super::*;
use crate::plan::{LoadOptions, Plan, load_text, test_registry};

const FILE: &str = r#"
name: iot
sources:
  readings: { type: numbers }
detectors:
  jumps: { type: jump, inputs: readings, value: value, window: 7 }
sinks:
  history: { type: table, inputs: [readings], url: "postgres://u:hush@h/d", table: data }
  alerts: { type: table, inputs: jumps, when: "is_anomaly and sensor_id <> '\"'", url: hush, table: alerts }
"#;

fn plan() -> Plan {
    match load_text("iot.yaml", FILE, Path::new("."), &LoadOptions::default(), &test_registry()) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{}", report.render(false)),
    }
}

#[test]
fn the_text_is_a_tree() {
    let expected = "
  readings         numbers
  ├─→ jumps        jump, window 7
  │   └─→ alerts   table alerts     exactly once   when is_anomaly and sensor_id <> '\"'
  └─→ history      table data       exactly once
";
    assert_eq!(text(&plan()), expected.trim_start_matches('\n'));
}

#[test]
fn mermaid_and_dot_escape_what_they_would_read_as_markup() {
    let expected = "flowchart LR
  readings([\"readings<br/>numbers\"])
  jumps[\"jumps<br/>jump, window 7\"]
  history[(\"history<br/>table data<br/>exactly once\")]
  alerts[(\"alerts<br/>table alerts<br/>exactly once\")]
  readings --> jumps
  readings --> history
  jumps -->|\"is_anomaly and sensor_id #lt;#gt; '#quot;'\"| alerts
";
    assert_eq!(mermaid(&plan()), expected);
    let dot = dot(&plan());
    assert!(dot.contains(r#"  "jumps" -> "alerts" [label="is_anomaly and sensor_id <> '\"'"];"#), "{dot}");
}

#[test]
fn no_picture_shows_a_secret() {
    let plan = plan();
    assert!(![text(&plan), mermaid(&plan), dot(&plan), outlook(&plan)].concat().contains("hush"));
}

#[test]
fn the_outlook_tells_state_and_delay() {
    let expected = "  state   about 1 bytes a series; `max_series` 1,000,000 → at most 1 MB for each task
  delay   a row is committed about 50ms after it was read, if the sinks keep up\n";
    assert_eq!(outlook(&plan()), expected);
}
