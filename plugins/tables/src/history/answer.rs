//! The rows of an answer, as they become columns of Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use pipeline_stage::{Cell, ColumnType, PAGE_BYTES, Result, StageError, timestamp_type};

/// Takes rows value by value.
pub struct Answer {
    schema: SchemaRef,
    columns: Vec<Column>,
    text_bytes: usize,
}

enum Column {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Answer {
    /// Without rows. Any value may be null: a table that others have made may lack what the pipeline always has.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, ColumnType)>) -> Self {
        let columns: Vec<(&str, ColumnType)> = columns.into_iter().collect();
        let fields = columns.iter().map(|(name, column_type)| Field::new(*name, column_type.arrow(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = columns.iter().map(|(_, column_type)| Column::new(*column_type)).collect();
        Answer { schema, columns, text_bytes: 0 }
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The types of the columns.
    pub fn types(&self) -> Vec<ColumnType> {
        self.columns.iter().map(Column::column_type).collect()
    }

    /// The number of rows so far.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Column::len)
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when no further row is to be added: its texts are large.
    pub fn is_full(&self) -> bool {
        PAGE_BYTES <= self.text_bytes
    }

    /// Appends a value of the next row to a column; one that is not of the column's type is null.
    pub fn push(&mut self, column: usize, cell: Cell<'_>) {
        if let (Column::Text(_), Cell::Text(text)) = (&self.columns[column], &cell) {
            self.text_bytes += text.len();
        }
        match (&mut self.columns[column], cell) {
            (Column::Text(values), Cell::Text(text)) => values.append_value(text),
            (Column::Text(values), _) => values.append_null(),
            (Column::Integer(values), Cell::Integer(number)) => values.append_value(number),
            (Column::Integer(values), _) => values.append_null(),
            (Column::Float(values), Cell::Float(number)) => values.append_value(number),
            (Column::Float(values), Cell::Integer(number)) => values.append_value(number as f64),
            (Column::Float(values), _) => values.append_null(),
            (Column::Boolean(values), Cell::Boolean(is_true)) => values.append_value(is_true),
            (Column::Boolean(values), _) => values.append_null(),
            (Column::Time(values), Cell::Time(time)) => values.append_value(time.0),
            (Column::Time(values), _) => values.append_null(),
        }
    }

    /// All rows.
    pub fn finish(mut self) -> Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(Column::builder).map(ArrayBuilder::finish).collect();
        RecordBatch::try_new(self.schema, arrays)
            .map_err(|error| StageError::fatal("an answer has columns of several lengths").because(error))
    }
}

impl Column {
    fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::String => Column::Text(StringBuilder::new()),
            ColumnType::Integer => Column::Integer(Int64Builder::new()),
            ColumnType::Float => Column::Float(Float64Builder::new()),
            ColumnType::Boolean => Column::Boolean(BooleanBuilder::new()),
            ColumnType::Timestamp => Column::Time(TimestampMicrosecondBuilder::new().with_data_type(timestamp_type())),
        }
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Column::Text(_) => ColumnType::String,
            Column::Integer(_) => ColumnType::Integer,
            Column::Float(_) => ColumnType::Float,
            Column::Boolean(_) => ColumnType::Boolean,
            Column::Time(_) => ColumnType::Timestamp,
        }
    }

    fn len(&self) -> usize {
        match self {
            Column::Text(values) => values.len(),
            Column::Integer(values) => values.len(),
            Column::Float(values) => values.len(),
            Column::Boolean(values) => values.len(),
            Column::Time(values) => values.len(),
        }
    }

    fn builder(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            Column::Text(values) => values,
            Column::Integer(values) => values,
            Column::Float(values) => values,
            Column::Boolean(values) => values,
            Column::Time(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{Timestamp, row_to_json};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn values_of_other_types_are_null() {
        let types = [
            ("text", ColumnType::String),
            ("integer", ColumnType::Integer),
            ("float", ColumnType::Float),
            ("boolean", ColumnType::Boolean),
            ("time", ColumnType::Timestamp),
        ];
        let mut answer = Answer::new(types);
        assert!(answer.is_empty());
        for column in 0..types.len() {
            for cell in [
                Cell::Text("a"),
                Cell::Integer(1),
                Cell::Float(0.5),
                Cell::Boolean(true),
                Cell::Time(Timestamp(0)),
                Cell::Null,
            ] {
                answer.push(column, cell);
            }
        }
        assert_eq!((answer.len(), answer.types()), (6, types.map(|(_, column_type)| column_type).to_vec()));
        let rows = answer.finish().unwrap();
        let all: Vec<Value> = (0..6).map(|row| row_to_json(&rows, row).into()).collect();
        let none = json!({ "text": null, "integer": null, "float": null, "boolean": null, "time": null });
        for (row, expected) in all.iter().zip([
            json!({ "text": "a" }),
            json!({ "integer": 1, "float": 1.0 }),
            json!({ "float": 0.5 }),
            json!({ "boolean": true }),
            json!({ "time": "1970-01-01T00:00:00Z" }),
            json!({}),
        ]) {
            let mut whole = none.clone();
            whole.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(*row, whole);
        }
    }
}
