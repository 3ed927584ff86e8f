//! Whether the columns of a table can take what is written, and in which form they take it.

use pipeline_stage::ColumnType;
use pipeline_tables::WrittenColumn;

use crate::database::quoted;
use crate::table::{Table, TableColumn};

/// A column of the rows with the column of the table it goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The column's place in the rows.
    pub position: usize,
    /// What it is called in the table.
    pub name: String,
    /// How its values are written.
    pub form: Form,
    /// The number of the type of its values.
    pub type_oid: u32,
    /// The number of the type of arrays of them.
    pub array_oid: u32,
    /// Whether every row must have a value.
    pub is_not_null: bool,
}

/// The binary form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8, at most so many characters.
    Text {
        /// None when the type has no limit.
        limit: Option<usize>,
    },
    /// A version byte and UTF-8.
    Jsonb,
    /// A number of 16 bits.
    Int2,
    /// A number of 32 bits.
    Int4,
    /// A number of 64 bits.
    Int8,
    /// A floating-point number of 32 bits.
    Float4,
    /// A floating-point number of 64 bits.
    Float8,
    /// Decimal digits.
    Numeric,
    /// One byte.
    Boolean,
    /// Microseconds since 2000.
    Time,
}

/// The type that a column gets in a table that is made.
pub fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::String => "text",
        ColumnType::Integer => "bigint",
        ColumnType::Float => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Timestamp => "timestamptz",
    }
}

/// How the table takes each column that is written; or all that is wrong with it, each with what would be right.
pub fn fit(table: &Table, written: &[WrittenColumn]) -> Result<Vec<Target>, Vec<String>> {
    let mut targets = Vec::new();
    let mut problems = Vec::new();
    for column in written {
        match target(table, column) {
            Ok(target) => targets.push(target),
            Err(problem) => problems.push(problem),
        }
    }
    for column in &table.columns {
        let is_written = written.iter().any(|written| written.name == column.name);
        if column.is_not_null && !column.has_default && !column.is_generated && !is_written {
            problems.push(format!(
                "column `{}` must have a value and nothing is written into it; write it, or ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL",
                column.name, table.name, quoted(&column.name)
            ));
        }
    }
    if problems.is_empty() { Ok(targets) } else { Err(problems) }
}

fn target(table: &Table, written: &WrittenColumn) -> Result<Target, String> {
    let name = &written.name;
    let expected = sql_type(written.column_type);
    let alter = format!("ALTER TABLE {}", table.name);
    let Some(column) = table.columns.iter().find(|column| column.name == *name) else {
        return Err(format!(
            "there is no column `{name}`; ALTER TABLE {} ADD COLUMN {} {expected}",
            table.name,
            quoted(name)
        ));
    };
    if column.is_generated {
        return Err(format!(
            "column `{name}` is computed by PostgreSQL and cannot be written; leave it out of `columns`"
        ));
    }
    let Some(form) = form(written.column_type, column) else {
        return Err(format!(
            "column `{name}` is {}, expected {expected}; {alter} ALTER COLUMN {column} TYPE {expected} USING {column}::{expected}",
            column.type_name,
            column = quoted(name)
        ));
    };
    if !column.may_write {
        return Err(format!(
            "column `{name}` may not be written by this user; GRANT INSERT ON {} TO the user",
            table.name
        ));
    }
    Ok(Target {
        position: written.position,
        name: name.clone(),
        form,
        type_oid: column.type_oid,
        array_oid: column.array_oid,
        is_not_null: column.is_not_null,
    })
}

/// None when values of this type cannot be in such a column without becoming others.
fn form(column_type: ColumnType, column: &TableColumn) -> Option<Form> {
    let limit = usize::try_from(column.modifier - 4).ok();
    Some(match (column_type, column.plain_type.as_str()) {
        (ColumnType::String, "text" | "json" | "citext") => Form::Text { limit: None },
        (ColumnType::String, "varchar" | "bpchar") => Form::Text { limit },
        (ColumnType::String, "jsonb") => Form::Jsonb,
        (ColumnType::String, _) if column.is_enum => Form::Text { limit: None },
        (ColumnType::Integer, "int2") => Form::Int2,
        (ColumnType::Integer, "int4") => Form::Int4,
        (ColumnType::Integer, "int8") => Form::Int8,
        (ColumnType::Float, "float4") => Form::Float4,
        (ColumnType::Integer | ColumnType::Float, "float8") => Form::Float8,
        (ColumnType::Integer | ColumnType::Float, "numeric") => Form::Numeric,
        (ColumnType::Boolean, "bool") => Form::Boolean,
        (ColumnType::Timestamp, "timestamptz" | "timestamp") => Form::Time,
        _ => return None,
    })
}
