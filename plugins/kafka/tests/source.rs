//! The source over a real broker: what is read, from where, and what happens when that is not possible.

mod support;

use pipeline_services::{Kafka, Record, unique_name};
use pipeline_stage::{ErrorKind, Position, SourceRows};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::json;
use support::*;

async fn topic_with(kafka: &Kafka, n_partitions: i32, records: Vec<Record>) -> String {
    let topic = unique_name("source");
    kafka.create_topic(&topic, n_partitions).await;
    kafka.produce(&topic, records).await;
    topic
}

fn numbers(partition: i32, count: usize) -> Vec<Record> {
    (0..count).map(|n| Record::new(n.to_string()).partition(partition)).collect()
}

#[tokio::test]
async fn reads_all_partitions_of_all_topics_with_their_offsets() {
    let kafka = Kafka::shared().await;
    let counts = [3_000, 0, 20_000];
    let mut topics = Vec::new();
    for _ in 0..2 {
        let records = counts.iter().enumerate().flat_map(|(partition, n)| numbers(partition as i32, *n)).collect();
        topics.push(topic_with(kafka, 3, records).await);
    }
    let mut source = Setup::of(kafka, &topics[0]).with("topic", json!(topics)).once().build();
    let partitions = gained(&mut source).await;
    let mut expected: Vec<String> =
        topics.iter().flat_map(|topic| (0..3).map(move |number| format!("{topic}/{number}"))).collect();
    expected.sort();
    assert_eq!(partitions.iter().map(|partition| partition.name.to_string()).collect::<Vec<_>>(), expected);

    for partition in &partitions {
        let count = counts[partition.number as usize];
        let mut reader = open(&mut source, partition, None).await.unwrap();
        assert_eq!(reader.position().offset, 0);
        let rows = read(&mut reader, None).await.unwrap();
        let expected: Vec<Row> = (0..count).map(|n| row(n as u64, &n.to_string())).collect();
        assert_eq!(rows, expected, "{partition}");
        assert_eq!(reader.position().offset, count as u64);
        assert_eq!(reader.lag(), Some(0));
    }
}

/// A partition that is left out of a fetch, because enough of it is here, waits for that fetch, which brings nothing where
/// the others are at their ends: that must happen seldom.
#[tokio::test]
async fn a_partition_is_not_held_up_by_others_that_are_at_their_ends() {
    let kafka = Kafka::shared().await;
    let count = 300_000;
    let mut seconds = [[0.0; 3]; 2];
    for (n_partitions, seconds) in [1, 16].into_iter().zip(&mut seconds) {
        let topic = topic_with(kafka, n_partitions, numbers(n_partitions / 2, count)).await;
        for seconds in seconds.iter_mut() {
            let mut source = Setup::of(kafka, &topic).once().build();
            let partitions = gained(&mut source).await;
            let (mut full, mut empty) = (None, Vec::new());
            for partition in &partitions {
                let reader = open(&mut source, partition, None).await.unwrap();
                if partition.number as i32 == n_partitions / 2 { full = Some(reader) } else { empty.push(reader) }
            }
            let mut full = full.unwrap();
            let began = std::time::Instant::now();
            let rows = read(&mut full, None).await.unwrap();
            *seconds = began.elapsed().as_secs_f64();
            assert_eq!(rows.len(), count);
        }
    }
    let [alone, beside] = seconds.map(|seconds| seconds.into_iter().fold(f64::MAX, f64::min));
    assert!(beside < 9.0 * alone, "{beside:.2} s, alone {alone:.2} s");
}

#[tokio::test]
async fn keeps_keys_times_tombstones_and_large_messages() {
    let kafka = Kafka::shared().await;
    let large = "x".repeat(6_000_000);
    let records = vec![
        Record::new("a").key("sensor-1").timestamp_millis(1_753_000_000_123),
        Record::tombstone("sensor-1"),
        Record::new(""),
        Record::new(large.clone()),
        Record::new([0xff, 0x00]),
    ];
    let topic = topic_with(kafka, 1, records).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    let until = Position::at(5);
    let (mut payloads, mut keys, mut times) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(batch) = reader.next(Some(&until)).await.unwrap() {
        let SourceRows::Raw(raw) = batch.rows else { panic!("raw rows") };
        assert_eq!((&*raw.topic, raw.partition), (topic.as_str(), 0));
        payloads.extend(raw.payloads.iter().map(|payload| payload.map(<[u8]>::to_vec)));
        match &raw.keys {
            Some(found) => keys.extend(found.iter().map(|key| key.map(<[u8]>::to_vec))),
            // Of a batch in which no message has one.
            None => keys.extend(raw.payloads.iter().map(|_| None)),
        }
        times.extend(raw.times.expect("times").iter());
    }
    let expected = [Some(b"a".to_vec()), None, Some(vec![]), Some(large.into_bytes()), Some(vec![0xff, 0x00])];
    assert!(payloads == expected, "payloads differ");
    assert_eq!(keys, [Some(b"sensor-1".to_vec()), Some(b"sensor-1".to_vec()), None, None, None]);
    assert_eq!(times[0], Some(1_753_000_000_123_000));
    assert_eq!(times.len(), 5);
}

#[tokio::test]
async fn goes_on_where_the_state_stands_and_stops_where_it_is_asked_to() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, numbers(0, 10_000)).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, Some(4_321)).await;
    let rows = read(&mut reader, Some(4_400)).await.unwrap();
    assert_eq!((rows.first(), rows.last()), (Some(&row(4_321, "4321")), Some(&row(4_399, "4399"))));
    assert_eq!(reader.position().offset, 4_400);
    // The rest of the batch that was cut is not lost.
    assert_eq!(read(&mut reader, Some(9_000)).await.unwrap().len(), 4_600);

    // A task that restarts opens again, from its checkpoint.
    let partition = pipeline_stage::Partition { name: format!("{topic}/0").into(), number: 0 };
    let mut again = open(&mut source, &partition, Some(4_400)).await.unwrap();
    assert_eq!(read(&mut again, Some(4_402)).await.unwrap(), [row(4_400, "4400"), row(4_401, "4401")]);
    // The first reader still gives what was fed to it, and no more.
    assert_eq!(read(&mut reader, None).await.unwrap_err().kind(), ErrorKind::TakenOver);
}

#[tokio::test]
async fn passes_gaps_that_transactions_leave() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, vec![]).await;
    let producer = transactional(kafka, &topic);
    transaction(&producer, &topic, &["a", "b"], true); // 0, 1, marker 2
    transaction(&producer, &topic, &["x", "y"], false); // 3, 4, marker 5
    transaction(&producer, &topic, &["c"], true); // 6, marker 7
    transaction(&producer, &topic, &["z"], false); // 8, marker 9
    let expected = [row(0, "a"), row(1, "b"), row(6, "c")];

    let mut source = Setup::of(kafka, &topic).once().build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, Some(4)).await.unwrap(), expected[..2]);
    assert_eq!(reader.position().offset, 4);
    assert_eq!(read(&mut reader, Some(10)).await.unwrap(), expected[2..]);
    assert_eq!(reader.position().offset, 10);
    assert_eq!(reader.lag(), Some(0));

    let mut source = Setup::of(kafka, &topic).once().with("group", json!(format!("{topic}-2"))).build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, None).await.unwrap(), expected);
    assert_eq!(reader.position().offset, 10);

    let mut source = Setup::of(kafka, &topic).once().with("isolation", json!("read_uncommitted"));
    source = source.with("group", json!(format!("{topic}-3")));
    let mut source = source.build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, None).await.unwrap().len(), 6);
}

#[tokio::test]
async fn an_open_transaction_holds_back_what_follows_it() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, vec![]).await;
    let producer = transactional(kafka, &topic);
    transaction(&producer, &topic, &["a"], true); // 0, marker 1
    producer.begin_transaction().unwrap();
    let open = BaseRecord::<(), str>::to(&topic).partition(0).payload("open");
    producer.send(open).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
    kafka.produce(&topic, vec![Record::new("b")]).await;

    let mut source = Setup::of(kafka, &topic).once().build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, None).await.unwrap(), [row(0, "a")]);
    assert_eq!(reader.position().offset, 2);
    producer.abort_transaction(TIMEOUT).unwrap();
}

#[tokio::test]
async fn starts_where_the_file_says() {
    let kafka = Kafka::shared().await;
    let at = |n: i64| 1_753_000_000_000 + n * 1_000;
    let records = (0..5).map(|n| Record::new(n.to_string()).timestamp_millis(at(n))).collect();
    let topic = topic_with(kafka, 1, records).await;
    for (start, position) in [
        ("earliest", 0),
        ("latest", 5),
        ("2025-07-20T08:26:42Z", 2),
        ("2025-07-20T08:26:42.001Z", 3),
        ("2001-01-01T00:00:00Z", 0),
        ("2099-01-01T00:00:00+02:00", 5),
    ] {
        let setup = Setup::of(kafka, &topic).with("group", json!(format!("{topic}-{position}-{start}")));
        let mut source = setup.with("start", json!(start)).build();
        assert_eq!(open_first(&mut source, None).await.position().offset, position, "{start}");
    }
}

#[tokio::test]
async fn committed_offsets_without_state_are_an_error_unless_it_is_accepted() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, numbers(0, 10)).await;
    let partition = pipeline_stage::Partition { name: format!("{topic}/0").into(), number: 0 };
    {
        let mut source = Setup::of(kafka, &topic).build();
        let mut reader = open_first(&mut source, None).await;
        assert_eq!(read(&mut reader, Some(7)).await.unwrap().len(), 7);
        source.forget(&partition, &Position::at(5)).await.unwrap();
        source.forget(&partition, &Position::at(7)).await.unwrap();
        source.release(&partition).await.unwrap();
    }
    let mut source = Setup::of(kafka, &topic).build();
    assert_eq!(gained(&mut source).await, std::slice::from_ref(&partition));
    let error = open(&mut source, &partition, None).await.err().expect("no state");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let expected =
        format!("partition 0 of `{topic}` was read up to offset 7 by group `{topic}`, but there is no state");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(open(&mut source, &partition, Some(3)).await.is_ok());
    drop(source);

    let mut source = Setup::of(kafka, &topic).cold().build();
    assert_eq!(open_first(&mut source, None).await.position().offset, 7);
    drop(source);
    let mut source = Setup::of(kafka, &topic).cold().with("start", json!("earliest")).build();
    assert_eq!(open_first(&mut source, None).await.position().offset, 0);
}

#[tokio::test]
async fn rows_that_are_not_there_are_an_error() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, numbers(0, 10)).await;
    let partition = pipeline_stage::Partition { name: format!("{topic}/0").into(), number: 0 };
    let mut source = Setup::of(kafka, &topic).build();
    let mut late = open_first(&mut source, None).await;
    let error = open(&mut source, &partition, Some(11)).await.err().expect("beyond the end");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let expected = format!("partition 0 of `{topic}` goes on at offset 11, but the rows there are from 0 to 10");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(read(&mut late, Some(10)).await.unwrap().len(), 10);

    kafka.delete_before(&topic, 0, 6).await;
    let error = open(&mut source, &partition, Some(5)).await.err().expect("deleted");
    let expected = format!(
        "partition 0 of `{topic}` goes on at offset 5, but the rows there are from 6 to 10: up to 1 were deleted"
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(open(&mut source, &partition, None).await.unwrap().position().offset, 6);
}

#[tokio::test]
async fn rows_that_are_deleted_while_they_are_waited_for_are_an_error() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, (0..100).map(|_| Record::new(vec![b'x'; 1 << 20])).collect()).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    let first = reader.next(None).await.unwrap().expect("rows");
    kafka.delete_before(&topic, 0, 95).await;
    let mut next = first.len() as u64;
    let error = loop {
        match reader.next(None).await {
            Ok(batch) => {
                let batch = batch.expect("no end");
                assert_eq!(batch.offsets, (next..next + batch.len() as u64).collect::<Vec<_>>());
                next += batch.len() as u64;
            }
            Err(error) => break error,
        }
    };
    assert!(next < 95, "all rows were read ahead");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let expected =
        format!("partition 0 of `{topic}` goes on at offset {next}, but the rows there are from 95 to 100: up to");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_slow_reader_stops_the_reading_and_loses_nothing() {
    let kafka = Kafka::shared().await;
    // 400 MB in rows of 100 kB.
    let topic = unique_name("slow");
    kafka.create_topic(&topic, 2).await;
    for _ in 0..10 {
        let payload = "x".repeat(100_000);
        let records = (0..400).map(|_| Record::new(payload.clone()).partition(0)).collect();
        kafka.produce(&topic, records).await;
    }
    kafka.produce(&topic, numbers(1, 50_000)).await;
    let mut source = Setup::of(kafka, &topic).once().build();
    let partitions = gained(&mut source).await;
    let before = resident_bytes();
    let mut slow = open(&mut source, &partitions[0], None).await.unwrap();
    let mut fast = open(&mut source, &partitions[1], None).await.unwrap();
    let first = slow.next(None).await.unwrap().expect("rows");
    // One partition standing still does not hold up the other.
    assert_eq!(read(&mut fast, None).await.unwrap().len(), 50_000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "{} MiB were read ahead", grown >> 20);

    let mut n_rows = first.len();
    while let Some(batch) = slow.next(None).await.unwrap() {
        n_rows += batch.len();
    }
    assert_eq!(n_rows, 4_000);
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).expect("a second figure").parse::<usize>().expect("a number") * 4096
}

#[tokio::test]
async fn a_follower_opens_partitions_by_number() {
    let kafka = Kafka::shared().await;
    let records = [numbers(0, 5), numbers(1, 7)].concat();
    let topic = topic_with(kafka, 2, records).await;
    let mut source = Setup::of(kafka, &topic).follower().once().build();
    for (number, count) in [(1, 7), (0, 5)] {
        let partition = pipeline_stage::Partition { name: format!("other/{number}").into(), number };
        let mut reader = open(&mut source, &partition, None).await.unwrap();
        assert_eq!(read(&mut reader, None).await.unwrap().len(), count);
        source.forget(&partition, &Position::at(count as u64)).await.unwrap();
        source.release(&partition).await.unwrap();
        assert_eq!(reader.next(None).await.unwrap().map(|batch| batch.len()), None);
        // Released and opened again.
        let mut reader = open(&mut source, &partition, Some(2)).await.unwrap();
        assert_eq!(read(&mut reader, None).await.unwrap().len(), count - 2);
    }
    let missing = pipeline_stage::Partition { name: "other/2".into(), number: 2 };
    let error = open(&mut source, &missing, None).await.err().expect("no such partition");
    assert_eq!(error.to_string(), format!("`{topic}` has no partition 2: it has 2, the source it follows has more"));
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn an_idle_reader_waits_and_gets_the_next_row() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, numbers(0, 1)).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, Some(1)).await.unwrap(), [row(0, "0")]);
    // Cancelled, as the engine does when an epoch ends, and again.
    for n in 1..20 {
        let cut = tokio::time::timeout(std::time::Duration::from_millis(1), reader.next(None)).await;
        assert!(cut.is_err(), "there is no row yet");
        kafka.produce(&topic, vec![Record::new(n.to_string())]).await;
        assert_eq!(read(&mut reader, Some(n + 1)).await.unwrap(), [row(n, &n.to_string())]);
    }
}

#[tokio::test]
async fn problems_are_said_before_the_start() {
    let kafka = Kafka::shared().await;
    let topic = topic_with(kafka, 1, vec![]).await;
    let missing = unique_name("missing");
    let mut source = Setup::of(kafka, &topic).with("topic", json!([topic, missing])).build();
    let problems = source.check().await;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), format!("there is no topic `{missing}`; create it, or correct the name"));
    assert_eq!(problems[0].option(), Some("topic"));
    assert_eq!(source.assignment().await.unwrap_err().kind(), ErrorKind::Config);

    let mut source = Setup::of(kafka, &topic).with("brokers", json!("127.0.0.1:1")).build();
    let problems = source.check().await;
    assert_eq!(problems.len(), 1);
    let words = problems[0].to_string();
    assert!(words.starts_with("the brokers do not answer (127.0.0.1:1): "), "{words}");
    assert!(words.contains("Connection refused"), "{words}");
    assert!(Setup::of(kafka, &topic).build().check().await.is_empty());
}

#[tokio::test]
async fn an_outage_loses_nothing() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("readings", 1).await;
    kafka.produce("readings", numbers(0, 10)).await;
    let mut source = Setup::of(&kafka, "readings").build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, Some(10)).await.unwrap().len(), 10);
    kafka.stop().await;
    kafka.start_again().await;
    kafka.produce("readings", numbers(0, 5)).await;
    let rows = read(&mut reader, Some(15)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.offset).collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
}
