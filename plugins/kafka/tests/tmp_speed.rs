//! tmp
mod support;
use pipeline_services::{Kafka, Record};
use std::time::Instant;
use support::*;
#[tokio::test(flavor = "multi_thread")]
async fn speed() {
    let kafka = Kafka::shared().await;
    for (name, parts) in [("speed1", 1), ("speed4", 4)] {
        let topic = name.to_string();
        if std::env::var("LOAD").is_ok() {
            kafka.create_topic(&topic, parts).await;
            for chunk in 0..20 {
                let records = (0..100_000).map(|n| Record::new(format!(r#"{{"sensor_id":"sensor-{:05}","metric_type":"temperature","value":{:.2},"timestamp":"2025-07-20T08:19:{:02}Z"}}"#, n % 1000, n as f64 / 7.0, n % 60)).key(format!("sensor-{:05}", n % 1000))).collect();
                kafka.produce(&topic, records).await;
                let _ = chunk;
            }
        }
        for round in 0..3 {
            let mut source = Setup::of(kafka, &topic)
                .once()
                .with("group", serde_json::json!(format!("{topic}-{round}-{}", std::process::id())))
                .build();
            let start = Instant::now();
            let partitions = gained(&mut source).await;
            let joined = start.elapsed();
            let start = Instant::now();
            let mut tasks = Vec::new();
            for p in &partitions {
                let mut reader = source.open(p, None).await.unwrap();
                tasks.push(tokio::spawn(async move {
                    let (mut n, mut b) = (0, 0);
                    while let Some(batch) = reader.next(None).await.unwrap() {
                        n += batch.len();
                        b += 1;
                    }
                    (n, b, Instant::now())
                }));
            }
            let opened = start.elapsed();
            let (mut n, mut b) = (0, 0);
            let mut last = start;
            for t in tasks {
                let (x, y, at) = t.await.unwrap();
                n += x;
                b += y;
                last = last.max(at);
            }
            let took = last - start;
            println!(
                "{name}: joined {joined:?} opened {opened:?} {n} rows {b} batches in {took:?}: {:.0} rows/s",
                n as f64 / (took - opened).as_secs_f64()
            );
        }
    }
}
