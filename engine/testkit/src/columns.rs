//! The columns that the examples of stages are built on.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use pipeline_stage::{Column, ColumnFrom, ColumnType, StageType};
use serde::Deserialize;
use serde_json::Value;

use crate::check::read_yaml;
use crate::readings::reading_schema;

/// What examples of transforms may count on instead of the columns of readings: a text column `document`.
pub fn documents() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("document", DataType::Utf8, true)]))
}

/// The columns that the example of a format declares; those of readings when it declares none that can be read.
pub fn example_columns(stage: &StageType) -> Vec<Column> {
    declared(&stage.example).unwrap_or_else(of_readings)
}

fn declared(example: &str) -> Option<Vec<Column>> {
    let example = read_yaml(example).ok()?;
    let source = example.as_object()?.values().next()?;
    let column = |(name, value): (&String, &Value)| {
        let of_type = value.get("type").unwrap_or(value);
        Some(Column {
            name: name.clone(),
            column_type: ColumnType::deserialize(of_type).ok()?,
            nullable: value.get("nullable").and_then(Value::as_bool).unwrap_or(false),
            from: match value.get("from").and_then(Value::as_str) {
                Some(path) => ColumnFrom::Field(path.split('.').map(str::to_owned).collect()),
                None => ColumnFrom::Field(vec![name.clone()]),
            },
        })
    };
    source.get("schema")?.as_object()?.iter().map(column).collect()
}

fn of_readings() -> Vec<Column> {
    let column = |field: &FieldRef| Column {
        name: field.name().clone(),
        column_type: ColumnType::of(field.data_type()).expect("readings have types that columns may have"),
        nullable: field.is_nullable(),
        from: ColumnFrom::Field(vec![field.name().clone()]),
    };
    reading_schema().fields().iter().map(column).collect()
}
