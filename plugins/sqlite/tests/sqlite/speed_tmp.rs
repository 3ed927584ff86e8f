use std::sync::Arc;
use std::time::Instant;
use arrow::array::*;
use serde_json::json;
use crate::fixture::*;
#[tokio::test]
async fn speed() {
    for n in [1usize, 100, 1_000, 5_000, 50_000] {
        let folder = Folder::new();
        let names: Vec<String> = (0..n).map(|i| format!("sensor-{:02}", i % 50)).collect();
        let rows = batch(vec![
            ("sensor_id", Arc::new(StringArray::from(names)) as ArrayRef),
            ("metric_type", Arc::new(StringArray::from(vec!["temperature"; n]))),
            ("value", Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64 * 0.37)))),
            ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values((0..n as i64).map(|i| 1_752_999_556_412_001 + i)).with_timezone("UTC"))),
        ]);
        let mut sink = folder.sink(json!({}), rows.schema());
        sink.claim(&owner("0", "life-1", 1)).await.unwrap();
        let mut times = vec![];
        for e in 1..=11 { let b = vec![rows.clone()]; let t = Instant::now(); commit(sink.as_mut(), e, b).await; times.push(t.elapsed().as_micros()); }
        times.sort();
        println!("rows {n}: min {} µs median {} µs = {} rows/s", times[0], times[5], n as u128 * 1_000_000 / times[5]);
    }
}
