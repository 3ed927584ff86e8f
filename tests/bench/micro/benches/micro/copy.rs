//! Rows as PostgreSQL's COPY takes them in binary form, by the code that the sink `postgres` sends them with.

use arrow::array::RecordBatch;
use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_stage::{EpochRows, Mark, Origins, Output, Rows};

use crate::detect::zscore_stage;
use crate::rows::{ROWS, of_any_series};

/// Readings: two texts, a float and a time.
#[divan::bench]
fn copy_readings(bencher: Bencher<'_, '_>) {
    encode(bencher, |readings| readings);
}

/// Readings with the six columns of their z-score.
#[divan::bench]
fn copy_scored_readings(bencher: Bencher<'_, '_>) {
    let mut detector = zscore_stage();
    encode(bencher, |readings| {
        let mut output = Output::default();
        detector.process(0, &readings, &mut output).expect("good rows");
        output.take().emitted.pop().expect("a detector gives what it takes").0
    });
}

/// Measures the encoding of an epoch as large as one gets.
fn encode(bencher: Bencher<'_, '_>, of: impl FnMut(RecordBatch) -> RecordBatch) {
    let batches: Vec<RecordBatch> = of_any_series(1_000).into_iter().take(6).map(of).collect();
    let schema = batches[0].schema();
    let rows = batches.into_iter().map(|batch| {
        let offsets: Vec<u64> = (0..ROWS as u64).collect();
        Rows { origins: Origins::new("readings/0".into(), offsets.into()), batch }
    });
    let epochs = [EpochRows { rows: rows.collect(), mark: mark() }];
    let mut bytes = Vec::new();
    bencher.counter(ItemsCount::new(epochs[0].len())).bench_local(|| {
        bytes.clear();
        pipeline_postgres::encode(&epochs, &schema, &mut bytes).expect("a table takes these columns");
    });
    assert!(30 * epochs[0].len() < bytes.len());
}

fn mark() -> Mark {
    Mark {
        pipeline: "bench".into(),
        sink: "history".into(),
        task: "0".into(),
        state_id: "life-1".into(),
        generation: 1,
        epoch: 1,
        positions: "{}".into(),
        detail: None,
    }
}
