//! Messages from a broker into batches, as the source `kafka` gives them; nothing is decoded.
//!
//! The broker is started here, or the one of `PIPELINE_TEST_KAFKA`; on a small machine it takes part of the cores.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pipeline_kafka::KafkaSourceOptions;
use pipeline_services::{Kafka, Record, unique_name};
use pipeline_stage::{Assignment, Position, Reader, Role, Source, SourceContext, SourceOptions, StageContext, parse};
use pipeline_testkit::{Random, stage_context};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::rows::{IS_QUICK, reading};

const MESSAGES: usize = if IS_QUICK { 10_000 } else { 1_000_000 };

/// Given to the broker at once.
const MESSAGES_AT_ONCE: usize = 50_000;

/// A whole topic of one partition, from its beginning to its end.
#[divan::bench(sample_count = 7, sample_size = 1)]
fn kafka(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().expect("threads can be had");
    let broker = runtime.block_on(Kafka::shared());
    let topic = unique_name("micro");
    let n_bytes = runtime.block_on(fill(broker, &topic));
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .counter(BytesCount::new(n_bytes))
        .with_inputs(|| runtime.block_on(open(broker, &topic)))
        .bench_local_refs(|(_source, reader)| {
            assert_eq!(runtime.block_on(read(&mut **reader)), MESSAGES);
        });
}

/// Makes the topic; its bytes.
async fn fill(broker: &Kafka, topic: &str) -> usize {
    broker.create_topic(topic, 1).await;
    let (mut random, mut n_bytes) = (Random::new(4), 0);
    for first in (0..MESSAGES).step_by(MESSAGES_AT_ONCE) {
        let last = MESSAGES.min(first + MESSAGES_AT_ONCE);
        let records = (first..last).map(|row| {
            let fields = reading(row, &mut random);
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let payload = format!("{{{}}}", fields.join(", "));
            n_bytes += payload.len();
            Record::new(payload)
        });
        broker.produce(topic, records.collect()).await;
    }
    n_bytes
}

/// Opens the partition as a new group, up to its present end.
async fn open(broker: &Kafka, topic: &str) -> (Box<dyn Source>, Box<dyn Reader>) {
    let options = json!({ "brokers": broker.brokers(), "topic": topic, "group": unique_name("micro") });
    let options: KafkaSourceOptions = parse(options).expect("good options");
    let stage = StageContext { once: true, ..stage_context() };
    let mut source = options.build(SourceContext { stage, framing: None, role: Role::Leader }).expect("good options");
    let gained = source.assignment().await.expect("the broker answers");
    let Assignment::Gained(partitions) = gained else { panic!("expected partitions, got {gained:?}") };
    let reader = source.open(&partitions[0], Some(&Position::at(0))).await.expect("the partition is there");
    (source, reader)
}

async fn read(reader: &mut dyn Reader) -> usize {
    let mut n_rows = 0;
    while let Some(batch) = reader.next(None).await.expect("the broker answers") {
        n_rows += batch.len();
    }
    n_rows
}
