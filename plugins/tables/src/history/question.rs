//! SQL made of a question: its conditions, and the parameters that stand in it.

use pipeline_stage::{ColumnType, Result, Selection, StageError, Timestamp};
use serde_json::Value;

use super::value::parameter;
use super::{Form, HistoryColumn, Parameter, Table};

/// SQL with the values of its parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// What is asked. Names in it are quoted.
    pub sql: String,
    /// The values of `$1`, `$2` and so on.
    pub parameters: Vec<Parameter>,
}

impl Question {
    /// Takes a value; gives the parameter that stands for it.
    pub fn bind(&mut self, value: Parameter) -> String {
        self.parameters.push(value);
        format!("${}", self.parameters.len())
    }

    /// As [`bind`](Self::bind), for a comparison with the key of a column.
    pub fn bind_for(&mut self, form: &Form, value: Parameter) -> String {
        form.parameter.replace("{}", &self.bind(value))
    }

    /// As [`bind`](Self::bind), for a number of rows.
    pub fn bind_count(&mut self, count: u64) -> String {
        self.bind(Parameter::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// ` LIMIT $n`.
    pub fn limit(&mut self, limit: u32) -> String {
        format!(" LIMIT {}", self.bind_count(limit.into()))
    }
}

/// The columns that can be asked for, in the table as it is.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub all: &'a [HistoryColumn],
    pub table: &'a Table,
}

impl<'a> Columns<'a> {
    /// A column with the form that it has in the table.
    ///
    /// # Errors
    /// Of kind `Config` when the table lacks it.
    pub fn find(self, name: &str) -> Result<(&'a HistoryColumn, &'a Form)> {
        let position = position(self.all, name)?;
        let form = self.table.forms[position].as_ref().ok_or_else(|| {
            let column = &self.all[position].table_name;
            StageError::config(format!("the table has no column `{column}`"))
        })?;
        Ok((&self.all[position], form))
    }

    /// The conditions of a selection, for after `WHERE`.
    pub fn conditions(self, rows: &Selection, question: &mut Question) -> Result<Vec<String>> {
        let mut conditions = Vec::new();
        for (name, value) in &rows.equal {
            conditions.push(self.equal(name, value, question)?);
        }
        if let Some((name, from, until)) = &rows.time {
            let (_, form) = self.find(name)?;
            conditions.extend(from.map(|from| at_least(form, from, question)));
            conditions.extend(until.map(|until| below(form, until, question)));
        }
        if let Some(name) = &rows.only {
            let (_, form) = self.find(name)?;
            let is_true = question.bind_for(form, Parameter::Boolean(true));
            conditions.push(format!("{} = {is_true}", form.key));
        }
        Ok(conditions)
    }

    fn equal(self, name: &str, value: &Value, question: &mut Question) -> Result<String> {
        let (column, form) = self.find(name)?;
        Ok(match parameter(column, value)? {
            Some(value) => format!("{} = {}", form.key, question.bind_for(form, value)),
            None => format!("{} IS NULL", form.key),
        })
    }
}

/// Times not before `from`.
pub fn at_least(form: &Form, from: Timestamp, question: &mut Question) -> String {
    format!("{} >= {}", form.key, question.bind_for(form, Parameter::Time(from)))
}

/// Times before `until`.
pub fn below(form: &Form, until: Timestamp, question: &mut Question) -> String {
    format!("{} < {}", form.key, question.bind_for(form, Parameter::Time(until)))
}

/// `… FROM t WHERE …`, whatever stands before and after.
pub fn from_where(table: &Table, conditions: &[String]) -> String {
    match conditions {
        [] => format!(" FROM {} AS t", table.name),
        conditions => format!(" FROM {} AS t WHERE {}", table.name, conditions.join(" AND ")),
    }
}

/// The place of a column among those that can be asked for.
///
/// # Errors
/// Of kind `Config` when it is not written.
pub fn position(columns: &[HistoryColumn], name: &str) -> Result<usize> {
    columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        StageError::config(format!("column `{name}` is not written into the table; there is {}", names.join(", ")))
    })
}

/// Checks what can be checked without the table: a question about a missing table is as wrong as about another one.
pub fn check(columns: &[HistoryColumn], rows: &Selection) -> Result<()> {
    for (name, value) in &rows.equal {
        parameter(&columns[position(columns, name)?], value)?;
    }
    if let Some((name, _, _)) = &rows.time {
        expect_type(columns, name, &[ColumnType::Timestamp])?;
    }
    if let Some(name) = &rows.only {
        expect_type(columns, name, &[ColumnType::Boolean])?;
    }
    Ok(())
}

/// Checks that a column has one of these types.
pub fn expect_type(columns: &[HistoryColumn], name: &str, expected: &[ColumnType]) -> Result<()> {
    let found = columns[position(columns, name)?].column_type;
    if expected.contains(&found) {
        return Ok(());
    }
    let names: Vec<&str> = expected.iter().map(|column_type| column_type.name()).collect();
    Err(StageError::config(format!("column `{name}` is {}, expected {}", found.name(), names.join(" or "))))
}
