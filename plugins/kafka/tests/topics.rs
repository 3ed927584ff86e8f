//! Topics that change below a source: partitions are added, they are deleted and made anew, rows are deleted.

mod support;

use std::time::Duration;

use pipeline_services::{Kafka, Record, unique_name};
use pipeline_stage::{Assignment, ErrorKind, Position, Reader, Source, StageError};
use serde_json::json;
use support::*;
use tokio::time::timeout;

/// Far more than the pause between two looks at a topic.
const SOON: Duration = Duration::from_secs(60);

fn records(text: &str, n_records: usize) -> Vec<Record> {
    (0..n_records).map(|n| Record::new(format!("{text} {n}")).partition(0)).collect()
}

async fn topic_with(kafka: &Kafka, n_partitions: i32, n_records: usize) -> String {
    let topic = unique_name("topics");
    kafka.create_topic(&topic, n_partitions).await;
    kafka.produce(&topic, records("first", n_records)).await;
    topic
}

/// Deletes a topic and makes another one of its name; a broker needs a moment until the name is free.
async fn make_anew(kafka: &Kafka, topic: &str, n_records: usize) {
    kafka.delete_topic(topic).await;
    kafka.create_topic(topic, 1).await;
    kafka.produce(topic, records("second", n_records)).await;
}

/// Reads and asks for assignments, as the engine does, until one of them fails.
async fn until_failure(source: &mut Box<dyn Source>, reader: &mut Box<dyn Reader>) -> StageError {
    let failing = async {
        let mut is_over = false;
        loop {
            tokio::select! {
                biased;
                batch = reader.next(None), if !is_over => match batch {
                    // A partition that was taken away ends in this way, and the engine goes on.
                    Err(error) if [ErrorKind::Lost, ErrorKind::TakenOver].contains(&error.kind()) => is_over = true,
                    Err(error) => return error,
                    Ok(batch) => assert!(batch.is_some(), "no end"),
                },
                change = source.assignment() => match change {
                    Err(error) => return error,
                    Ok(Assignment::Revoked(partitions)) => {
                        for partition in partitions {
                            source.release(&partition).await.expect("released");
                        }
                    }
                    Ok(_) => {}
                },
            }
        }
    };
    timeout(SOON, failing).await.expect("an error in time")
}

#[tokio::test]
async fn a_topic_made_anew_between_runs_is_another_one() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, 10).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    read(&mut reader, Some(7)).await.unwrap();
    let position = reader.position();
    drop((reader, source));

    // With more rows than were read: the offset is there, and the row at it is another one.
    make_anew(kafka, &topic, 20).await;
    let mut source = Setup::of(kafka, &topic).build();
    let partitions = gained(&mut source).await;
    let error = source.open(&partitions[0], Some(&position)).await.err().expect("another topic");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let words =
        format!("partition 0 of `{topic}` goes on at offset 7, but `{topic}` was deleted and made anew: its id was");
    assert!(error.to_string().starts_with(&words), "{error}");
    assert!(error.to_string().contains("the rows there are from 0 to 20; `--cold-start` goes on"), "{error}");
    // As a process does that has not noticed it yet.
    source.forget(&partitions[0], &position).await.unwrap();
    source.release(&partitions[0]).await.unwrap();
    drop(source);

    let mut source = Setup::of(kafka, &topic).cold().build();
    let partitions = gained(&mut source).await;
    let reader = source.open(&partitions[0], Some(&position)).await.expect("accepted");
    assert_eq!(reader.position().offset, 0);
    assert_ne!(reader.position().detail, position.detail);
    // The engine gives up the state and opens it again.
    let reader = source.open(&partitions[0], None).await.expect("opened again");
    assert_eq!(reader.position().offset, 0, "what the group has committed is of the topic that was deleted");
}

#[tokio::test]
async fn a_topic_made_anew_while_it_is_read_is_an_error() {
    let kafka = Kafka::shared().await;
    for n_records in [5, 30] {
        let topic = topic_with(kafka, 1, 10).await;
        let mut source = Setup::of(kafka, &topic).build();
        let mut reader = open_first(&mut source, None).await;
        read(&mut reader, Some(10)).await.unwrap();
        make_anew(kafka, &topic, n_records).await;
        let error = until_failure(&mut source, &mut reader).await;
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.to_string().contains("was deleted and made anew"), "{error}");
        assert!(error.to_string().ends_with("and all others as they are"), "{error}");
    }
}

#[tokio::test]
async fn a_topic_deleted_while_it_is_read_is_an_error() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, 10).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    read(&mut reader, Some(10)).await.unwrap();
    kafka.delete_topic(&topic).await;
    let error = until_failure(&mut source, &mut reader).await;
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().starts_with(&format!("`{topic}` was deleted while it was read")), "{error}");
}

#[tokio::test]
async fn added_partitions_are_read_from_their_beginning() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, 10).await;
    let refresh = json!({ "topic.metadata.refresh.interval.ms": 500 });
    let setup = || Setup::of(kafka, &topic).with("start", json!("latest")).with("client", refresh.clone());
    let mut source = setup().build();
    let reader = open_first(&mut source, None).await;
    assert_eq!(reader.position().offset, 10);

    // While it runs: what is written before anybody has noticed them is not skipped.
    kafka.add_partitions(&topic, 2).await;
    kafka.produce(&topic, vec![Record::new("early").partition(1)]).await;
    let added = timeout(SOON, gained(&mut source)).await.expect("noticed");
    assert_eq!(added.iter().map(|partition| partition.number).collect::<Vec<_>>(), [1]);
    let mut reader = open(&mut source, &added[0], None).await.expect("opened");
    assert_eq!(read(&mut reader, Some(1)).await.unwrap(), [row(0, "early")]);
    source.forget(&added[0], &Position::at(1)).await.unwrap();
    source.release(&added[0]).await.unwrap();
    drop(source);

    // Between two runs.
    kafka.add_partitions(&topic, 3).await;
    kafka.produce(&topic, vec![Record::new("between").partition(2)]).await;
    let mut source = setup().build();
    let partitions = gained(&mut source).await;
    assert_eq!(partitions.len(), 3);
    let mut reader = open(&mut source, &partitions[2], None).await.expect("opened");
    assert_eq!(read(&mut reader, Some(1)).await.unwrap(), [row(0, "between")]);
}
