use arrow::array::{ArrayRef, Int64Array};
use pipeline_stage::{Cell as Seen, Origin, StageType};
use pipeline_testkit::{Effort, Random, laws_hold, stage_context};
use serde_json::json;

use super::*;

const BERLIN: &str = r#"{"coord": {"lon": 13.41, "lat": 52.52}, "weather": [{"id": 800, "main": "Clear"}],
    "main": {"temp": 21.34, "feels_like": 21.1, "pressure": 1016, "humidity": 60},
    "dt": 1752999556, "timezone": 7200, "name": "Berlin", "cod": 200}"#;

/// Documents, with their numbers beside them.
fn documents(texts: &[Option<&str>]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(texts));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("document", texts, true)]).unwrap()
}

fn build(options: Value) -> Result<Box<dyn Transform>> {
    let options = pipeline_stage::parse::<UnnestOptions>(options)?;
    options.build(&stage_context(), &[documents(&[]).schema()], SavedState::default())
}

fn shown(batch: &RecordBatch, row: usize) -> String {
    let cells = batch.columns().iter().map(|column| match Seen::of(column, row) {
        Seen::Null => "null".into(),
        Seen::Text(text) => text.into(),
        Seen::Time(time) => time.to_string(),
        other => Value::from(other).to_string(),
    });
    cells.collect::<Vec<String>>().join(" ")
}

/// The rows of some documents, each with the number of its document before it, and why the others have none. The books
/// must balance.
fn unnest(options: Value, texts: &[Option<&str>]) -> (Vec<String>, Vec<(u32, String)>) {
    let mut transform = build(options).unwrap_or_else(|error| panic!("{}", error.chain()));
    let (mut out, given) = (Output::default(), documents(texts));
    transform.process(0, &given, &mut out).unwrap();
    let outcome = out.take();
    let mut rows = Vec::new();
    for (batch, origin) in &outcome.emitted {
        assert_eq!(batch.schema(), transform.schema());
        let Origin::Rows(origins) = origin else { panic!("{origin:?}") };
        let numbers = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        assert!(numbers.values().iter().map(|number| *number as u32).eq(origins.iter().copied()), "{origins:?}");
        rows.extend((0..batch.num_rows()).map(|row| shown(batch, row)));
    }
    let gone = rows.len() as u64 + outcome.filtered + outcome.rejected.len() as u64;
    assert_eq!(texts.len() as u64 + outcome.created, gone, "the books");
    (rows, outcome.rejected)
}

fn weather() -> Value {
    json!({
        "column": "document",
        "columns": {
            "sensor_id": "string", "metric_type": "string", "value": "float",
            "timestamp": { "type": "timestamp", "from": "dt" }
        },
        "rows": [
            { "sensor_id": "{name}-temp", "metric_type": "temperature", "value": "{main.temp}" },
            { "sensor_id": "{name}-humidity", "metric_type": "humidity", "value": "{main.humidity}" },
            { "sensor_id": "{name}-pressure", "metric_type": "pressure", "value": "{main.pressure}" }
        ]
    })
}

#[test]
fn the_weather_of_a_city_is_three_readings() {
    let (rows, rejected) = unnest(weather(), &[Some(BERLIN)]);
    let expected = [
        "0 Berlin-temp temperature 21.34 2025-07-20T08:19:16Z",
        "0 Berlin-humidity humidity 60.0 2025-07-20T08:19:16Z",
        "0 Berlin-pressure pressure 1016.0 2025-07-20T08:19:16Z",
    ];
    assert_eq!((rows, rejected), (expected.map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn elements_of_arrays_are_rows_with_fields_of_what_is_around_them() {
    let options = json!({
        "column": "document",
        "each": "stations.*.readings.*",
        "columns": {
            "site": "string", "station": { "type": "string", "from": "stations.*.name" },
            "metric": "string", "value": { "type": "float", "nullable": true },
            "nth": { "type": "integer", "from": "/stations/*/readings/*#" }
        },
        "rows": [{ "site": "{site}" }]
    });
    let document = json!({ "site": "plant", "stations": [
        { "name": "a", "readings": [{ "metric": "t", "value": 1.5 }, { "metric": "h" }] },
        { "name": "b", "readings": [] },
        { "name": "c", "readings": [{ "metric": "t", "value": null, "more": {} }] }
    ] });
    let none = json!({ "site": "empty", "stations": [] }).to_string();
    let (rows, rejected) = unnest(options, &[Some(&none), Some(&document.to_string())]);
    assert_eq!(
        (rows.as_slice(), rejected.len()),
        (["1 plant a t 1.5 0", "1 plant a h null 1", "1 plant c t null 0"].map(String::from).as_slice(), 0)
    );
}

#[test]
fn arrays_side_by_side_and_fields_of_an_object_are_rows() {
    let hours = json!({
        "column": "document", "each": "hourly.time.*",
        "columns": { "at": { "type": "timestamp", "from": "hourly.time.*" }, "value": { "type": "float", "from": "hourly.t.*" } }
    });
    let document =
        json!({ "hourly": { "time": ["2025-07-20T00:00", "2025-07-20T01:00"], "t": [20, 19.5] } }).to_string();
    let (rows, _) = unnest(hours.clone(), &[Some(&document)]);
    assert_eq!(rows, ["0 2025-07-20T00:00:00Z 20.0", "0 2025-07-20T01:00:00Z 19.5"]);
    let short = document.replace(",19.5", "");
    let why = "column `value` (from `hourly.t.1`) is missing, it must be a number (or `nullable: true`)";
    assert_eq!(unnest(hours, &[Some(&short)]).1, [(0, why.to_owned())]);

    let fields = json!({
        "column": "document", "each": "/*",
        "columns": { "sensor_id": { "type": "string", "from": "*#" }, "value": { "type": "float", "from": "/*" } }
    });
    let (rows, _) = unnest(fields, &[Some(r#"{"kitchen": 21, "attic": 30.5}"#)]);
    assert_eq!(rows, ["0 kitchen 21.0", "0 attic 30.5"]);
}

#[test]
fn a_document_that_does_not_fit_gives_no_row_and_says_why() {
    let deep = "[".repeat(100_000);
    let texts: [(&str, &str); 8] = [
        ("hello", "it is not JSON: expected value at line 1 column 1"),
        (&BERLIN[..60], "the JSON is cut off: EOF while parsing"),
        ("7", "it is the number `7`, a document must be an object or an array"),
        ("{}", "column `sensor_id` (from `name`) is missing, it must be text (or `nullable: true`)"),
        (
            r#"{"name": "Berlin", "main": {"temp": 1, "humidity": null, "pressure": 3}, "dt": 0}"#,
            "column `value` (from `main.humidity`) is null, it must be a number (or `nullable: true`)",
        ),
        (
            r#"{"name": "Berlin", "main": {"temp": "warm"}, "dt": 0}"#,
            "column `value` (from `main.temp`) is the text `warm`, it must be a number",
        ),
        (r#"{"cod": 1e999}"#, "it is not JSON: number out of range"),
        (&deep, "it is not JSON: recursion limit exceeded"),
    ];
    let given: Vec<Option<&str>> = [Some(BERLIN), None]
        .into_iter()
        .chain(texts.iter().map(|(text, _)| Some(*text)))
        .chain([Some(BERLIN)])
        .collect();
    let (rows, rejected) = unnest(weather(), &given);
    let numbers: Vec<&str> = rows.iter().map(|row| row.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "0", "0", "10", "10", "10"]);
    assert_eq!(rejected[0], (1, "it has no document".to_owned()));
    for ((row, why), (number, (_, expected))) in rejected[1..].iter().zip(texts.iter().enumerate()) {
        assert!(*row as usize == number + 2 && why.starts_with(expected), "{row} {why}");
    }
    assert_eq!(rejected.len(), 9);
}

#[test]
fn many_rows_are_given_in_batches_and_too_large_ones_are_refused() {
    let options = json!({
        "column": "document", "each": "list.*",
        "columns": { "name": { "type": "string", "from": "name" }, "value": { "type": "integer", "from": "list.*" } }
    });
    let list = |n: usize| (0..n).collect::<Vec<_>>();
    let large = json!({ "name": "x", "list": list(20_000) }).to_string();
    let huge = json!({ "name": "x".repeat(1 << 20), "list": list(100) }).to_string();
    let given = documents(&[Some(&large), Some(&huge), Some(&large)]);
    let (mut transform, mut out) = (build(options).unwrap(), Output::default());
    transform.process(0, &given, &mut out).unwrap();
    let outcome = out.take();
    let sizes: Vec<usize> = outcome.emitted.iter().map(|(batch, _)| batch.num_rows()).collect();
    assert_eq!(sizes, [8_192, 8_192, 3_616, 8_192, 8_192, 3_616]);
    assert_eq!(outcome.created, 2 * 19_999);
    assert_eq!(outcome.rejected, [(1, "its rows would take more than 64 MiB".to_owned())]);
}

/// Documents of all kinds: some with many rows, some with none, some that cannot be read.
fn many(seed: u64, count: usize) -> RecordBatch {
    let mut random = Random::new(seed);
    let texts: Vec<Option<String>> = (0..count)
        .map(|_| match random.below(10) {
            0 => None,
            1 => Some("{".into()),
            2 => Some(json!({ "name": "empty", "list": [] }).to_string()),
            3 => Some(json!({ "name": "cut", "list": [{ "v": 1 }, {}] }).to_string()),
            _ => {
                let list: Vec<Value> = (0..random.below(9)).map(|_| json!({ "v": random.fraction() })).collect();
                Some(json!({ "name": format!("s{}", random.below(5)), "list": list }).to_string())
            }
        })
        .collect();
    documents(&texts.iter().map(|text| text.as_deref()).collect::<Vec<_>>())
}

#[test]
fn obeys_the_laws() {
    let options = json!({
        "column": "document", "each": "list.*",
        "columns": { "name": { "type": "string", "from": "name" }, "v": "float", "unit": "string" },
        "rows": [{ "unit": "C" }, { "unit": "{name}!" }]
    });
    let evidence = laws_hold(&StageType::transform::<UnnestOptions>(), &options, &many(1, 2_000), Effort::Full);
    let evidence = evidence.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(5_000 < evidence.rows_out && 0 < evidence.resumed, "{evidence:?}");
}

#[test]
fn refuses_bad_options() {
    let with = |name: &str, value: Value| {
        let mut options = weather();
        options[name] = value;
        options
    };
    for (options, option, message) in [
        (with("column", json!("n")), "column", "column `n` holds no text, a document must be of type `string`"),
        (with("column", json!("doc")), "column", "there is no column `doc`; there is n (integer), document (string)"),
        (with("columns", json!({})), "columns", "`columns` names no column, it must name at least one"),
        (
            with("columns", json!({ "n": "float" })),
            "columns.n",
            "column `n` stands beside the document already, call this one otherwise",
        ),
        (
            with("columns", json!({ "x": "number" })),
            "columns.x",
            "column `x` cannot be read, it would be like `float` or `{ type: float, from: main.temp, nullable: true }`",
        ),
        (
            with("columns", json!({ "x": { "type": "float", "from": "a..b" } })),
            "columns.x.from",
            "`a..b` is no path, it would be like `main.temp` or `/main/temp`",
        ),
        (
            with("columns", json!({ "x": { "type": "float", "from": "a.*" } })),
            "columns.x.from",
            "`a.*` has more `*` than `each`, which they are to stand for",
        ),
        (with("each", json!("list")), "each", "`each` is `list`, it must have a `*` for the elements: `list.*`"),
        (with("each", json!("list.*#")), "each", "`each` is `list.*#`, it must lead to values, not to their names"),
        (with("rows", json!([])), "rows", "`rows` is empty, it must have at least one row"),
        (with("rows", json!([{}, { "valeu": 1 }])), "rows.1.valeu", "`valeu` is none of the `columns`"),
        (with("rows", json!([{ "value": "warm" }])), "rows.0.value", "column `value` is `warm`, it must be a number"),
        (
            with("rows", json!([{ "value": "{a.*}" }])),
            "rows.0.value",
            "`a.*` has more `*` than `each`, which they are to stand for",
        ),
    ] {
        let mut options = options;
        if ["columns.n", "columns.x", "columns.x.from"].contains(&option) {
            options.as_object_mut().unwrap().shift_remove("rows");
        }
        let error = build(options.clone()).err().unwrap_or_else(|| panic!("{options}"));
        assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
    }
}

#[test]
fn inputs_of_different_columns_are_refused() {
    let options = pipeline_stage::parse::<UnnestOptions>(weather()).unwrap();
    let other = Arc::new(Schema::new(vec![Field::new("document", DataType::Utf8, false)]));
    let inputs = [documents(&[]).schema(), other];
    let error = options.build(&stage_context(), &inputs, SavedState::default()).err().unwrap();
    assert!(error.to_string().starts_with("its inputs give different columns"), "{error}");
}
