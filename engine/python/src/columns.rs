//! Which columns may cross.

use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use pipeline_stage::{ColumnType, Result, StageError};

use crate::messages::Messages;

/// The schema that a plugin has sent, as the first of its messages.
pub fn schema_in(messages: &mut Messages, message: Option<Vec<u8>>) -> Result<SchemaRef> {
    let decoded = messages.decode(message.unwrap_or_default());
    decoded
        .map_err(|error| StageError::fatal("the Python process gave a schema that is none").because(error.chain()))?;
    messages.schema().ok_or_else(|| StageError::fatal("the Python process gave no schema"))
}

/// Dictionaries are messages of their own, which nobody has needed yet.
pub fn refuse_dictionaries(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| matches!(field.data_type(), DataType::Dictionary(..))) {
        None => Ok(()),
        Some(field) => Err(StageError::config(format!(
            "column `{}` is a {}, which stages in Python do not take",
            field.name(),
            field.data_type()
        ))),
    }
}

/// The columns that a plugin gives are those that a pipeline has.
pub fn check_columns(schema: &Arc<Schema>) -> Result<()> {
    for (number, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..number].iter().any(|other| other.name() == field.name()) {
            return Err(StageError::config(format!("`schema` gives two columns called `{}`", field.name())));
        }
        if ColumnType::of(field.data_type()).is_none() {
            return Err(StageError::config(format!(
                "`schema` gives a column `{}` of type {}, it must be string, int64, float64, bool_ or timestamp(\"us\", \"UTC\")",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(())
}
