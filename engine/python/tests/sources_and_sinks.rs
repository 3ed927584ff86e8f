//! Sources and sinks in Python obey the laws of theirs.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod common;

use std::future::Future;
use std::time::Duration;

use common::Written;
use pipeline_stage::{
    Alert, BuiltSink, Claim, EpochRows, ErrorKind, Kind, Make, Mark, Owner, SinkContext, StageType, WhenFull,
};
use pipeline_testkit::{Asked, Effort, checks_out, reading_schema, stage_context, trials};
use serde_json::{Value, json};

/// Counts; the offsets have gaps, and it is silent now and then.
const COUNTING: &str = r#"
import pyarrow as pa

class Count(Source):
    """Counts from one number to another."""

    upto: int = option(20_000, "Where it ends.", minimum=1)

    def schema(self):
        return pa.schema([("number", pa.int64()), ("text", pa.string())])

    def read(self, partition, offset):
        number = ((offset or 0) + 2) // 3
        while number < self.upto:
            numbers = range(number, min(number + 700, self.upto))
            rows = [{"number": n, "text": "x" * (n % 5)} for n in numbers]
            yield Rows(rows, [3 * n for n in numbers])
            yield None
            number = numbers[-1] + 1
"#;

/// A table of SQLite with its mark.
const TABLE: &str = r#"
import sqlite3

class Table(Sink):
    """Writes into a table of SQLite."""

    path: str = option("rows.db", "The database.")
    delivery = "transactional"

    def schema(self, rows):
        self.names = rows.names

    def connected(self):
        import os
        db = sqlite3.connect(os.path.join(self.context.directory, self.path), isolation_level=None)
        db.execute("CREATE TABLE IF NOT EXISTS rows (json TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS marks (pipeline, sink, task, state_id, generation, epoch, positions, "
                   "PRIMARY KEY (pipeline, sink, task))")
        return db

    def claim(self, owner):
        db = self.connected()
        db.execute("BEGIN IMMEDIATE")
        place = (owner.pipeline, owner.sink, owner.task)
        found = db.execute("SELECT * FROM marks WHERE pipeline=? AND sink=? AND task=?", place).fetchone()
        if found is None:
            db.execute("INSERT INTO marks VALUES (?,?,?,?,?,?,?)", (*place, owner.state_id, owner.generation, 0, ""))
        else:
            if found[3] == owner.state_id and owner.generation < found[4]:
                db.close()
                raise LostError("a later owner has it")
            state_id = owner.state_id if owner.takes_over else found[3]
            db.execute("UPDATE marks SET generation=?, state_id=? WHERE pipeline=? AND sink=? AND task=?",
                       (owner.generation, state_id, *place))
        db.execute("COMMIT")
        return None if found is None or found[5] == 0 else Mark(*found)

    def commit(self, epochs):
        import json
        db = self.connected()
        db.execute("BEGIN IMMEDIATE")
        for epoch in epochs:
            for batch in epoch.batches:
                db.executemany("INSERT INTO rows VALUES (?)", [(json.dumps(row, default=str),) for row in batch.to_pylist()])
            mark = epoch.mark
            done = db.execute("UPDATE marks SET epoch=?, positions=? WHERE pipeline=? AND sink=? AND task=? AND generation=? AND epoch<?",
                              (mark.epoch, mark.positions, mark.pipeline, mark.sink, mark.task, mark.generation, mark.epoch))
            if done.rowcount == 0:
                db.close()
                raise LostError("somebody else owns the task")
        db.execute("COMMIT")
"#;

fn all_hold(stage: &StageType, options: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let asked = Asked { stage, options, like: None, directory: folder.path(), effort: Effort::Brief };
    let trials = trials(&asked);
    assert!(2 < trials.len());
    for trial in trials {
        let name = trial.name.clone();
        trial.run().unwrap_or_else(|broken| panic!("{name}: {broken}"));
    }
}

#[test]
fn a_source_obeys_its_laws() {
    let stage = Written::new(COUNTING);
    checks_out(&stage.stage());
    assert_eq!(stage.stage().kind, Kind::Source);
    all_hold(&stage.stage(), &json!({}));
}

#[test]
fn a_transactional_sink_obeys_its_laws() {
    let stage = Written::new(TABLE);
    checks_out(&stage.stage());
    all_hold(&stage.stage(), &json!({}));
}

/// What a test needs to call a stage whose calls wait.
fn waited<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

/// The file must be there as long as the sink.
fn built_sink(plugin: &Written) -> BuiltSink {
    let stage = plugin.stage();
    let Make::Sink(make) = &stage.make else { panic!("not a sink") };
    make(json!({}), SinkContext { stage: stage_context(), schema: reading_schema(), detector: None }).unwrap()
}

#[test]
fn an_outbox_delivers_rows_and_says_what_is_to_be_tried_again() {
    let sink = built_sink(&Written::new(
        "class Bell(Outbox):\n  'Rings a bell for a row.'\n  at_most_every = 0.5\n  when_full = 'wait'\n  \
           def deliver(self, id, row, digest_of):\n    \
             if row['value'] > 5: raise TransientError('busy', retry_after=2)\n    \
             if row['value'] < 0: raise DataError('no such tone')\n",
    ));
    let BuiltSink::Outbox(mut bell) = sink else { panic!("an outbox") };
    assert_eq!((bell.pace().at_most_every, bell.pace().when_full), (Duration::from_millis(500), WhenFull::Wait));
    waited(async {
        let mut ring = async |value: i32| {
            let row = json!({"value": value}).as_object().unwrap().clone();
            bell.deliver(&Alert { id: "a".into(), row, digest_of: None }).await
        };
        ring(3).await.unwrap();
        let busy = ring(6).await.unwrap_err();
        assert_eq!((busy.kind(), busy.pause()), (ErrorKind::Transient, Some(Duration::from_secs(2))));
        assert_eq!(ring(-1).await.unwrap_err().kind(), ErrorKind::Data);
    });
}

#[test]
fn a_sink_whose_process_dies_is_claimed_again() {
    let plugin = Written::new(
        "import os\nclass Fragile(Sink):\n  'Dies at the second epoch that it sees.'\n  \
           def setup(self): self.n = 0\n  \
           def claim(self, owner): return None\n  \
           def commit(self, epochs):\n    \
             self.n += 1\n    \
             if self.n == 2: os._exit(9)\n",
    );
    let sink = built_sink(&plugin);
    let BuiltSink::Epochs(mut sink) = sink else { panic!("a sink of epochs") };
    let owner = Owner {
        pipeline: "p".into(),
        sink: "s".into(),
        task: "0".into(),
        state_id: "x".into(),
        generation: 1,
        stored: None,
        takes_over: false,
    };
    let epoch = |epoch| {
        let (pipeline, sink, task, state_id) = ("p".into(), "s".into(), "0".into(), "x".into());
        let mark =
            Mark { pipeline, sink, task, state_id, generation: 1, epoch, positions: String::new(), detail: None };
        [EpochRows { mark, rows: Vec::new() }]
    };
    waited(async {
        assert_eq!(sink.claim(&owner).await.unwrap(), Claim::New);
        sink.commit(&epoch(1)).await.unwrap();
        let died = sink.commit(&epoch(2)).await.unwrap_err();
        assert_eq!(died.kind(), ErrorKind::Transient);
        assert!(died.to_string().contains("it exited with code 9"), "{died}");
        sink.claim(&owner).await.unwrap();
        sink.commit(&epoch(2)).await.unwrap();
    });
}
