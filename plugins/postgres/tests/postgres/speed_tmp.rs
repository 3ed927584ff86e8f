use std::time::Instant;
use serde_json::json;
use crate::fixture::*;
#[tokio::test]
async fn speed() {
    for indexes in [json!([]), json!(["timestamp", "sensor_id"])] {
    for n in [1usize, 100, 1_000, 5_000, 10_000, 10_001, 50_000, 100_000] {
        let database = database().await;
        let names: Vec<String> = (0..n).map(|i| format!("sensor-{:02}", i % 50)).collect();
        let names: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
        let rows = readings(&names);
        let batches: Vec<_> = (0..n).step_by(8192).map(|i| rows.slice(i, 8192.min(n - i))).collect();
        let mut sink = sink(&database, json!({"table": "t", "indexes": indexes}), schema());
        sink.claim(&owner("0", "life-1", 1)).await.unwrap();
        let mut times = vec![];
        for e in 1..=11 { let b = batches.clone(); let t = Instant::now(); commit(sink.as_mut(), e, b).await; times.push(t.elapsed().as_micros()); }
        times.sort();
        println!("indexes {} rows {n}: min {} µs median {} µs = {} rows/s", indexes, times[0], times[5], n as u128 * 1_000_000 / times[5]);
    }}
}
