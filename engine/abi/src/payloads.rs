//! Payloads of a source, as columns: both sides know them by these names.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::timestamp_type;

/// The column of the payloads.
#[cfg(feature = "host")]
pub const PAYLOAD: usize = 0;
/// The column of the keys.
pub const KEY: usize = 1;
/// The column of the times.
pub const TIME: usize = 2;

/// Their names, in this order.
pub const NAMES: [&str; 3] = ["payload", "key", "time"];

/// All columns that payloads can have.
pub fn schema() -> SchemaRef {
    let types = [DataType::Binary, DataType::Binary, timestamp_type()];
    let fields = NAMES.into_iter().zip(types).map(|(name, of)| Field::new(name, of, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
