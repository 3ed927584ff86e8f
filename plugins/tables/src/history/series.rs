//! Questions about series: which there are, and one of them in few points.

use pipeline_stage::{Result, Selection, StageError, Timestamp};
use serde_json::Value;

use super::question::{Columns, Question, at_least, below, from_where};
use super::value::parameter;
use super::{Database, Form, HistoryColumn, Parameter};

/// The time of a picture, cut into equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub until: Timestamp,
    /// In microseconds.
    pub width: i64,
}

/// Times beyond this many microseconds before or after 1970 are no times of any database; up to here, a difference of
/// two of them is a number of 64 bits.
const LAST_TIME: i64 = 1 << 62;

impl Parts {
    /// At most `points` parts; none when there is no time between the two.
    ///
    /// # Errors
    /// Of kind `Config` when no part is wanted.
    pub fn new(from: Timestamp, until: Timestamp, points: u32) -> Result<Option<Self>> {
        if points == 0 {
            return Err(StageError::config("`points` is 0, it must be at least 1"));
        }
        let from = from.0.clamp(-LAST_TIME, LAST_TIME);
        let until = until.0.clamp(-LAST_TIME, LAST_TIME);
        if until <= from {
            return Ok(None);
        }
        // Rounded up, so that there is not one part more.
        let width = (until - from - 1) / i64::from(points) + 1;
        Ok(Some(Parts { from: Timestamp(from), until: Timestamp(until), width }))
    }

    /// When a part begins.
    pub fn begin(self, part: i64) -> Timestamp {
        Timestamp(self.from.0.saturating_add(part.saturating_mul(self.width)))
    }
}

/// For each part that has rows with a value: its number, and count, least, greatest and mean of the values.
pub fn summary(
    database: &dyn Database,
    columns: Columns<'_>,
    rows: &Selection,
    value: &str,
    parts: Parts,
) -> Result<Question> {
    let mut question = Question::default();
    let (_, value) = columns.find(value)?;
    let (_, time) = columns.find(time_column(rows)?)?;
    let from = question.bind(Parameter::Integer(parts.from.0));
    let width = question.bind(Parameter::Integer(parts.width));
    let part = format!("({} - {from}) / {width}", database.micros(&time.key));
    let mut conditions = columns.conditions(rows, &mut question)?;
    conditions.push(at_least(time, parts.from, &mut question));
    conditions.push(below(time, parts.until, &mut question));
    conditions.push(format!("{} IS NOT NULL", value.key));
    let number = value.value_of(&value.key);
    question.sql = format!(
        "SELECT {part}, count(*), min({number}), max({number}), avg({number}){} GROUP BY 1 ORDER BY 1",
        from_where(columns.table, &conditions)
    );
    Ok(question)
}

/// The column of times by which a summary is made.
///
/// # Errors
/// Of kind `Config` when the selection names none.
pub fn time_column(rows: &Selection) -> Result<&str> {
    match &rows.time {
        Some((name, _, _)) => Ok(name),
        None => Err(StageError::config("a summary needs the column of times, it must be named in `time`")),
    }
}

/// Which combinations are meant.
pub struct Combinations<'a> {
    /// Of the values of these columns.
    pub columns: &'a [String],
    /// The first one's text begins so.
    pub prefix: &'a str,
    /// They come after these values; checked before.
    pub after: Option<&'a [Value]>,
    /// At most so many.
    pub limit: u32,
}

impl Combinations<'_> {
    /// The values of `after`; none when there is no `after`.
    ///
    /// # Errors
    /// Of kind `Config` when they are not one for each column, of its type.
    pub fn after(&self, columns: &[&HistoryColumn]) -> Result<Option<Vec<Parameter>>> {
        let Some(values) = self.after else { return Ok(None) };
        if values.len() != columns.len() {
            let message = format!("`after` has {} values, expected {}", values.len(), columns.len());
            return Err(StageError::config(message));
        }
        let values = columns.iter().zip(values).map(|(column, value)| {
            let null = || StageError::config(format!("`after` has no value for column `{}`", column.name));
            parameter(column, value)?.ok_or_else(null)
        });
        values.collect::<Result<Vec<_>>>().map(Some)
    }
}

/// The combinations, sorted: along an index if one begins with the columns, else by looking at every row.
pub fn distinct(database: &dyn Database, columns: Columns<'_>, wanted: &Combinations<'_>) -> Result<Question> {
    let mut question = Question::default();
    let found = wanted.columns.iter().map(|name| columns.find(name)).collect::<Result<Vec<_>>>()?;
    let (of, forms): (Vec<&HistoryColumn>, Vec<&Form>) = found.into_iter().unzip();
    let keys: Vec<String> = forms.iter().map(|form| form.key.clone()).collect();
    let mut begin: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
    if let Some(values) = wanted.after(&of)? {
        let values = forms.iter().zip(values).map(|(form, value)| question.bind_for(form, value));
        begin.push(format!("({}) > ({})", keys.join(", "), values.collect::<Vec<_>>().join(", ")));
    }
    let walk = match is_indexed(columns, &of, &forms) {
        true => format!("WITH RECURSIVE {}", database.walk(&columns.table.name, &keys, &begin.join(" AND "))),
        false => {
            let named = keys.iter().enumerate().map(|(i, key)| format!("{key} AS c{i}")).collect::<Vec<_>>();
            let all = from_where(columns.table, &begin);
            format!("WITH walk AS (SELECT DISTINCT {}{all})", named.join(", "))
        }
    };
    let values: Vec<String> = forms.iter().enumerate().map(|(i, form)| form.value_of(&format!("c{i}"))).collect();
    let prefix = match wanted.prefix {
        "" => String::new(),
        prefix => {
            let prefix = question.bind(Parameter::Text(prefix.into()));
            format!(" WHERE {}", database.starts_with(&values[0], &prefix))
        }
    };
    let order = (0..keys.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    // A walk is in order, and ends as soon as there are enough; to be sorted, it would have to be gone to its end.
    let sorted = if walk.starts_with("WITH RECURSIVE") { String::new() } else { format!(" ORDER BY {order}") };
    let limit = question.limit(wanted.limit);
    question.sql = format!("{walk} SELECT {} FROM walk{prefix}{sorted}{limit}", values.join(", "));
    Ok(question)
}

/// Whether an index begins with the columns, in their order.
fn is_indexed(columns: Columns<'_>, of: &[&HistoryColumn], forms: &[&Form]) -> bool {
    let begins_so = |index: &Vec<String>| {
        of.len() <= index.len() && of.iter().zip(index).all(|(column, indexed)| column.table_name == *indexed)
    };
    forms.iter().all(|form| form.is_plain) && columns.table.indexes.iter().any(begins_so)
}
