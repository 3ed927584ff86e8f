//! Sources and sinks of libraries that are broken, mistaken or malicious; and the same ones when they are right.
//!
//! `c/hostile_io.c` is compiled once for each case.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod compile;
mod log;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use compile::{compile, folder};
use log::Log;
use pipeline_abi::host::Library;
use pipeline_blocking::stuck;
use pipeline_stage::{
    Alert, Assignment, Branches, BuiltSink, Claim, Commit, Delivery, EpochRows, ErrorKind, Make, Mark, Origins,
    OutboxSink, Owner, Partition, Position, Reader, Result, Role, Rows, Sink, SinkContext, Source, SourceBatch,
    SourceContext, SourceOutput, SourceRows, StageContext, StageError, StageType,
};
use pipeline_testkit::stage_context;
use serde_json::json;
use tokio::time::{sleep, timeout};

/// Long enough for a call to be under way, short enough for many.
const A_MOMENT: Duration = Duration::from_millis(5);

fn stages(case: &str) -> Result<Vec<StageType>> {
    let folder = folder();
    Library::load(&compile(&folder, "hostile_io.c", case), None).map(|library| library.stages)
}

/// Of all threads: sources and sinks have their own.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.subscriber()).expect("nobody else has set one");
    log
});

/// Whose warnings name the case.
fn context(case: &str) -> StageContext {
    StageContext { id: case.into(), ..stage_context() }
}

fn source(case: &str) -> Result<Box<dyn Source>> {
    let Make::Source(make) = &stages(case)?[0].make else { panic!("{case} is no source") };
    make(json!({}), SourceContext { stage: context(case), framing: None, role: Role::Leader })
}

fn built_sink(case: &str, number: usize) -> Result<BuiltSink> {
    let Make::Sink(make) = &stages(case)?[number].make else { panic!("{case} is no sink") };
    make(json!({}), SinkContext { stage: context(case), schema: schema(), detector: None })
}

fn sink(case: &str) -> Box<dyn Sink> {
    match built_sink(case, 1) {
        Ok(BuiltSink::Epochs(sink)) => sink,
        Ok(BuiltSink::Outbox(_)) => panic!("{case} has an outbox"),
        Err(error) => panic!("{case}: {}", error.chain()),
    }
}

fn outbox(case: &str) -> Box<dyn OutboxSink> {
    match built_sink(case, 2) {
        Ok(BuiltSink::Outbox(sink)) => sink,
        Ok(BuiltSink::Epochs(_)) => panic!("{case} has no outbox"),
        Err(error) => panic!("{case}: {}", error.chain()),
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, true)]))
}

fn partition() -> Partition {
    Partition::numbered(0)
}

async fn open(case: &str, from: Option<u64>) -> Result<Box<dyn Reader>> {
    let mut source = source(case)?;
    source.open(&partition(), from.map(Position::at).as_ref()).await
}

/// The first read, of a reader that is opened at 0 and may not read beyond 2.
async fn read(case: &str) -> Result<Option<SourceBatch>> {
    let mut reader = open(case, None).await?;
    reader.next(Some(&Position::at(2))).await
}

fn owner() -> Owner {
    Owner {
        pipeline: "iot".into(),
        sink: "sums".into(),
        task: "0".into(),
        state_id: "a1b2".into(),
        generation: 3,
        stored: None,
        takes_over: false,
    }
}

fn epoch(epoch: u64, numbers: std::ops::Range<i64>) -> EpochRows {
    let owner = owner();
    let mark = Mark {
        pipeline: owner.pipeline,
        sink: owner.sink,
        task: owner.task,
        state_id: owner.state_id,
        generation: owner.generation,
        epoch,
        positions: "{}".into(),
        detail: None,
    };
    let offsets = numbers.clone().map(|number| number as u64).collect();
    let origins = Origins { place: "readings/0".into(), offsets, branches: Branches::All(1) };
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(numbers.collect::<Int64Array>())]).unwrap();
    EpochRows { mark, rows: vec![Rows { batch, origins }] }
}

async fn commit(case: &str) -> Result<Commit> {
    let mut sink = sink(case);
    sink.commit(&[epoch(1, 0..5)]).await
}

fn numbers(batch: &SourceBatch) -> Vec<i64> {
    let SourceRows::Columns(rows) = &batch.rows else { panic!("columns were promised") };
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn texts(batch: &SourceBatch) -> (String, String) {
    let SourceRows::Raw(rows) = &batch.rows else { panic!("payloads were promised") };
    let payloads = rows.payloads.iter().flatten().flatten().map(|byte| char::from(*byte));
    (rows.topic.to_string(), payloads.collect())
}

fn assert_fails<T>(case: &str, failed: Result<T>, kind: ErrorKind, words: &str) -> StageError {
    let Err(error) = failed else { panic!("{case} was taken for good") };
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, words), "{case}");
    error
}

fn assert_fatal<T>(case: &str, failed: Result<T>, words: &str) {
    assert_fails(case, failed, ErrorKind::Fatal, words);
}

const STATUS_77: &str = "the plugin gave the status 77, which there is not: the plugin failed without words";
const WITHOUT_WORDS: &str = "the plugin failed without words";

#[test]
fn descriptors_that_lack_what_they_need_are_refused() {
    let lacks = "lacks functions: a source needs `build`, and `open` and `read`";
    let cases = [
        ("NO_OPEN", format!("a stage 0 that is called `numbers` and {lacks}")),
        ("NO_READ", format!("a stage 0 that is called `numbers` and {lacks}")),
        (
            "SINK_WITHOUT_COMMIT",
            "a stage 1 that is called `total` and lacks functions: a sink needs `build`, and either `claim` and \
             `commit`, or `deliver`"
                .to_owned(),
        ),
    ];
    for (case, words) in cases {
        let error = stages(case).map(|stages| stages.len()).unwrap_err();
        assert_eq!(error.to_string().split_once("` has ").unwrap().1, words, "{case}");
    }
}

#[test]
fn a_source_that_cannot_be_built_says_why() {
    let other = |column: &str, of: &str| {
        format!(
            "the plugin gives payloads with a column `{column}` of type {of}, they have `payload` and `key` of type \
             Binary and `time` of type Timestamp(µs, \"UTC\")"
        )
    };
    let no_struct = "the plugin's `schema` is no struct of columns";
    let cases = [
        ("PAYLOAD_NOT_BINARY RAW", other("payload", "Utf8")),
        ("PAYLOAD_OTHER RAW", other("topic", "Binary")),
        ("PAYLOAD_MISSING RAW", "the plugin gives payloads without a column `payload`".into()),
        ("FLAGS_UNKNOWN", "the plugin's `flags` have 64, which there is not".into()),
        ("COLUMN_OF_ITSELF", no_struct.into()),
        ("COLUMN_WITH_A_DICTIONARY", no_struct.into()),
    ];
    for (case, words) in cases {
        assert_fatal(case, source(case), &words);
    }
    let SourceOutput::Columns(columns) = source("METADATA_WITHOUT_END").unwrap().output() else { panic!("columns") };
    assert_eq!(columns, schema(), "metadata are not looked at");
}

#[tokio::test]
async fn assignments_that_cannot_be_are_errors() {
    for (case, words) in [
        ("PARTITION_NULL", "a partition is NULL"),
        ("PARTITION_WITHOUT_NAME", "the plugin has a partition without a name"),
        ("PARTITION_NAME_NULL", "a partition's name is NULL"),
        ("PARTITION_NOT_UTF8", "a partition's name is not UTF-8"),
        ("PARTITION_TOO_SMALL", "a partition says that it has 8 bytes, it has at least 16"),
        ("PARTITION_TWICE_AT_ONCE", "the plugin has gained the partition `0`, which it has"),
        ("ASSIGNMENT_STATUS_77", STATUS_77),
    ] {
        assert_fatal(case, source(case).unwrap().assignment().await, words);
    }
    let mut twice = source("PARTITION_TWICE").unwrap();
    assert_eq!(twice.assignment().await.unwrap(), Assignment::Gained(vec![partition()]));
    assert_fatal("TWICE", twice.assignment().await, "the plugin has gained the partition `0`, which it has");
    let case = "ASSIGNMENT_WITHOUT_WORDS";
    assert_fails(case, source(case).unwrap().assignment().await, ErrorKind::Lost, WITHOUT_WORDS);
    let case = "ASSIGNMENT_RETRY_PAUSE";
    let pause =
        assert_fails(case, source(case).unwrap().assignment().await, ErrorKind::Transient, "the broker is busy");
    assert_eq!(pause.pause(), Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn a_source_that_says_nothing_does_not_spin() {
    for case in ["ASSIGNMENT_IDLE", "READ_IDLE"] {
        let mut source = source(case).unwrap();
        let mut reader = source.open(&partition(), None).await.unwrap();
        let begun = std::time::Instant::now();
        let nothing = async { tokio::join!(source.assignment(), reader.next(None)) };
        assert!(timeout(A_MOMENT * 20, nothing).await.is_err() || case == "READ_IDLE", "{case} says something");
        let asked = source.partition_count().await.unwrap().unwrap();
        let may = 4 + begun.elapsed().as_millis() as u32 / 4;
        assert!(0 < asked && asked <= may, "{case} was asked {asked} times, {may} are allowed");
    }
}

#[tokio::test]
async fn partitions_that_are_not_opened_well_are_errors() {
    for (case, words) in [
        ("OPEN_NULL", "the plugin has opened a partition, but given no reader: it is NULL"),
        (
            "OPEN_WITHOUT_POSITION",
            "the plugin has opened a partition without saying where it begins: `position` was not called",
        ),
        ("OPEN_POSITION_NULL", "the plugin's reader says that it stands at NULL"),
        ("OPEN_POSITION_TOO_SMALL", "a position says that it has 4 bytes, it has at least 24"),
        ("OPEN_DETAIL_NOT_UTF8", "a position's detail is not UTF-8"),
        ("OPEN_BEFORE", "the plugin's reader begins at 0, it was opened at 10"),
        ("OPEN_GIVES_ROWS", "the plugin gave rows in `open`, it must give them in `read`"),
    ] {
        let mut source = source(case).unwrap();
        assert_fatal(case, source.open(&partition(), Some(&Position::at(10))).await, words);
        let problems = source.check().await;
        assert_eq!(problems[0].to_string(), "0 open, 0 logged, 0 forgotten, 0 released", "{case}: it was closed");
    }
    assert_fails("FAILS", open("OPEN_FAILS", None).await, ErrorKind::Transient, "the file is not there yet");
}

#[tokio::test]
async fn rows_that_cannot_be_are_not_taken() {
    for (case, words) in [
        ("OFFSETS_FALL", "the plugin gave offset 1 after 2, they must rise"),
        ("OFFSETS_SAME", "the plugin gave offset 0 after 0, they must rise"),
        ("TOO_FEW_OFFSETS", "the plugin gave 3 rows and 2 offsets, it must be one for each"),
        ("TOO_MANY_OFFSETS", "the plugin gave 3 rows and 18446744073709551615 offsets, it must be one for each"),
        ("OFFSETS_NULL", "the plugin gave 3 rows and 0 offsets, it must be one for each"),
        ("ROWS_TWICE", "the plugin gave rows twice in one call of `read`"),
        ("TOO_MANY_ROWS", "the plugin gave 8193 rows at once, at most 8192 can be"),
        ("NO_POSITION", "the plugin gave rows without saying where its reader stands"),
        ("POSITION_BACK", "the plugin's reader says that it stands at 1, it must be 3 at least"),
        ("ROWS_NULL", "the plugin gave NULL for rows"),
        ("ROWS_AT_AN_ODD_ADDRESS", "the plugin gave NULL for rows"),
        ("BATCH_NULL", "the plugin gave NULL for rows"),
        ("BATCH_TOO_SMALL", "a batch says that it has 16 bytes, it has at least 64"),
        ("NO_COLUMNS", "the plugin gave rows of 0 columns, its schema has 1"),
        ("NUMBERS_TOO_SHORT", "the plugin gave rows whose column `number` has 1 rows, the batch needs 3"),
        ("TOPIC_NULL RAW", "the topic of the plugin's rows is NULL"),
        ("TOPIC_NOT_UTF8 RAW", "the topic of the plugin's rows is not UTF-8"),
        ("HEADER_TOO_LONG RAW", "the plugin's header has 18446744073709551615 bytes, it may have 16777216"),
        ("TWO_BUFFERS_OF_PAYLOADS RAW", "the plugin gave rows whose column `payload` has 2 buffers, a Binary has 3"),
        (
            "RELEASE_CALLS_BACK",
            "the plugin called the engine while the engine took what it gave: `release` must not, and no other thread",
        ),
        ("CONTEXT_NULL", WITHOUT_WORDS),
        ("READ_STATUS_77", STATUS_77),
        ("READ_WITHOUT_WORDS", WITHOUT_WORDS),
    ] {
        let mut reader = open(case, None).await.unwrap();
        assert_fatal(case, reader.next(None).await, words);
        assert_eq!(reader.position().offset, 0, "{case}");
    }
    let beyond = "the plugin gave a row of offset 2, it was asked for those before 2";
    assert_fatal("BEYOND_UNTIL", read("BEYOND_UNTIL").await, beyond);
    let below = "the plugin gave a row of offset 3, though its reader stood at 10";
    assert_fatal("OFFSET_BELOW", open("OFFSET_BELOW", Some(10)).await.unwrap().next(None).await, below);
    let back = "the plugin's reader says that it stands at 3, it must be 10 at least";
    let case = "POSITION_BACK_WITHOUT_ROWS";
    assert_fatal(case, open(case, Some(10)).await.unwrap().next(None).await, back);
    let error = assert_fails("PAUSE", read("READ_RETRY_PAUSE").await, ErrorKind::Transient, "the broker is busy");
    assert_eq!(error.pause(), Some(Duration::from_millis(250)));
}

#[tokio::test]
async fn offsets_at_an_odd_address_are_read_all_the_same() {
    let batch = read("OFFSETS_AT_AN_ODD_ADDRESS").await.unwrap().unwrap();
    assert_eq!(batch.offsets, [0, 1]);
}

#[tokio::test]
async fn a_batch_without_rows_that_goes_at_once_takes_nothing_with_it() {
    let batch = read("EMPTY_BATCH RAW").await.unwrap().unwrap();
    assert_eq!((texts(&batch), batch.offsets), (("letters".into(), "ab".into()), vec![0, 1]));
}

#[tokio::test]
async fn a_source_in_c_gives_each_row_once_and_is_told_what_is_safe() {
    let mut source = source("GOOD").unwrap();
    assert!(source.is_replayable() && !source.has_partitions());
    assert_eq!(source.assignment().await.unwrap(), Assignment::Gained(vec![partition()]));
    assert_eq!(source.assignment().await.unwrap(), Assignment::Final);
    let mut reader = source.open(&partition(), None).await.unwrap();
    assert_eq!(reader.position(), Position { offset: 0, detail: Some("begun".into()) });
    let mut found = Vec::new();
    let until = Position::at(7);
    while let Some(batch) = reader.next(Some(&until)).await.unwrap() {
        assert_eq!(batch.offsets, numbers(&batch).iter().map(|number| *number as u64).collect::<Vec<_>>());
        found.extend(numbers(&batch));
    }
    assert_eq!((&found, reader.position().offset, reader.lag()), (&(0..7).collect(), 7, Some(13)));
    source.logged(&partition(), &until).await.unwrap();
    source.forget(&partition(), &until).await.unwrap();
    drop(reader);
    // As after a crash: from the checkpoint on.
    let mut reader = source.open(&partition(), Some(&until)).await.unwrap();
    while let Some(batch) = reader.next(None).await.unwrap() {
        found.extend(numbers(&batch));
    }
    assert_eq!((found, reader.lag()), ((0..20).collect(), Some(0)));
    drop(reader);
    source.release(&partition()).await.unwrap();
    let said = source.check().await;
    assert_eq!(said[0].to_string(), "0 open, 1 logged, 1 forgotten, 1 released");
    assert_eq!((said[0].kind(), said[0].option(), said.len()), (ErrorKind::Data, Some("path"), 1));
}

#[tokio::test]
async fn payloads_and_gaps_in_offsets_come_as_they_are() {
    let batch = read("PAYLOADS RAW").await.unwrap().unwrap();
    assert_eq!(texts(&batch), ("letters".into(), "ab".into()));
    let mut reader = open("GAP", None).await.unwrap();
    assert_eq!(numbers(&reader.next(None).await.unwrap().unwrap()), [0, 1, 2]);
    assert_eq!(reader.position(), Position::at(10), "it stands behind the gap");
}

#[tokio::test]
async fn a_source_without_assignments_has_the_one_partition() {
    let mut source = source("WITHOUT_ASSIGNMENT").unwrap();
    assert_eq!(source.assignment().await.unwrap(), Assignment::Gained(vec![partition()]));
    assert_eq!(source.assignment().await.unwrap(), Assignment::Final);
}

#[tokio::test]
async fn reads_that_are_cancelled_lose_nothing() {
    let mut reader = open("SLOW", None).await.unwrap();
    let (mut found, mut cancelled) = (Vec::new(), 0);
    loop {
        let before = reader.position();
        // The read is asked for, and given up while it is under way.
        if timeout(Duration::ZERO, reader.next(None)).await.is_err() {
            cancelled += 1;
        }
        assert_eq!(reader.position(), before, "a read that gave nothing moves nothing");
        let Some(batch) = reader.next(None).await.unwrap() else { break };
        found.extend(numbers(&batch));
    }
    assert_eq!(found, (0..20).collect::<Vec<_>>());
    assert!(7 <= cancelled, "{cancelled} reads were cancelled");
}

#[tokio::test]
async fn a_check_that_says_nonsense_or_fails_is_reported() {
    let said = source("CHECK_SAYS_NONSENSE").unwrap().check().await;
    let words: Vec<String> = said.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["the words of a problem is not UTF-8"]);
    let said = source("CHECK_FAILS").unwrap().check().await;
    assert_eq!((said.len(), said[1].to_string().as_str()), (2, "nobody answers"));
}

#[test]
fn a_sink_that_cannot_be_built_says_why() {
    let no_commit = "the plugin says that it takes epochs, but lacks `claim` or `commit`";
    for (case, number, words) in [
        ("DELIVERY_ZERO", 1, "the plugin says that its `delivery` is 0, which there is not"),
        ("DELIVERY_9", 1, "the plugin says that its `delivery` is 9, which there is not"),
        ("OUTBOX_WITHOUT_DELIVER", 1, "the plugin says that it has an outbox, but lacks `deliver`"),
        ("EPOCHS_WITHOUT_COMMIT", 2, no_commit),
        ("WHEN_FULL_7", 2, "the plugin says that its `when_full` is 7, which there is not"),
    ] {
        assert_fatal(case, built_sink(case, number), words);
    }
}

#[tokio::test]
async fn marks_that_cannot_be_are_errors() {
    for (case, words) in [
        ("MARK_NULL", "the plugin's mark is NULL"),
        ("MARK_TOO_SMALL", "a mark says that it has 40 bytes, it has at least 72"),
        ("MARK_WITHOUT_STATE_ID", "a mark's state id is NULL"),
        ("MARK_NOT_UTF8", "a mark's task is not UTF-8"),
        ("MARK_DETAIL_NOT_UTF8", "a mark's detail is not UTF-8"),
        ("MARK_TWICE", "the plugin gave two marks of one task"),
    ] {
        assert_fatal(case, sink(case).claim(&owner()).await, words);
    }
    let lost = sink("CLAIM_LOST").claim(&owner()).await;
    assert_fails("CLAIM_LOST", lost, ErrorKind::Lost, "somebody else has the task");
}

#[tokio::test]
async fn commits_that_cannot_be_are_errors() {
    for (case, words) in [
        ("REFUSE_NO_EPOCH", "the plugin named row 0 of rows 0 of epoch 7, which there is not"),
        ("REFUSE_NO_ROWS", "the plugin named row 0 of rows 18446744073709551615 of epoch 0, which there is not"),
        ("REFUSE_NO_ROW", "the plugin named row 99 of rows 0 of epoch 0, which there is not"),
        ("DETAIL_NO_EPOCH", "the plugin gave a detail for epoch 7, which there is not"),
        ("DETAIL_NOT_UTF8", "the detail of a mark is not UTF-8"),
        ("ROW_ID_OUT_OF_RANGE", "the plugin named row 99 of rows 0 of epoch 0, which there is not"),
        ("RELEASES_TWICE", "the plugin has released the same rows twice"),
        ("COMMIT_STATUS_77", STATUS_77),
        ("COMMIT_WITHOUT_WORDS", WITHOUT_WORDS),
    ] {
        assert_fatal(case, commit(case).await, words);
    }
    let error = commit("COMMIT_RETRY_PAUSE").await;
    let error = assert_fails("COMMIT_RETRY_PAUSE", error, ErrorKind::Transient, "the table is locked");
    assert_eq!(error.pause(), Some(Duration::from_millis(1500)));
    let Commit::Done(details) = commit("COMMIT_CONTEXT_NULL").await.unwrap() else { panic!("nothing was refused") };
    assert_eq!(details, [Some("sum 10".to_owned())]);
}

#[tokio::test]
async fn rows_that_are_refused_twice_or_without_words_are_refused_once_and_in_some() {
    let Commit::Refused(refused) = commit("REFUSE_TWICE").await.unwrap() else { panic!("it refuses") };
    let refused: Vec<_> = refused.iter().map(|refused| (refused.row, refused.why.as_str())).collect();
    assert_eq!(refused, [(0, "the plugin refused it without words"), (1, "it is too cold")]);
}

#[tokio::test]
async fn a_sink_in_c_keeps_rows_and_mark() {
    let mut sink = sink("GOOD");
    assert_eq!(sink.delivery(), Delivery::Transactional);
    assert_eq!(sink.claim(&owner()).await.unwrap(), Claim::New);
    let epochs = [epoch(1, 0..10), epoch(2, 10..42)];
    let Commit::Done(details) = sink.commit(&epochs).await.unwrap() else { panic!("nothing was refused") };
    assert_eq!(details, [Some("sum 45".to_owned()), Some("sum 861".to_owned())]);
    assert_eq!(sink.claim(&owner()).await.unwrap(), Claim::At(epochs[1].mark.clone()));
    assert_fails("AGAIN", sink.commit(&epochs[1..]).await, ErrorKind::Lost, "the mark is ahead");
    assert_eq!(sink.check().await[0].to_string(), "42 rows, their sum is 861");
}

#[tokio::test]
async fn an_outbox_sink_in_c_delivers() {
    let alert = Alert { id: "a-7".into(), row: json!({"number": 7}).as_object().unwrap().clone(), digest_of: None };
    let mut sink = outbox("GOOD");
    assert_eq!(sink.pace().at_most_every, Duration::from_millis(250));
    assert_eq!((sink.pace().timeout, sink.pace().max_pending), (Duration::from_secs(30), 10_000));
    sink.deliver(&alert).await.unwrap();
    assert_eq!(sink.check().await[0].to_string(), "1 rows, their sum is 0");
    for (case, kind, words, pause) in [
        ("DELIVER_STATUS_77", ErrorKind::Fatal, STATUS_77, None),
        ("DELIVER_WITHOUT_WORDS", ErrorKind::Data, WITHOUT_WORDS, None),
        ("DELIVER_RETRY_PAUSE", ErrorKind::Transient, "too many requests", Some(Duration::from_secs(60))),
    ] {
        let error = assert_fails(case, outbox(case).deliver(&alert).await, kind, words);
        assert_eq!(error.pause(), pause, "{case}");
    }
}

#[tokio::test]
async fn calls_that_never_come_back_are_told_with_the_name_of_their_stage() {
    LazyLock::force(&LOG);
    let mut reading = open("READ_HANGS", None).await.unwrap();
    let mut assigning = source("ASSIGNMENT_HANGS").unwrap();
    let mut committing = sink("COMMIT_HANGS");
    let epochs = [epoch(1, 0..5)];
    let hanging = async { tokio::join!(reading.next(None), assigning.assignment(), committing.commit(&epochs)) };
    assert!(timeout(A_MOMENT * 20, hanging).await.is_err(), "they hang");
    let names = ["READ_HANGS", "ASSIGNMENT_HANGS", "COMMIT_HANGS"];
    // After 5 s; a slow machine may take longer.
    while !names.iter().all(|name| stuck().iter().any(|stage| stage == name)) {
        sleep(A_MOMENT * 10).await;
    }
    for name in names {
        let words = format!("WARN {name}: a call into its plugin has not come back for 5 s");
        assert!(LOG.lines().iter().any(|line| line.starts_with(&words)), "{name}: {:?}", LOG.lines());
    }
    // Whoever drops them does not wait for them.
    drop((reading, assigning, committing));
}

#[tokio::test]
async fn a_sink_that_keeps_more_and_more_rows_is_named() {
    LazyLock::force(&LOG);
    let mut sink = sink("KEEPS_ROWS");
    for number in 0..1_100 {
        sink.commit(&[epoch(number, 0..5)]).await.unwrap();
    }
    let lines = LOG.lines();
    let told: Vec<_> = lines.iter().filter(|line| line.starts_with("WARN KEEPS_ROWS: its plugin keeps ")).collect();
    assert!(told.len() == 1 && told[0].contains("keeps 1001 batches of rows"), "{lines:?}");
}
