//! Questions that cannot be answered are refused in words.

use pipeline_stage::{ErrorKind, History, Page, Result, Selection, Timestamp};
use serde_json::{Value, json};

pub async fn check(history: &dyn History) {
    let all = Selection::default();
    let page = Page { by: "timestamp".into(), descending: true, after: None, limit: 10 };
    let by = |name: &str| Page { by: name.into(), ..page.clone() };
    let equal = |name: &str, value: Value| Selection { equal: vec![(name.into(), value)], ..Selection::default() };
    let time = |name: &str| Selection { time: Some((name.into(), None, None)), ..Selection::default() };
    let only = |name: &str| Selection { only: Some(name.into()), ..Selection::default() };
    let missing = "column `nothing` is not written into the table; there is number, sensor_id";

    refused(history.page(&all, &by("nothing")).await, missing);
    refused(history.page(&equal("nothing", json!(1)), &page).await, missing);
    refused(history.page(&time("nothing"), &page).await, missing);
    refused(history.page(&only("nothing"), &page).await, missing);
    refused(history.page(&equal("value", json!("x")), &page).await, "column `value` is asked for \"x\"");
    refused(history.page(&time("value"), &page).await, "column `value` is float, expected timestamp");
    refused(history.page(&only("value"), &page).await, "column `value` is float, expected boolean");
    let after = Page { after: Some((json!(7), 1)), ..page.clone() };
    refused(history.page(&all, &after).await, "column `timestamp` is asked for 7, expected a timestamp");

    refused(history.count_by(&all, &["nothing".into()], 1).await, missing);
    refused(history.count_by(&all, &[], 1).await, "no column is named");
    refused(history.distinct(&["nothing".into()], "", None, 1).await, missing);
    refused(history.distinct(&[], "", None, 1).await, "no column is named");
    let sensor = ["sensor_id".to_owned()];
    for (after, message) in [
        (vec![], "`after` has 0 values, expected 1"),
        (vec![json!("a"), json!("b")], "`after` has 2 values, expected 1"),
        (vec![Value::Null], "`after` has no value for column `sensor_id`"),
        (vec![json!(1)], "column `sensor_id` is asked for 1, expected of type string"),
    ] {
        refused(history.distinct(&sensor, "", Some(&after), 1).await, message);
    }

    let summary = async |rows: &Selection, value: &str, points| {
        history.summary(rows, value, Timestamp(0), Timestamp(10), points).await
    };
    let times = time("timestamp");
    refused(summary(&times, "nothing", 1).await, missing);
    refused(summary(&times, "sensor_id", 1).await, "column `sensor_id` is string, expected float or integer");
    refused(summary(&all, "value", 1).await, "a summary needs the column of times");
    refused(summary(&times, "value", 0).await, "`points` is 0, expected 1 to 10000");
    refused(summary(&times, "value", 10_001).await, "`points` is 10001, expected 1 to 10000");
}

fn refused<T>(answer: Result<T>, message: &str) {
    let Err(error) = answer else { panic!("answered, expected: {message}") };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().starts_with(message), "{error}, expected: {message}");
}
