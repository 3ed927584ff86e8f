//! The sink over a real broker: each row once, whoever dies when.

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_kafka::KafkaSinkOptions;
use pipeline_services::{Kafka, unique_name};
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, ErrorKind, Mark, Origins, Owner, Refused, Rows, Sink, SinkContext,
    SinkOptions, parse,
};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};
use support::*;

fn rows(from: i64, count: usize) -> Rows {
    let ids: Vec<String> = (0..count).map(|n| format!("sensor-{}", n % 3)).collect();
    let numbers = (from..).take(count);
    let columns: [(&str, ArrayRef); 4] = [
        ("sensor_id", Arc::new(StringArray::from(ids))),
        ("number", Arc::new(Int64Array::from_iter_values(numbers))),
        ("value", Arc::new(Float64Array::from_iter_values((0..count).map(|n| if n == 1 { f64::NAN } else { 1.5 })))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..count).map(|_| 1_752_999_556_412_000))
                    .with_timezone("UTC"),
            ),
        ),
    ];
    rows_of(columns, count)
}

fn rows_of<const N: usize>(columns: [(&str, ArrayRef); N], count: usize) -> Rows {
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let offsets = (0..count as u64).collect();
    Rows { batch, origins: Origins::new("readings/0".into(), offsets) }
}

fn owner(topic: &str, task: &str, generation: u64) -> Owner {
    Owner {
        pipeline: topic.into(),
        sink: "out".into(),
        task: task.into(),
        state_id: "state".into(),
        generation,
        stored: None,
        takes_over: false,
    }
}

fn epoch(owner: &Owner, epoch: u64, rows: Vec<Rows>) -> EpochRows {
    let mark = Mark {
        pipeline: owner.pipeline.clone(),
        sink: owner.sink.clone(),
        task: owner.task.clone(),
        state_id: owner.state_id.clone(),
        generation: owner.generation,
        epoch,
        positions: format!(r#"{{"readings":{epoch}}}"#),
        detail: None,
    };
    EpochRows { mark, rows }
}

fn sink(kafka: &Kafka, topic: &str, more: Value) -> Box<dyn Sink> {
    let mut options = json!({ "brokers": kafka.brokers(), "topic": topic });
    for (name, value) in more.as_object().expect("options") {
        options[name] = value.clone();
    }
    let mut stage = stage_context();
    stage.pipeline = topic.into();
    stage.id = "out".into();
    let context = SinkContext { stage, schema: rows(0, 1).batch.schema(), detector: None };
    match parse::<KafkaSinkOptions>(options).expect("options").build(context).expect("good options") {
        BuiltSink::Epochs(sink) => sink,
        BuiltSink::Outbox(_) => panic!("the sink takes epochs"),
    }
}

async fn new_topic(kafka: &Kafka, n_partitions: i32) -> String {
    let topic = unique_name("sink");
    kafka.create_topic(&topic, n_partitions).await;
    topic
}

/// The `number`s that a reader of committed records sees, sorted.
async fn numbers(kafka: &Kafka, topic: &str) -> Vec<i64> {
    let number = |payload: &[u8]| serde_json::from_slice::<Value>(payload).expect("JSON")["number"].as_i64();
    let stored = kafka.read_all(topic).await;
    let mut numbers: Vec<i64> =
        stored.iter().map(|record| number(record.payload.as_deref().expect("a row")).expect("a number")).collect();
    numbers.sort();
    numbers
}

async fn done(sink: &mut Box<dyn Sink>, epochs: &[EpochRows]) {
    assert!(matches!(sink.commit(epochs).await.expect("a commit"), Commit::Done(details) if details.is_empty()));
}

#[tokio::test]
async fn rows_are_json_with_a_key() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 4).await;
    let mut sink = sink(kafka, &topic, json!({}));
    assert_eq!(sink.delivery(), Delivery::Transactional);
    let owner = owner(&topic, "readings/0", 1);
    assert_eq!(sink.claim(&owner).await.unwrap(), Claim::New);
    done(&mut sink, &[epoch(&owner, 1, vec![rows(0, 2), rows(2, 1)])]).await;

    let mut stored: Vec<(String, String)> = Vec::new();
    for record in kafka.read_all(&topic).await {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.expect("bytes")).expect("text");
        stored.push((text(record.key), text(record.payload)));
    }
    stored.sort();
    let at = "2025-07-20T08:19:16.412Z";
    let line = |sensor: &str, number: i64, value: &str| {
        let payload = format!(r#"{{"sensor_id":"{sensor}","number":{number},"value":{value},"at":"{at}"}}"#);
        (sensor.to_owned(), payload)
    };
    assert_eq!(stored, [line("sensor-0", 0, "1.5"), line("sensor-0", 2, "1.5"), line("sensor-1", 1, "null")]);
}

#[tokio::test]
async fn goes_on_behind_its_mark_when_an_answer_was_lost() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 2).await;
    let first = owner(&topic, "0", 1);
    let mut before = sink(kafka, &topic, json!({}));
    assert_eq!(before.claim(&first).await.unwrap(), Claim::New);
    // Claimed and nothing written yet: still new.
    assert_eq!(before.claim(&first).await.unwrap(), Claim::New);
    let epochs = [epoch(&first, 1, vec![rows(0, 10)]), epoch(&first, 2, vec![]), epoch(&first, 3, vec![rows(10, 10)])];
    done(&mut before, &epochs).await;
    done(&mut before, &[epoch(&first, 4, vec![])]).await;
    // The same owner claims again, as after an answer that was lost.
    assert_eq!(before.claim(&first).await.unwrap(), Claim::At(epoch(&first, 4, vec![]).mark));
    let error = before.commit(&epochs).await.expect_err("written already");
    assert_eq!(error.kind(), ErrorKind::Lost);
    drop(before);

    let second = owner(&topic, "0", 2);
    let mut after = sink(kafka, &topic, json!({}));
    assert_eq!(after.claim(&second).await.unwrap(), Claim::At(epoch(&first, 4, vec![]).mark));
    done(&mut after, &[epoch(&second, 5, vec![rows(20, 5)])]).await;
    assert_eq!(numbers(kafka, &topic).await, (0..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_older_owner_is_shut_out() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 1).await;
    let (first, second) = (owner(&topic, "0", 1), owner(&topic, "0", 2));
    let mut old = sink(kafka, &topic, json!({}));
    old.claim(&first).await.unwrap();
    done(&mut old, &[epoch(&first, 1, vec![rows(0, 3)])]).await;

    let mut new = sink(kafka, &topic, json!({}));
    assert_eq!(new.claim(&second).await.unwrap(), Claim::At(epoch(&first, 1, vec![]).mark));
    let error = old.commit(&[epoch(&first, 2, vec![rows(100, 3)])]).await.expect_err("shut out");
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    // To claim again does not help the old owner, and does not disturb the new one.
    let error = old.claim(&first).await.expect_err("a later owner");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Lost, "task `0` has a later owner, generation 2")
    );
    done(&mut new, &[epoch(&second, 2, vec![rows(3, 3)])]).await;
    assert_eq!(numbers(kafka, &topic).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn the_transaction_of_an_owner_that_died_is_undone() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 1).await;
    let first = owner(&topic, "0", 1);
    let mut sink_of_first = sink(kafka, &topic, json!({}));
    sink_of_first.claim(&first).await.unwrap();
    done(&mut sink_of_first, &[epoch(&first, 1, vec![rows(0, 1)])]).await;
    // As the first owner's producer would be when it is killed between rows and commit.
    let dead = transactional(kafka, &format!("pipeline-{topic}-out-0"));
    dead.begin_transaction().unwrap();
    let record = BaseRecord::<(), str>::to(&topic).payload(r#"{"number":666}"#);
    dead.send(record).map_err(|(error, _)| error).unwrap();
    dead.flush(TIMEOUT).unwrap();

    let second = owner(&topic, "0", 2);
    let mut sink_of_second = sink(kafka, &topic, json!({}));
    assert_eq!(sink_of_second.claim(&second).await.unwrap(), Claim::At(epoch(&first, 1, vec![]).mark));
    done(&mut sink_of_second, &[epoch(&second, 2, vec![rows(1, 1)])]).await;
    assert_eq!(numbers(kafka, &topic).await, [0, 1]);
}

#[tokio::test]
async fn the_mark_of_another_state_is_taken_over_only_when_asked() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 1).await;
    let first = owner(&topic, "0", 7);
    let mut sink_of_first = sink(kafka, &topic, json!({}));
    sink_of_first.claim(&first).await.unwrap();
    done(&mut sink_of_first, &[epoch(&first, 9, vec![rows(0, 1)])]).await;

    let stranger = Owner { state_id: "other".into(), generation: 1, ..first.clone() };
    let found = Claim::At(epoch(&first, 9, vec![]).mark);
    let mut other = sink(kafka, &topic, json!({}));
    assert_eq!(other.claim(&stranger).await.unwrap(), found);
    // The first owner was not disturbed.
    done(&mut sink_of_first, &[epoch(&first, 10, vec![rows(1, 1)])]).await;
    assert!(other.commit(&[epoch(&stranger, 11, vec![])]).await.is_err());

    let heir = Owner { takes_over: true, ..stranger };
    assert_eq!(other.claim(&heir).await.unwrap(), Claim::At(epoch(&first, 10, vec![]).mark));
    done(&mut other, &[epoch(&heir, 11, vec![rows(2, 1)])]).await;
    assert_eq!(sink_of_first.commit(&[epoch(&first, 11, vec![])]).await.unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(numbers(kafka, &topic).await, [0, 1, 2]);
}

#[tokio::test]
async fn rows_that_can_never_be_taken_come_back_and_nothing_is_written() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 1).await;
    let mut sink = sink(kafka, &topic, json!({ "key": [] }));
    let (one, two) = (owner(&topic, "0", 1), owner(&topic, "1", 1));
    sink.claim(&one).await.unwrap();
    sink.claim(&two).await.unwrap();
    let mut large = rows(50, 3);
    let texts = vec!["a".to_owned(), "x".repeat(9 << 20), "b".repeat(5 << 20)];
    let mut columns = large.batch.columns().to_vec();
    columns[0] = Arc::new(StringArray::from(texts));
    large.batch = RecordBatch::try_new(large.batch.schema(), columns).unwrap();
    let epochs = [epoch(&one, 1, vec![rows(0, 3)]), epoch(&two, 1, vec![rows(3, 3), large.clone()])];
    let Commit::Refused(refused) = sink.commit(&epochs).await.unwrap() else { panic!("too large") };
    let [Refused { epoch: 1, batch: 1, row: 1, why }] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(why.ends_with("the topic takes at most 8388608 (`max.message.bytes`)"), "{why}");
    assert_eq!(numbers(kafka, &topic).await, [0; 0]);

    let without = Rows { batch: large.batch.slice(2, 1), origins: Origins::new("readings/0".into(), Arc::from([2])) };
    done(&mut sink, &[epoch(&one, 1, vec![rows(0, 3)]), epoch(&two, 1, vec![rows(3, 3), without])]).await;
    assert_eq!(numbers(kafka, &topic).await, [0, 1, 2, 3, 4, 5, 52]);
}

#[tokio::test]
async fn rows_that_the_broker_refuses_come_back() {
    let kafka = Kafka::shared().await;
    let topic = new_topic(kafka, 1).await;
    compact(kafka, &topic).await;
    // A compacted topic takes no records without a key.
    let mut sink = sink(kafka, &topic, json!({ "key": [] }));
    let owner = owner(&topic, "0", 1);
    sink.claim(&owner).await.unwrap();
    let Commit::Refused(refused) = sink.commit(&[epoch(&owner, 1, vec![rows(0, 2)])]).await.unwrap() else {
        panic!("refused by the broker")
    };
    assert_eq!(refused.len(), 2);
    assert!(refused[0].why.starts_with("the broker refuses the row: "), "{}", refused[0].why);
    done(&mut sink, &[epoch(&owner, 1, vec![])]).await;
    assert_eq!(numbers(kafka, &topic).await, [0; 0]);
}

async fn compact(kafka: &Kafka, topic: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
    let changed = admin(kafka).alter_configs([&change], &AdminOptions::new()).await.expect("an answer");
    changed[0].as_ref().expect("changed");
}

#[tokio::test]
async fn an_outage_costs_nothing() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("out", 2).await;
    let settings = json!({ "client": { "message.timeout.ms": 2_000, "transaction.timeout.ms": 5_000 } });
    let mut sink = sink(&kafka, "out", settings);
    let owner = owner("out", "0", 1);
    sink.claim(&owner).await.unwrap();
    done(&mut sink, &[epoch(&owner, 1, vec![rows(0, 1_000)])]).await;
    kafka.stop().await;
    let next = [epoch(&owner, 2, vec![rows(1_000, 1_000)])];
    let error = sink.commit(&next).await.expect_err("no broker");
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    kafka.start_again().await;
    assert_eq!(sink.commit(&next).await.expect_err("not claimed").kind(), ErrorKind::Transient);
    match sink.claim(&owner).await.unwrap() {
        Claim::At(mark) if mark.epoch == 1 => done(&mut sink, &next).await,
        Claim::At(mark) => assert_eq!(mark.epoch, 2),
        Claim::New => panic!("the mark is lost"),
    }
    assert_eq!(numbers(&kafka, "out").await, (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn problems_are_said_before_the_start() {
    let kafka = Kafka::shared().await;
    let missing = unique_name("missing");
    let problems = sink(kafka, &missing, json!({})).check().await;
    assert_eq!(problems.len(), 1);
    let expected = format!("there is no topic `{missing}`; create it, or correct the name");
    assert_eq!(problems[0].to_string(), expected);
    // Nor does a claim make it.
    let error = sink(kafka, &missing, json!({})).claim(&owner(&missing, "0", 1)).await.expect_err("no topic");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Config, expected));
    let topic = new_topic(kafka, 1).await;
    assert!(sink(kafka, &topic, json!({})).check().await.is_empty());
}

#[test]
fn refuses_options_that_cannot_work() {
    for (options, message, option) in [
        (json!({"brokers": "a:1", "topic": ""}), "`topic` is empty, it must name a topic", "topic"),
        (
            json!({"brokers": "a:1", "topic": "t", "key": "sensor"}),
            "no column `sensor` for `key`; there is sensor_id, number, value, at",
            "key",
        ),
        (
            json!({"brokers": "a:1", "topic": "t", "client": {"acks": 1}}),
            "`client.acks` cannot be set: rows are written exactly once",
            "client.acks",
        ),
    ] {
        let context = SinkContext { stage: stage_context(), schema: rows(0, 1).batch.schema(), detector: None };
        let error = parse::<KafkaSinkOptions>(options).unwrap().build(context).err().expect("bad options");
        assert_eq!((error.to_string().as_str(), error.option()), (message, Some(option)));
    }
}
