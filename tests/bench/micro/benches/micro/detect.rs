//! Readings into scores: finding the series of each row, alone and with its z-score.

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_stage::keyed::{Keyed, KeyedOptions};
use pipeline_stage::{Detector, Kind, Make, Output, Reading, SavedState, Score, Transform, parse, schema_of};
use pipeline_testkit::stage_context;
use serde_json::json;

use crate::rows::{IS_QUICK, ROWS, columns, of_any_series, of_each_series};

/// A machine, a plant, and more than any cache holds.
const SERIES: &[usize] = if IS_QUICK { &[10, 10_000] } else { &[10, 10_000, 1_000_000] };

/// As many readings as a window has.
const WINDOW: usize = 30;

/// Says nothing: what is left is keys, look-up and columns without scores.
struct Silent;

impl Detector for Silent {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "nothing";
    /// The last reading.
    type Series = f64;

    fn start(&self) -> f64 {
        0.0
    }

    fn score(&self, _series: &f64, _reading: &Reading) -> Option<Score> {
        None
    }

    fn remember(&self, series: &mut f64, reading: &Reading, _score: Option<&Score>) {
        *series = reading.value;
    }
}

#[divan::bench(args = SERIES)]
fn look_up(bencher: Bencher<'_, '_>, series: usize) {
    let options: KeyedOptions = parse(json!({ "value": "value", "time": "timestamp" })).expect("good options");
    let state = SavedState::default();
    let keyed = Keyed::new(Silent, options, &stage_context(), &[schema_of(&columns())], state);
    process(bencher, series, 1, &mut keyed.expect("the columns are there"));
}

#[divan::bench(args = SERIES)]
fn zscore(bencher: Bencher<'_, '_>, series: usize) {
    process(bencher, series, WINDOW, &mut *zscore_stage());
}

/// The detector `zscore`, as a pipeline has it.
pub fn zscore_stage() -> Box<dyn Transform> {
    let mut stages = pipeline_builtin::stages().into_iter();
    let stage = stages.find(|stage| stage.kind == Kind::Detector && stage.name == "zscore").expect("it is built in");
    let Make::Transform(make) = &stage.make else { panic!("a detector is a transform") };
    let options = json!({ "value": "value", "time": "timestamp", "window": WINDOW, "threshold": 3.0 });
    make(options, &stage_context(), &[schema_of(&columns())], SavedState::default()).expect("the columns are there")
}

/// Measures batches of readings of known series, of which each has had so many readings before.
fn process(bencher: Bencher<'_, '_>, series: usize, readings_before: usize, stage: &mut dyn Transform) {
    let known = of_each_series(series);
    for _ in 0..if IS_QUICK { 1 } else { readings_before } {
        for batch in &known {
            stage.process(0, batch, &mut Output::default()).expect("good rows");
        }
    }
    assert_eq!(stage.series(), Some(series as u64));
    let batches = of_any_series(series);
    let mut next = batches.iter().cycle();
    let mut output = Output::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        output.next_batch();
        stage.process(0, next.next().expect("it has no end"), &mut output).expect("good rows");
        output.take()
    });
}
