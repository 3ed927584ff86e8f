//! Which detector a sink's rows come through.

use std::path::Path;

use super::{options, plan_of};

/// The detector that `alerts` is told of: its id.
fn above(detectors: &str, alerts: &str) -> Option<String> {
    // Every detector is read by some stage.
    let table = |id: &str| format!("  all_{id}: {{ type: table, inputs: {id}, url: '0123', table: data }}\n");
    let all = table("first") + &if detectors.is_empty() { String::new() } else { table("second") };
    let text = format!(
        "name: iot\nkey: [sensor_id]\nsources:\n  readings: {{ type: numbers, rate: 1 per second }}\n\
         detectors:\n  first: {{ type: jump, inputs: readings, value: value }}\n{detectors}\
         sinks:\n{all}  alerts: {{ type: post, {alerts}, url: 'http://x/y' }}\n"
    );
    let (plan, _) = plan_of(&text, &options()).unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert_eq!(plan.settings.directory, Path::new("."));
    let sink = plan.stages.iter().position(|stage| stage.id == "alerts").unwrap();
    plan.told_of_detector_above(sink).map(|told| {
        assert_eq!((told.key, told.time), (vec!["sensor_id".to_owned()], None));
        told.id
    })
}

#[test]
fn it_is_the_one_that_is_asked_for_else_the_nearest() {
    let (beside, below) = (
        "  second: { type: jump, inputs: readings, value: value }\n",
        "  second: { type: jump, inputs: first, value: value, prefix: second_ }\n",
    );
    for (detectors, alerts, expected) in [
        ("", "inputs: readings", None),
        ("", "inputs: first", Some("first")),
        (below, "inputs: second", Some("second")),
        (below, "inputs: second, when: is_anomaly", Some("first")),
        (below, "inputs: second, when: second_is_anomaly", Some("second")),
        (beside, "inputs: [first, second], when: is_anomaly", None),
        (beside, "inputs: [second], when: is_anomaly", Some("second")),
    ] {
        assert_eq!(above(detectors, alerts).as_deref(), expected, "{detectors} {alerts}");
    }
}
