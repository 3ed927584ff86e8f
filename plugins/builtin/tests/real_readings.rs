//! Real readings of wireless motes: file, JSON and z-score together give what the plain reference gives.

// Clippy allows it in functions with #[test] only.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use pipeline_builtin::stages;
use pipeline_stage::{
    Column, ColumnFrom, ColumnType, FormatContext, Kind, Make, Output, Partition, Role, SavedState, SourceContext,
    SourceRows, StageType, Zone, schema_of,
};
use pipeline_testkit::{obeys_laws, stage_context};
use serde_json::json;

/// The folder of the readings: `PIPELINE_TEST_DATA`, or `shared/data` beside the repository.
fn data() -> PathBuf {
    let folder = std::env::var_os("PIPELINE_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let readings = folder.join("wsn/motes.jsonl");
    assert!(readings.is_file(), "there is no {}: PIPELINE_TEST_DATA must name the folder of wsn/", readings.display());
    folder.join("wsn")
}

fn stage(kind: Kind, name: &str) -> StageType {
    stages().into_iter().find(|stage| stage.kind == kind && stage.name == name).unwrap()
}

fn columns() -> Vec<Column> {
    [
        ("sensor_id", ColumnType::String),
        ("metric_type", ColumnType::String),
        ("value", ColumnType::Float),
        ("timestamp", ColumnType::Timestamp),
    ]
    .map(|(name, column_type)| Column {
        name: name.into(),
        column_type,
        nullable: false,
        from: ColumnFrom::Field(vec![name.into()]),
    })
    .into()
}

/// All readings as the file source and the JSON format give them.
async fn readings() -> Vec<arrow::array::RecordBatch> {
    let Make::Format(make) = stage(Kind::Format, "json").make else { panic!("json is a format") };
    let mut format = make(json!({}), FormatContext { columns: columns(), zone: Zone::Utc }).unwrap();
    let Make::Source(make) = stage(Kind::Source, "file").make else { panic!("file is a source") };
    let context = SourceContext { stage: stage_context(), framing: Some(format.framing()), role: Role::Leader };
    let mut source = make(json!({"path": data().join("motes.jsonl")}), context).unwrap();
    let mut reader = source.open(&Partition::numbered(0), None).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.next(None).await.unwrap() {
        let SourceRows::Raw(raw) = &batch.rows else { panic!("a file gives payloads") };
        let decoded = format.decode(raw, &batch.offsets).unwrap();
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        batches.push(decoded.batch);
    }
    batches
}

/// Row and z of the anomalies, from the reference.
fn expected() -> BTreeMap<usize, f64> {
    let text = std::fs::read_to_string(data().join("motes.zscore.csv")).unwrap();
    let anomaly = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields[0].parse().unwrap(), fields[5].parse().unwrap())
    };
    text.lines().skip(1).map(anomaly).collect()
}

#[tokio::test]
async fn the_anomalies_are_those_of_the_reference() {
    let Make::Transform(make) = stage(Kind::Detector, "zscore").make else { panic!("zscore is a detector") };
    let schema = schema_of(&columns());
    let mut zscore = make(json!({"value": "value"}), &stage_context(), &[schema], SavedState::default()).unwrap();
    let (mut found, mut n_rows, mut out) = (BTreeMap::new(), 0, Output::default());
    for batch in readings().await {
        zscore.process(0, &batch, &mut out).unwrap();
        for (scored, _) in out.take().emitted {
            let is_anomaly = scored.column_by_name("is_anomaly").unwrap().as_boolean();
            let z_scores = scored.column_by_name("z_score").unwrap().as_primitive::<Float64Type>();
            for row in (0..scored.num_rows()).filter(|&row| is_anomaly.value(row)) {
                found.insert(n_rows + row, z_scores.value(row));
            }
            n_rows += scored.num_rows();
        }
    }
    let expected = expected();
    assert_eq!((n_rows, expected.len()), (37_828, 1_318));
    assert!(found.keys().eq(expected.keys()), "other rows are anomalies than in the reference");
    let errors = found.iter().map(|(row, z)| ((z - expected[row]) / expected[row]).abs());
    let largest = errors.fold(0.0, f64::max);
    println!("the largest relative error of z is {largest:e}");
    assert!(largest < 1e-9, "{largest:e}");
}

#[tokio::test]
async fn the_laws_hold_on_real_readings() {
    let batches = readings().await;
    let evidence = obeys_laws(&stage(Kind::Detector, "zscore"), &json!({"value": "value"}), &batches[1]);
    assert!(50 < evidence.resumed_with_state, "{evidence:?}");
}
