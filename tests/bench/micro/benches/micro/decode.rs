//! Payloads into columns: JSON and CSV, readings of 4 fields and of 20.

use arrow::array::Array;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pipeline_stage::{Column, ColumnType, Format, FormatContext, Kind, Make, RawRows, Zone};
use pipeline_testkit::Random;

use crate::rows::{ROWS, column, columns, reading};

/// How alike the payloads of a topic are.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// The fields of each stand in the same order.
    SameOrder,
    /// The fields of each stand in an order of their own.
    AnyOrder,
    /// Each has one more field, of a name that no other one has: only the JSON parser can read it.
    NewName,
}

const SHAPES: [Shape; 3] = [Shape::SameOrder, Shape::AnyOrder, Shape::NewName];

#[divan::bench(args = SHAPES)]
fn json(bencher: Bencher<'_, '_>, shape: Shape) {
    decode(bencher, "json", columns(), payloads(shape, reading));
}

#[divan::bench(args = SHAPES)]
fn json_20_fields(bencher: Bencher<'_, '_>, shape: Shape) {
    decode(bencher, "json", wide_columns(), payloads(shape, wide_reading));
}

#[divan::bench]
fn csv(bencher: Bencher<'_, '_>) {
    decode(bencher, "csv", columns(), records(reading));
}

#[divan::bench]
fn csv_20_fields(bencher: Bencher<'_, '_>) {
    decode(bencher, "csv", wide_columns(), records(wide_reading));
}

fn decode(bencher: Bencher<'_, '_>, name: &str, columns: Vec<Column>, raw: RawRows) {
    let mut format = format(name, columns);
    let offsets: Vec<u64> = (0..raw.payloads.len() as u64).collect();
    let first = format.decode(&raw, &offsets).expect("the header is right");
    assert_eq!((first.batch.num_rows(), first.rejected), (ROWS, vec![]));
    let n_bytes = raw.payloads.values().len();
    let bencher = bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::new(n_bytes));
    bencher.bench_local(|| format.decode(&raw, &offsets));
}

/// The format of this name, as a pipeline has it.
fn format(name: &str, columns: Vec<Column>) -> Box<dyn Format> {
    let mut stages = pipeline_builtin::stages().into_iter();
    let stage = stages.find(|stage| stage.kind == Kind::Format && stage.name == name).expect("it is built in");
    let Make::Format(make) = &stage.make else { panic!("it is a format") };
    make(serde_json::json!({}), FormatContext { columns, zone: Zone::Utc }).expect("it needs no options")
}

/// The fields of a row with their values as JSON.
type MakeRow = fn(usize, &mut Random) -> Vec<(String, String)>;

fn payloads(shape: Shape, make: MakeRow) -> RawRows {
    let mut random = Random::new(3);
    let payload = |row| {
        let mut fields = make(row, &mut random);
        match shape {
            Shape::SameOrder => {}
            Shape::AnyOrder => shuffle(&mut fields, &mut random),
            Shape::NewName => fields.insert(0, (format!("of_{row}"), "1".into())),
        }
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    };
    RawRows::of_payloads((0..ROWS).map(payload).collect())
}

fn shuffle(fields: &mut [(String, String)], random: &mut Random) {
    for last in (1..fields.len()).rev() {
        fields.swap(last, random.below(last + 1));
    }
}

fn records(make: MakeRow) -> RawRows {
    let mut random = Random::new(3);
    let rows: Vec<_> = (0..ROWS).map(|row| make(row, &mut random)).collect();
    let line = |cells: Vec<&str>| cells.join(",");
    let header = line(rows[0].iter().map(|(name, _)| name.as_str()).collect());
    let records = rows.iter().map(|fields| line(fields.iter().map(|(_, value)| value.trim_matches('"')).collect()));
    RawRows { header: Some(header.into_bytes().into()), ..RawRows::of_payloads(records.collect::<Vec<_>>()) }
}

/// What a machine says beside its reading.
const WIDE: [(&str, ColumnType); 16] = [
    ("site_of_the_machine", ColumnType::String),
    ("line_in_the_plant", ColumnType::String),
    ("name_of_the_product", ColumnType::String),
    ("number_of_the_batch", ColumnType::Integer),
    ("pressure_before_the_valve", ColumnType::Float),
    ("pressure_behind_the_valve", ColumnType::Float),
    ("speed_of_the_first_drive", ColumnType::Float),
    ("speed_of_the_second_drive", ColumnType::Float),
    ("pieces_since_the_last_stop", ColumnType::Integer),
    ("pieces_since_maintenance", ColumnType::Integer),
    ("is_under_maintenance", ColumnType::Boolean),
    ("is_supervised_by_a_person", ColumnType::Boolean),
    ("state_of_the_controller", ColumnType::String),
    ("version_of_the_firmware", ColumnType::String),
    ("measured_by_the_gateway_at", ColumnType::Timestamp),
    ("temperature_of_the_cabinet", ColumnType::Float),
];

fn wide_columns() -> Vec<Column> {
    let more = WIDE.iter().map(|(name, column_type)| column(name, *column_type));
    columns().into_iter().chain(more).collect()
}

fn wide_reading(row: usize, random: &mut Random) -> Vec<(String, String)> {
    let mut fields = reading(row, random);
    let time = fields[3].1.clone();
    fields.extend(WIDE.iter().map(|(name, column_type)| {
        let value = match column_type {
            ColumnType::String => format!("\"{name} {:010}\"", random.below(1 << 30)),
            ColumnType::Integer => random.below(1 << 40).to_string(),
            ColumnType::Float => format!("{:.6}", 1_000.0 * random.fraction()),
            ColumnType::Boolean => random.once_in(2).to_string(),
            ColumnType::Timestamp => time.clone(),
        };
        ((*name).into(), value)
    }));
    fields
}
