//! Two sources of one group in one process: partitions move, rows are neither lost nor given twice.

mod support;

use std::collections::BTreeMap;

use pipeline_services::{Kafka, Record, unique_name};
use pipeline_stage::{Assignment, ErrorKind, Partition, Reader, Source};
use support::*;

const N_PARTITIONS: i32 = 4;

/// A source with readers for what it owns, as the engine keeps them.
struct Member {
    source: Box<dyn Source>,
    readers: BTreeMap<Partition, Box<dyn Reader>>,
}

impl Member {
    fn new(kafka: &Kafka, topic: &str) -> Self {
        Member { source: Setup::of(kafka, topic).build(), readers: BTreeMap::new() }
    }

    /// Takes one change; what it gains it opens at `positions`.
    async fn change(&mut self, positions: &BTreeMap<Partition, u64>) -> Assignment {
        let change = self.source.assignment().await.expect("a change");
        match &change {
            Assignment::Gained(partitions) => {
                for partition in partitions {
                    let from = positions.get(partition).copied();
                    let reader = open(&mut self.source, partition, from).await.expect("opened");
                    self.readers.insert(partition.clone(), reader);
                }
            }
            Assignment::Revoked(partitions) => {
                for partition in partitions {
                    let reader = self.readers.remove(partition).expect("was open");
                    self.source.forget(partition, &reader.position()).await.expect("forgotten");
                    self.source.release(partition).await.expect("released");
                }
            }
            other => panic!("unexpected {other:?}"),
        }
        change
    }

    /// Reads what was just written: one row in each partition, at `offset`.
    async fn reads_one_each(&mut self, offset: u64) -> usize {
        for (partition, reader) in &mut self.readers {
            let rows = read(reader, Some(offset + 1)).await.expect("rows");
            assert_eq!(rows, [row(offset, &format!("{}-{offset}", partition.number))], "{partition}");
        }
        self.readers.len()
    }
}

async fn write_one_each(kafka: &Kafka, topic: &str, offset: u64) {
    let records = (0..N_PARTITIONS).map(|number| Record::new(format!("{number}-{offset}")).partition(number));
    kafka.produce(topic, records.collect()).await;
}

fn all_at(topic: &str, offset: u64) -> BTreeMap<Partition, u64> {
    let partition = |number: i32| Partition { name: format!("{topic}/{number}").into(), number: number as u32 };
    (0..N_PARTITIONS).map(|number| (partition(number), offset)).collect()
}

#[tokio::test]
async fn partitions_move_to_a_second_member_and_back() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("moved");
    kafka.create_topic(&topic, N_PARTITIONS).await;
    write_one_each(kafka, &topic, 0).await;

    let mut first = Member::new(kafka, &topic);
    let gained = first.change(&BTreeMap::new()).await;
    assert!(matches!(gained, Assignment::Gained(partitions) if partitions.len() == 4));
    assert_eq!(first.reads_one_each(0).await, 4);
    // All have reached the end: librdkafka pauses and resumes them there, which must not cost a row.
    write_one_each(kafka, &topic, 1).await;
    assert_eq!(first.reads_one_each(1).await, 4);
    wait_for_the_ends(&mut first).await;

    let mut second = Member::new(kafka, &topic);
    let positions = all_at(&topic, 2);
    let (revoked, gained) = tokio::join!(first.change(&positions), second.change(&positions));
    assert!(matches!(&revoked, Assignment::Revoked(partitions) if partitions.len() == 2), "{revoked:?}");
    assert!(matches!(&gained, Assignment::Gained(partitions) if partitions.len() == 2), "{gained:?}");
    for offset in 2..5 {
        write_one_each(kafka, &topic, offset).await;
        assert_eq!(first.reads_one_each(offset).await + second.reads_one_each(offset).await, 4);
    }

    drop(second);
    let gained = first.change(&all_at(&topic, 5)).await;
    assert!(matches!(&gained, Assignment::Gained(partitions) if partitions.len() == 2), "{gained:?}");
    for offset in 5..8 {
        write_one_each(kafka, &topic, offset).await;
        assert_eq!(first.reads_one_each(offset).await, 4);
    }
}

/// The broker says that a partition is at its end a moment after its last row.
async fn wait_for_the_ends(member: &mut Member) {
    for reader in member.readers.values_mut() {
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(300), reader.next(None)).await;
        assert!(nothing.is_err(), "there is no row");
    }
}

#[tokio::test]
async fn a_reader_of_a_released_partition_ends() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("released");
    kafka.create_topic(&topic, 1).await;
    let mut source = Setup::of(kafka, &topic).build();
    let mut reader = open_first(&mut source, None).await;
    let partition = Partition { name: format!("{topic}/0").into(), number: 0 };
    source.release(&partition).await.unwrap();
    assert_eq!(reader.next(None).await.unwrap_err().kind(), ErrorKind::Lost);
    drop(source);
    // The group was left: the next member need not wait until the session is over.
    let started = std::time::Instant::now();
    let mut source = Setup::of(kafka, &topic).build();
    assert_eq!(gained(&mut source).await, [partition]);
    assert!(started.elapsed() < std::time::Duration::from_secs(8), "waited {:?}", started.elapsed());
}
