//! Two sources of one group in one process: partitions move, rows are neither lost nor given twice.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pipeline_services::{Kafka, Record, eventually, unique_name};
use pipeline_stage::{Assignment, ErrorKind, Partition, Reader, Source};
use rdkafka::admin::{AdminOptions, NewPartitions};
use serde_json::json;
use support::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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
    assert_eq!(reader.next(None).await.unwrap_err().kind(), ErrorKind::TakenOver);
    drop(source);
    // The group was left: the next member need not wait until the session is over.
    let started = std::time::Instant::now();
    let mut source = Setup::of(kafka, &topic).build();
    assert_eq!(gained(&mut source).await, [partition]);
    assert!(started.elapsed() < std::time::Duration::from_secs(8), "waited {:?}", started.elapsed());
}

/// What the engine's state would be: where each partition stands, and which rows were read.
type Book = Arc<Mutex<BTreeMap<Partition, Vec<u64>>>>;

/// A member that runs like a process, in tasks of its own.
struct Process {
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    /// How many partitions it has gained so far.
    gained: Arc<AtomicUsize>,
}

impl Process {
    fn start(source: Box<dyn Source>, book: &Book) -> Self {
        let (stop, stopped) = oneshot::channel();
        let gained = Arc::<AtomicUsize>::default();
        let running = tokio::spawn(run(source, Arc::clone(book), Arc::clone(&gained), stopped));
        Process { stop, running, gained }
    }

    fn n_gained(&self) -> usize {
        self.gained.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stop.send(()).expect("runs");
        self.running.await.expect("stops");
    }
}

async fn run(mut source: Box<dyn Source>, book: Book, gained: Arc<AtomicUsize>, mut stop: oneshot::Receiver<()>) {
    let mut tasks: BTreeMap<Partition, (oneshot::Sender<()>, JoinHandle<()>)> = BTreeMap::new();
    loop {
        let change = tokio::select! {
            change = source.assignment() => change.expect("a change"),
            _ = &mut stop => Assignment::Final,
        };
        let is_last = change == Assignment::Final;
        let stopping = match change {
            Assignment::Gained(partitions) => {
                gained.fetch_add(partitions.len(), Ordering::Relaxed);
                for partition in partitions {
                    let from = book
                        .lock()
                        .expect("no panic")
                        .get(&partition)
                        .and_then(|rows| rows.last())
                        .map(|last| last + 1);
                    let reader = open(&mut source, &partition, from).await.expect("opened");
                    let (stop_task, stopped) = oneshot::channel();
                    let task = tokio::spawn(read_along(partition.clone(), reader, Arc::clone(&book), stopped));
                    tasks.insert(partition, (stop_task, task));
                }
                Vec::new()
            }
            Assignment::Revoked(partitions) => partitions,
            Assignment::Final => tasks.keys().cloned().collect(),
            Assignment::Lost(partitions) => panic!("lost {partitions:?}"),
        };
        for partition in stopping {
            let (stop_task, task) = tasks.remove(&partition).expect("a task");
            stop_task.send(()).expect("runs");
            task.await.expect("stops");
            source.release(&partition).await.expect("released");
        }
        if is_last {
            return;
        }
    }
}

async fn read_along(partition: Partition, mut reader: Box<dyn Reader>, book: Book, mut stop: oneshot::Receiver<()>) {
    loop {
        let batch = tokio::select! {
            batch = reader.next(None) => batch,
            _ = &mut stop => return,
        };
        let batch = batch.expect("rows").expect("no end");
        book.lock().expect("no panic").entry(partition.clone()).or_default().extend(batch.offsets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_flow_while_partitions_move_are_read_once() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("flowing");
    kafka.create_topic(&topic, N_PARTITIONS).await;
    let book = Book::default();
    // The members hear of a change within a heartbeat.
    let source = || Setup::of(kafka, &topic).with("client", json!({ "heartbeat.interval.ms": 100 })).build();
    let mut n_written = 0;
    let mut write = async || {
        let records = (0..400).map(|n| Record::new(n.to_string()).partition(n % N_PARTITIONS));
        kafka.produce(&topic, records.collect()).await;
        n_written += 100;
    };
    let first = Process::start(source(), &book);
    for _ in 0..3 {
        let n_before = first.n_gained();
        let second = Process::start(source(), &book);
        while second.n_gained() == 0 {
            write().await;
        }
        write().await;
        second.stop().await;
        while first.n_gained() <= n_before {
            write().await;
        }
    }
    write().await;
    let expected: Vec<u64> = (0..n_written).collect();
    let is_all = || book.lock().unwrap().values().filter(|rows| expected.len() <= rows.len()).count() == 4;
    eventually(TIMEOUT, "all rows", async || is_all()).await;
    first.stop().await;
    for (partition, offsets) in book.lock().unwrap().iter() {
        assert!(*offsets == expected, "{partition}: {} rows of {n_written}, not each once and in order", offsets.len());
    }
}

#[tokio::test]
async fn a_second_process_with_the_same_instance_shuts_the_first_out() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("instance");
    kafka.create_topic(&topic, 1).await;
    let member = || Setup::of(kafka, &topic).with("instance", json!("a")).build();
    let mut first = member();
    let mut reader = open_first(&mut first, None).await;
    let mut second = member();
    assert_eq!(gained(&mut second).await.len(), 1);
    let error = first.assignment().await.expect_err("shut out");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let words = "another process has joined the group with the `instance` of this one";
    assert!(error.to_string().starts_with(words), "{error}");
    assert_eq!(reader.next(None).await.unwrap_err().kind(), ErrorKind::Fatal);
}

#[tokio::test]
async fn a_process_that_was_killed_has_its_partitions_again_at_once() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("killed");
    kafka.create_topic(&topic, N_PARTITIONS).await;
    let member = || Setup::of(kafka, &topic).with("instance", json!("a")).build();
    let mut first = member();
    assert_eq!(gained(&mut first).await.len(), 4);
    // A member with an `instance` does not leave when it is closed: to the group it is gone as if it had been killed.
    drop(first);
    let started = std::time::Instant::now();
    assert_eq!(gained(&mut member()).await.len(), 4);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "waited {:?}", started.elapsed());
}

#[tokio::test]
async fn partitions_that_a_topic_got_while_its_only_member_was_away_are_not_missed() {
    let kafka = Kafka::shared().await;
    let topic = unique_name("grown");
    kafka.create_topic(&topic, 1).await;
    let member = || Setup::of(kafka, &topic).with("instance", json!("a")).build();
    let mut first = member();
    assert_eq!(gained(&mut first).await.len(), 1);
    drop(first);
    let grow = admin(kafka);
    grow.create_partitions(&[NewPartitions::new(&topic, 3)], &AdminOptions::new()).await.expect("two more");
    let mut again = Setup::of(kafka, &topic).with("instance", json!("a")).once().build();
    let mut held = 0;
    while held < 3 {
        let change = tokio::time::timeout(TIMEOUT, again.assignment()).await;
        match change.unwrap_or_else(|_| panic!("{held} of 3 partitions came")).expect("an assignment") {
            Assignment::Gained(partitions) => held += partitions.len(),
            Assignment::Revoked(partitions) => {
                held -= partitions.len();
                for partition in partitions {
                    again.release(&partition).await.expect("released");
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn partitions_are_lost_when_the_group_is_silent_for_a_session_and_come_back() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("readings", 1).await;
    kafka.produce("readings", vec![Record::new("before")]).await;
    let session = json!({ "session.timeout.ms": 6_000, "heartbeat.interval.ms": 500, "socket.timeout.ms": 2_000 });
    let mut source = Setup::of(&kafka, "readings").with("client", session).build();
    let mut reader = open_first(&mut source, None).await;
    assert_eq!(read(&mut reader, Some(1)).await.unwrap(), [row(0, "before")]);
    kafka.pause();
    let lost = source.assignment().await.unwrap();
    let partition = Partition { name: "readings/0".into(), number: 0 };
    assert_eq!(lost, Assignment::Lost(vec![partition.clone()]));
    assert_eq!(reader.next(None).await.unwrap_err().kind(), ErrorKind::TakenOver);
    kafka.resume();
    assert_eq!(gained(&mut source).await, std::slice::from_ref(&partition));
    kafka.produce("readings", vec![Record::new("after")]).await;
    let mut reader = open(&mut source, &partition, Some(1)).await.unwrap();
    assert_eq!(read(&mut reader, Some(2)).await.unwrap(), [row(1, "after")]);
}
