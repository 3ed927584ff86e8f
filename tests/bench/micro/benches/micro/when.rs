//! `when:`: which rows of a batch a condition holds for. The rows are those that a detector gives.

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_runtime::expression::Expression;
use pipeline_stage::Output;

use crate::detect::zscore_stage;
use crate::rows::{ROWS, of_any_series};

#[divan::bench(args = [
    "is_anomaly",
    "22.5 < value",
    "metric_type = 'temperature'",
    "sensor_id LIKE 'sensor_00%'",
    "20.1 <= value AND value < 20.9 AND metric_type IN ('temperature', 'humidity')",
    "2 < ABS(z_score) OR lower IS NULL",
])]
fn when(bencher: Bencher<'_, '_>, condition: &str) {
    let mut detector = zscore_stage();
    let mut output = Output::default();
    // Ten series in sixteen batches: the last one has scores.
    for readings in of_any_series(10) {
        output = Output::default();
        detector.process(0, &readings, &mut output).expect("good rows");
    }
    let (scored, _) = output.take().emitted.pop().expect("a detector gives what it takes");
    let condition = Expression::compile_condition(condition, &scored.schema()).expect("a condition on these columns");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| condition.select(&scored).expect("no row can fail"));
}
