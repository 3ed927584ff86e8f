//! Transforms in Python: rows there and back, and the laws.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod common;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use common::{Store, Written, build, process, try_build};
use pipeline_stage::{ErrorKind, Origin, Output, SavedState, Times, Timestamp};
use pipeline_testkit::{checks_out, obeys_laws_briefly, readings};
use serde_json::json;

/// Holds rows back until the epoch ends, gives them with a running number, and rejects those without a value.
const HOLDING: &str = r#"
import json
import pyarrow as pa

class NumberRows(Transform):
    """Gives rows at the end of an epoch, numbered for each sensor."""

    column: str = option("number", "What the new column is called.")

    def setup(self):
        self.waiting, self.counts, self.changed = [], {}, set()

    def schema(self, inputs):
        if self.column in inputs[0].names:
            raise ConfigError(f"there is a column `{self.column}` already", "column")
        self.given = inputs[0].append(pa.field(self.column, pa.int64()))
        return self.given

    def process(self, input, batch, out):
        good = []
        for row, value in enumerate(batch.column("value").to_pylist()):
            if value is None:
                out.reject(row, "it has no value")
            elif value == 0.1 + 0.2:
                out.filtered(1)
            else:
                good.append(row)
        if good:
            self.waiting.append(batch.take(pa.array(good)))

    def tick(self, now, watermark, out):
        for batch in self.waiting:
            numbers = []
            for sensor in batch.column("sensor_id").to_pylist():
                self.counts[sensor] = self.counts.get(sensor, 0) + 1
                self.changed.add(sensor)
                numbers.append(self.counts[sensor])
            columns = [*batch.columns, pa.array(numbers, pa.int64())]
            out.emit_created(pa.RecordBatch.from_arrays(columns, schema=self.given))
        self.waiting = []

    def save(self):
        changes = {sensor.encode(): json.dumps(self.counts[sensor]).encode() for sensor in self.changed}
        self.changed = set()
        return changes

    def load(self, saved):
        self.counts = {sensor.decode(): json.loads(count) for sensor, count in saved.items()}

    @property
    def held(self):
        return sum(batch.num_rows for batch in self.waiting)
"#;

/// The same that gives rows at once, so that batches are cut differently from what they come in as.
const DOUBLING: &str = r#"
import pyarrow as pa

class Double(Transform):
    """Gives each row twice, and none that is late."""

    def process(self, input, batch, out):
        rows = []
        for row, at in enumerate(batch.column("timestamp").to_pylist()):
            if at is None:
                out.late(row)
            else:
                rows += [row, row]
        out.created(len(rows) // 2)
        out.emit(batch.take(pa.array(rows, pa.int32())), rows)
"#;

#[test]
fn transforms_obey_the_laws() {
    for text in [HOLDING, DOUBLING] {
        let stage = Written::new(text);
        checks_out(&stage.stage());
        let evidence = obeys_laws_briefly(&stage.stage(), &json!({}), &readings(3, 1_500));
        assert!(800 < evidence.rows_out, "{evidence:?}");
    }
}

#[test]
fn rows_are_held_until_they_are_given() {
    let rows = readings(1, 400);
    let plugin = Written::new(HOLDING);
    let mut transform = build(&plugin.stage(), json!({"column": "n"}), &rows);
    assert_eq!(transform.schema().field(4).name(), "n");
    let taken = process(&mut *transform, &rows).unwrap().take();
    assert_eq!(taken.emitted.len(), 0);
    assert_eq!(taken.rejected[0].1, "it has no value");
    let held = transform.held();
    assert_eq!(held + taken.rejected.len() as u64 + taken.filtered, 400);
    let mut out = Output::default();
    transform.tick(Times { now: Timestamp(5), watermark: None }, &mut out).unwrap();
    let emitted = out.take().emitted;
    assert_eq!((emitted[0].0.num_rows() as u64, &emitted[0].1), (held, &Origin::Created));
    assert_eq!(transform.held(), 0);
}

#[test]
fn state_of_another_version_is_refused() {
    let rows = readings(1, 400);
    let plugin = Written::new(HOLDING);
    let mut transform = build(&plugin.stage(), json!({}), &rows);
    process(&mut *transform, &rows).unwrap();
    transform.tick(Times { now: Timestamp(5), watermark: None }, &mut Output::default()).unwrap();
    let mut store = Store::default();
    transform.save(&mut store).unwrap();
    assert!(10 < store.0.len());
    let newer = Written::new(&HOLDING.replace("    column: str", "    state_version = 2\n    column: str"));
    let error = try_build(&newer.stage(), json!({}), &rows, store.saved()).err().unwrap();
    let words = "the saved state has version 1, this transform reads version 2";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
    let state = SavedState { entries: vec![(b"k".to_vec(), vec![1, 0, b'1'])] };
    let error = try_build(&Written::new(DOUBLING).stage(), json!({}), &rows, state).err().unwrap();
    assert!(error.to_string().contains("there is saved state, and the stage has no `load`"), "{error}");
}

#[test]
fn sixteen_megabytes_go_there_and_back() {
    let text = "x".repeat(2_000);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..8_192).map(|row| format!("{row} {text}"))));
    let rows = RecordBatch::try_from_iter([("text", texts)]).unwrap();
    let plugin =
        Written::new("class Same(Transform):\n  'Same.'\n  def process(self, input, batch, out): out.emit(batch)\n");
    let mut transform = build(&plugin.stage(), json!({}), &rows);
    for part in [rows.clone(), rows.slice(100, 5_000), rows.slice(0, 0), rows.slice(8_191, 1)] {
        let emitted = process(&mut *transform, &part).unwrap().take().emitted;
        let found = emitted.first().map(|(batch, _)| batch.clone()).unwrap_or_else(|| rows.slice(0, 0));
        assert_eq!(found, part);
    }
}

#[test]
fn what_a_transform_may_not_say_is_refused_in_words() {
    let rows = readings(1, 100);
    for (body, kind, words) in [
        (
            "out.emit(batch.slice(1))",
            ErrorKind::Fatal,
            "99 rows were emitted for 100 without saying which came from which; give `origins`",
        ),
        ("out.emit(batch, [0])", ErrorKind::Fatal, "100 rows were emitted with 1 origins"),
        ("out.reject(100, 'x')", ErrorKind::Fatal, "row 100 was named, the batch has 100 rows"),
        ("out.filtered(-1)", ErrorKind::Fatal, "-1 rows were counted"),
        ("raise DataError('unreadable')", ErrorKind::Data, "unreadable"),
        ("raise TransientError('away', retry_after=1.5)", ErrorKind::Transient, "away"),
    ] {
        let text = format!("class Odd(Transform):\n  'Odd.'\n  def process(self, input, batch, out): {body}\n");
        let mut transform = build(&Written::new(&text).stage(), json!({}), &rows);
        let error = process(&mut *transform, &rows).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
        assert_eq!(error.pause().is_some(), kind == ErrorKind::Transient);
    }
    let text = "class Odd(Transform):\n  'Odd.'\n  def process(self, input, batch, out): out.emit(batch.select(['value']), range(100))\n";
    let mut transform = build(&Written::new(text).stage(), json!({}), &rows);
    let words = process(&mut *transform, &rows).unwrap_err().to_string();
    assert!(words.starts_with("a batch has the columns value double, `schema` says sensor_id string, "), "{words}");
}

#[test]
fn columns_that_no_pipeline_has_are_refused_before_the_start() {
    let rows = readings(1, 10);
    for (schema, words) in [
        ("pa.schema([('a', pa.int32())])", "`schema` gives a column `a` of type Int32, it must be string, int64, "),
        ("pa.schema([('a', pa.int64()), ('a', pa.int64())])", "`schema` gives two columns called `a`"),
        ("7", "`schema` gave int, it must give a pyarrow.Schema"),
        ("inputs[3]", "IndexError: list index out of range\n  File "),
    ] {
        let text = format!(
            "import pyarrow as pa\nclass Odd(Transform):\n  'Odd.'\n  def schema(self, inputs): return {schema}\n"
        );
        let error = try_build(&Written::new(&text).stage(), json!({}), &rows, SavedState::default()).err().unwrap();
        assert!(error.to_string().starts_with(words), "{error}");
    }
}
