//! An alert and its reasons, for programs: every digit.

use pipeline_stage::Timestamp;
use serde_json::{Value, json};

use super::find::as_object;
use super::shown::{Alert, Explained, Figures};

impl Explained {
    /// What a list says of it, and all numbers.
    pub fn as_json(&self) -> Value {
        let (alert, judged, judge) = (self.alert(), &self.evidence.judged, &self.evidence.judge);
        let mut object = as_object(&self.line);
        object["row"] = Value::Object(alert.row.clone());
        object["position"] = json!({ "place": judged.place, "offset": judged.offset, "branch": judged.branch });
        object["rule"] = json!({
            "type": judge.of, "options": judge.options, "secret_options": judge.secrets, "version": judge.version,
        });
        object["window"] = self.window().map_or(Value::Null, |window| window_as_json(window, &alert));
        object["band"] = json!({
            "expected": alert.number("expected"), "lower": alert.number("lower"), "upper": alert.number("upper"),
        });
        object["again"] = match &self.again {
            Ok(again) => json!({ "is_same": again.is_same, "row": again.row }),
            Err(why) => json!({ "is_same": null, "why_not": why }),
        };
        object["changed_options"] = self.again.as_ref().map_or(Value::Null, |again| {
            let changed = again.changed.iter();
            changed.map(|(name, was, now)| json!({ "name": name, "was": was, "now": now })).collect()
        });
        object["delivered"] = self.deliveries_as_json();
        object
    }

    fn deliveries_as_json(&self) -> Value {
        let deliveries = self.deliveries.iter().map(|delivery| {
            json!({
                "sink": delivery.sink, "status": delivery.status, "at": delivery.at.map(Timestamp::to_rfc3339),
                "words": delivery.words,
            })
        });
        deliveries.collect()
    }
}

fn window_as_json(window: &[f64], alert: &Alert) -> Value {
    let Some(figures) = Figures::of(window) else { return Value::Null };
    json!({
        "values": window, "count": figures.count, "mean": alert.mean(&figures),
        "deviation": figures.deviation, "min": figures.least, "max": figures.greatest,
    })
}
