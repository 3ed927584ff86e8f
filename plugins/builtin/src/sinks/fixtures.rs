//! Rows, owners and contexts for the tests of sinks.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_stage::{
    BuiltSink, Console, EpochRows, Mark, Origins, Owner, Result, Rows, Sink, SinkContext, SinkOptions, StageContext,
};

/// Keeps what is printed.
#[derive(Default)]
pub struct Screen {
    pub printed: Mutex<Vec<u8>>,
    pub is_terminal: bool,
    pub fails_with: Option<io::ErrorKind>,
}

impl Screen {
    pub fn text(&self) -> String {
        String::from_utf8(self.printed.lock().unwrap().clone()).unwrap()
    }
}

impl Console for Screen {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        match self.fails_with {
            Some(kind) => Err(kind.into()),
            None => {
                self.printed.lock().unwrap().extend_from_slice(lines);
                Ok(())
            }
        }
    }
    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

pub fn context(rows: &RecordBatch, directory: PathBuf, console: Arc<dyn Console>) -> SinkContext {
    let stage = StageContext {
        pipeline: "iot".into(),
        id: "out".into(),
        directory,
        key: vec!["sensor_id".into(), "metric_type".into()],
        once: false,
        cold_start: false,
        console,
    };
    SinkContext { stage, schema: rows.schema(), detector: None }
}

pub fn built_in<O: SinkOptions>(options: &str, context: SinkContext) -> Result<Box<dyn Sink>> {
    let options: O = pipeline_stage::parse(serde_json::from_str(options).unwrap())?;
    match options.build(context)? {
        BuiltSink::Epochs(sink) => Ok(sink),
        BuiltSink::Outbox(_) => panic!("this sink takes epochs"),
    }
}

pub fn built<O: SinkOptions>(options: &str, rows: &RecordBatch) -> Result<Box<dyn Sink>> {
    built_in::<O>(options, context(rows, PathBuf::from("."), Arc::new(Screen::default())))
}

pub fn owner(stored: Option<Mark>) -> Owner {
    Owner {
        pipeline: "iot".into(),
        sink: "out".into(),
        task: "readings/0".into(),
        state_id: "s1".into(),
        generation: 1,
        stored,
        takes_over: false,
    }
}

/// The rows of one epoch of the task `readings/{task}`.
pub fn epoch(task: &str, number: u64, batch: &RecordBatch) -> EpochRows {
    let mark = Mark {
        pipeline: "iot".into(),
        sink: "out".into(),
        task: format!("readings/{task}"),
        state_id: "s1".into(),
        generation: 1,
        epoch: number,
        positions: "{}".into(),
        detail: None,
    };
    let offsets = (0..batch.num_rows() as u64).map(|row| number * 1_000 + row).collect();
    let origins = Origins::new(format!("readings/{task}").into(), offsets);
    EpochRows { mark, rows: vec![Rows { batch: batch.clone(), origins }] }
}

/// Two readings as a source gives them.
pub fn readings() -> RecordBatch {
    readings_of(&[("sensor-04", "temperature", 71.32), ("sensor-09", "pressure", 962.1)])
}

/// One reading a second, from 2025-07-20T12:00:07.412Z on.
pub fn readings_of(rows: &[(&str, &str, f64)]) -> RecordBatch {
    let at = (0..rows.len() as i64).map(|second| 1_753_012_807_412_000 + second * 1_000_000);
    let columns: [(&str, ArrayRef); 4] = [
        ("sensor_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
        ("metric_type", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
        ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// What a detector says of a row: score, expected, lower, upper, statistic.
pub type Scores = [Option<f64>; 5];

/// Rows with the columns that a z-score adds.
pub fn scored(rows: &RecordBatch, scores: &[Scores], prefix: &str) -> RecordBatch {
    let floats = |idx: usize| -> ArrayRef { Arc::new(scores.iter().map(|row| row[idx]).collect::<Float64Array>()) };
    let is_anomaly = scores.iter().map(|row| Some(row[0].is_some_and(|score| 1.0 < score))).collect::<BooleanArray>();
    let added: [(&str, ArrayRef); 6] = [
        ("score", floats(0)),
        ("is_anomaly", Arc::new(is_anomaly)),
        ("expected", floats(1)),
        ("lower", floats(2)),
        ("upper", floats(3)),
        ("z_score", floats(4)),
    ];
    let names = rows.schema();
    let names = names.fields().iter().map(|field| field.name().clone());
    let added_names = added.iter().map(|(name, _)| format!("{prefix}{name}"));
    let columns = rows.columns().iter().cloned().chain(added.iter().map(|(_, column)| column.clone()));
    RecordBatch::try_from_iter(names.chain(added_names).zip(columns)).unwrap()
}
