//! A page of rows: those with a value in the column that sorts them, then those without.
//!
//! Two questions, because databases disagree about where nulls belong, and an index serves only its own order.

use pipeline_stage::{Page, Result, Selection};

use super::Parameter;
use super::question::{Columns, Question, from_where};

/// Where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct After {
    /// None: among the rows without a value.
    pub value: Option<Parameter>,
    /// How many rows with that value were given.
    pub given: u64,
}

/// The rows that have a value.
pub fn of_values(columns: Columns<'_>, rows: &Selection, page: &Page, after: Option<After>) -> Result<Question> {
    let mut question = Question::default();
    let (_, by) = columns.find(&page.by)?;
    let mut conditions = columns.conditions(rows, &mut question)?;
    let (order, from_there_on) = if page.descending { ("DESC", "<=") } else { ("ASC", ">=") };
    let mut given = 0;
    match after {
        Some(After { value: Some(value), given: already }) => {
            // Those given are counted once more: there may be thousands of rows of one time.
            conditions.push(format!("{} {from_there_on} {}", by.key, question.bind_for(by, value)));
            given = already;
        }
        _ if by.is_nullable => conditions.push(format!("{} IS NOT NULL", by.key)),
        _ => {}
    }
    let limit = question.limit(page.limit);
    let given = question.bind_count(given);
    question.sql = format!(
        "SELECT {}{} ORDER BY {} {order}, {}{limit} OFFSET {given}",
        values(columns),
        from_where(columns.table, &conditions),
        by.key,
        columns.table.ties,
    );
    Ok(question)
}

/// The rows that have none, after so many of them; no question when there can be no such row.
pub fn of_nulls(columns: Columns<'_>, rows: &Selection, by: &str, given: u64, limit: u32) -> Result<Option<Question>> {
    let mut question = Question::default();
    let (_, form) = columns.find(by)?;
    let is_bounded =
        matches!(&rows.time, Some((name, from, until)) if name == by && (from.is_some() || until.is_some()));
    if !form.is_nullable || is_bounded {
        return Ok(None);
    }
    let mut conditions = columns.conditions(rows, &mut question)?;
    conditions.push(format!("{} IS NULL", form.key));
    let limit = question.limit(limit);
    let given = question.bind_count(given);
    question.sql = format!(
        "SELECT {}{} ORDER BY {}{limit} OFFSET {given}",
        values(columns),
        from_where(columns.table, &conditions),
        columns.table.ties,
    );
    Ok(Some(question))
}

/// All columns; a column that the table lacks has no value in any row.
fn values(columns: Columns<'_>) -> String {
    let forms = columns.table.forms.iter();
    let values = forms.map(|form| form.as_ref().map_or("NULL".into(), |form| form.value_of(&form.key)));
    values.collect::<Vec<String>>().join(", ")
}
