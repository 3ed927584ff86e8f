//! A key's bytes as text for people.

use crate::position::Timestamp;
use crate::rows::ColumnType;

/// The values of a key that [`KeyColumns`](super::KeyColumns) made of columns of these types, as text; `null` for null.
/// None if it was made of others.
pub fn read_key(mut key: &[u8], types: &[ColumnType]) -> Option<Vec<String>> {
    let mut values = Vec::with_capacity(types.len());
    for column_type in types {
        let (flag, rest) = key.split_first()?;
        key = rest;
        values.push(match (flag, column_type) {
            (0, _) => "null".to_owned(),
            (1, ColumnType::String) => {
                let (length, rest) = key.split_first_chunk::<4>()?;
                let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                key = rest;
                std::str::from_utf8(text).ok()?.to_owned()
            }
            (1, _) => {
                let (bits, rest) = key.split_first_chunk::<8>()?;
                key = rest;
                of_bits(u64::from_le_bytes(*bits), *column_type)?
            }
            _ => return None,
        });
    }
    key.is_empty().then_some(values)
}

fn of_bits(bits: u64, column_type: ColumnType) -> Option<String> {
    Some(match column_type {
        ColumnType::Integer => (bits as i64).to_string(),
        ColumnType::Float => f64::from_bits(bits).to_string(),
        ColumnType::Timestamp => Timestamp(bits as i64).to_rfc3339(),
        ColumnType::Boolean if bits <= 1 => (bits == 1).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
    use arrow_schema::{Field, Schema};

    use super::*;
    use crate::keyed::KeyColumns;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let columns: Vec<(&str, ColumnType, ArrayRef)> = vec![
            ("a", ColumnType::String, Arc::new(StringArray::from(vec![Some("sensor, 4"), Some(""), None]))),
            ("b", ColumnType::Integer, Arc::new(Int64Array::from(vec![-3, 0, 7]))),
            ("c", ColumnType::Float, Arc::new(Float64Array::from(vec![1.5, -0.0, f64::INFINITY]))),
            ("d", ColumnType::Boolean, Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ];
        let types: Vec<ColumnType> = columns.iter().map(|(_, of, _)| *of).collect();
        let fields: Vec<Field> = columns.iter().map(|(name, of, _)| Field::new(*name, of.arrow(), true)).collect();
        let names: Vec<String> = columns.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let schema = Schema::new(fields);
        let keys = KeyColumns::new(&names, &schema, "key").unwrap();
        let arrays = columns.into_iter().map(|(.., array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(schema), arrays).unwrap();
        let expected = [["sensor, 4", "-3", "1.5", "true"], ["", "0", "0", "false"], ["null", "7", "inf", "null"]];
        let keys = keys.keys(&batch);
        for (row, expected) in expected.iter().enumerate() {
            let key = keys.key(row);
            assert_eq!(read_key(key, &types).unwrap(), expected);
            assert_eq!(read_key(key, &types[..3]), None, "there is more than three columns");
            assert_eq!(read_key(&key[..key.len() - 1], &types), None, "it is cut off");
        }
    }
}
