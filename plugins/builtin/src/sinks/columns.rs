//! The option `columns` of sinks: which columns are written, and in which order.

use arrow::datatypes::Schema;
use pipeline_stage::keyed::find_column;
use pipeline_stage::{Result, StageError};

/// The positions of the named columns; of all when none are named.
///
/// # Errors
/// Of kind `Config`, at the option's entry, for a column that is not there or is named twice.
pub fn choose(names: Option<&[String]>, schema: &Schema) -> Result<Vec<usize>> {
    let Some(names) = names else { return Ok((0..schema.fields().len()).collect()) };
    if names.is_empty() {
        return Err(StageError::config("`columns` is empty, it would name at least one").at_option("columns"));
    }
    let mut chosen = Vec::new();
    for (idx, name) in names.iter().enumerate() {
        let option = format!("columns.{idx}");
        let column = find_column(schema, name).map_err(|error| error.at_option(option.clone()))?;
        if chosen.contains(&column) {
            return Err(StageError::config(format!("`columns` names `{name}` twice")).at_option(option));
        }
        chosen.push(column);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn columns_come_in_the_order_they_are_named() {
        let schema = Schema::new(["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, true)).to_vec());
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(choose(None, &schema).unwrap(), [0, 1, 2]);
        assert_eq!(choose(Some(&names(&["c", "a"])), &schema).unwrap(), [2, 0]);
        for (wrong, option) in
            [(names(&[]), "columns"), (names(&["a", "x"]), "columns.1"), (names(&["a", "a"]), "columns.1")]
        {
            assert_eq!(choose(Some(&wrong), &schema).unwrap_err().option(), Some(option), "{wrong:?}");
        }
    }
}
