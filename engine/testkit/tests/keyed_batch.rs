//! A detector of whole batches gives what the same detector of one series gives, whatever becomes of its series.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::sync::Arc;

use arrow::array::RecordBatch;
use pipeline_stage::keyed::{BatchDetector, Keyed, KeyedBatch, KeyedOptions, Method, NO_TIME, Readings};
use pipeline_stage::{
    Detector, Kind, Make, Output, Reading, Result, SavedState, Score, StageError, StageType, StateWriter, Timestamp,
    Transform, parse,
};
use pipeline_testkit::{obeys_laws, readings, stage_context};
use serde_json::{Value, json};

/// Tells the number of the reading and the sum of those before it.
struct Counts;

impl Detector for Counts {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "count";
    type Series = (u32, f64);

    fn start(&self) -> (u32, f64) {
        (0, 0.0)
    }

    fn score(&self, series: &(u32, f64), reading: &Reading) -> Option<Score> {
        let at = reading.at.map_or(f64::NAN, |at| at.0 as f64);
        let score = Score {
            score: f64::from(series.0),
            is_anomaly: series.0.is_multiple_of(7),
            expected: series.1,
            lower: at,
            upper: reading.value,
            statistic: f64::from(series.0),
        };
        (1 < series.0).then_some(score)
    }

    fn remember(&self, series: &mut (u32, f64), reading: &Reading, _: Option<&Score>) {
        *series = (series.0 + 1, 1e-3 * (series.1 + reading.value));
    }
}

/// The same, with series by number.
#[derive(Default)]
struct CountsOfBatch {
    series: Vec<Option<(u32, f64)>>,
}

const NOTHING: Score = Score {
    score: f64::NAN,
    is_anomaly: false,
    expected: f64::NAN,
    lower: f64::NAN,
    upper: f64::NAN,
    statistic: f64::NAN,
};

impl CountsOfBatch {
    fn at(&mut self, number: u32) -> &mut Option<(u32, f64)> {
        let number = number as usize;
        if self.series.len() <= number {
            self.series.resize(number + 1, None);
        }
        &mut self.series[number]
    }
}

impl BatchDetector for CountsOfBatch {
    fn load(&mut self, saved: Vec<(u32, Vec<u8>)>) -> Result<()> {
        for (number, bytes) in saved {
            let read = serde_json::from_slice(&bytes);
            *self.at(number) = Some(read.map_err(|error| StageError::fatal("no state").because(error))?);
        }
        Ok(())
    }

    fn observe(&mut self, readings: &Readings) -> Result<Vec<Score>> {
        readings.forgotten.iter().for_each(|&number| *self.at(number) = None);
        let mut scores = Vec::new();
        for (row, &number) in readings.series.iter().enumerate() {
            let at = readings.at.get(row).filter(|at| **at != NO_TIME).map(|at| Timestamp(*at));
            let series = self.at(number).get_or_insert_with(|| Counts.start());
            scores.push(Counts.observe(series, &Reading { at, value: readings.values[row] }).unwrap_or(NOTHING));
        }
        Ok(scores)
    }

    fn save(&mut self, series: &[u32]) -> Result<Vec<Vec<u8>>> {
        Ok(series.iter().map(|&number| serde_json::to_vec(&self.at(number).unwrap()).unwrap()).collect())
    }
}

fn method() -> Method {
    Method { statistic: "count".into(), state_version: 1 }
}

fn stage(is_of_batches: bool) -> StageType {
    let make = move |options: Value, context: &_, inputs: &[_], state| -> Result<Box<dyn Transform>> {
        let options: KeyedOptions = parse(options)?;
        Ok(match is_of_batches {
            true => Box::new(KeyedBatch::new(CountsOfBatch::default(), method(), &options, context, inputs, state)?),
            false => Box::new(Keyed::new(Counts, options, context, inputs, state)?),
        })
    };
    StageType {
        kind: Kind::Detector,
        name: "counts".into(),
        example: String::new(),
        schema: schemars::Schema::default(),
        make: Make::Transform(Arc::new(make)),
        history: None,
        library: None,
    }
}

fn build(stage: &StageType, options: &Value, rows: &RecordBatch, state: SavedState) -> Box<dyn Transform> {
    let Make::Transform(make) = &stage.make else { panic!("not a transform") };
    make(options.clone(), &stage_context(), &[rows.schema()], state).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn run(transform: &mut dyn Transform, rows: &RecordBatch) -> Vec<RecordBatch> {
    let mut out = Output::default();
    for start in (0..rows.num_rows()).step_by(100) {
        transform.process(0, &rows.slice(start, 100.min(rows.num_rows() - start)), &mut out).unwrap();
    }
    out.take().emitted.into_iter().map(|(batch, _)| batch).collect()
}

#[derive(Default)]
struct Store(std::collections::BTreeMap<Vec<u8>, Vec<u8>>);

impl StateWriter for Store {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

/// Series that are forgotten, that expire, without times, and neither.
fn option_sets() -> [Value; 4] {
    [
        json!({"value": "value"}),
        json!({"value": "value", "time": "timestamp", "max_series": 40}),
        json!({"value": "value", "time": "timestamp", "expire_after": "60s"}),
        json!({"value": "value", "time": "timestamp", "expire_after": "1s", "max_series": 9, "prefix": "my_"}),
    ]
}

#[test]
fn it_gives_what_a_detector_of_one_series_gives() {
    let rows = readings(11, 6_000);
    for options in option_sets() {
        let expected = run(&mut *build(&stage(false), &options, &rows, SavedState::default()), &rows);
        let found = run(&mut *build(&stage(true), &options, &rows, SavedState::default()), &rows);
        assert_eq!(found, expected, "{options}");
    }
}

#[test]
fn it_obeys_the_laws() {
    for options in option_sets() {
        let evidence = obeys_laws(&stage(true), &options, &readings(3, 4_000));
        assert!(20 < evidence.resumed_with_state, "{evidence:?}");
    }
}

#[test]
fn a_number_is_used_again_once_its_series_is_forgotten() {
    let options: KeyedOptions = parse(json!({"value": "value", "max_series": 16})).unwrap();
    let rows = readings(5, 6_000);
    let detector = CountsOfBatch::default();
    let mut keyed =
        KeyedBatch::new(detector, method(), &options, &stage_context(), &[rows.schema()], SavedState::default())
            .unwrap();
    run(&mut keyed, &rows);
    let mut store = Store::default();
    keyed.save(&mut store).unwrap();
    assert_eq!(store.0.len(), 16);
    // With fewer series allowed than were saved, those read last are kept.
    let state = SavedState { entries: store.0.into_iter().collect() };
    let options = json!({"value": "value", "max_series": 4});
    let mut fewer = build(&stage(true), &options, &rows, state);
    let mut store = Store::default();
    fewer.save(&mut store).unwrap();
    assert!(store.0.is_empty(), "nothing has changed");
}

#[test]
fn scores_that_are_too_few_are_refused() {
    struct Silent;
    impl BatchDetector for Silent {
        fn load(&mut self, _: Vec<(u32, Vec<u8>)>) -> Result<()> {
            Ok(())
        }
        fn observe(&mut self, _: &Readings) -> Result<Vec<Score>> {
            Ok(Vec::new())
        }
        fn save(&mut self, _: &[u32]) -> Result<Vec<Vec<u8>>> {
            Ok(Vec::new())
        }
    }
    let rows = readings(1, 50);
    let options: KeyedOptions = parse(json!({"value": "value"})).unwrap();
    let mut keyed =
        KeyedBatch::new(Silent, method(), &options, &stage_context(), &[rows.schema()], SavedState::default()).unwrap();
    let error = keyed.process(0, &rows, &mut Output::default()).unwrap_err().to_string();
    assert!(error.starts_with("the detector gave 0 scores for "), "{error}");
    let error = keyed.save(&mut Store::default()).unwrap_err().to_string();
    assert!(error.starts_with("the detector saved 0 series, "), "{error}");
}
