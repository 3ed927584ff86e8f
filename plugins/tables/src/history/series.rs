//! Questions about series: which there are, and one of them in few points.

use pipeline_stage::{Result, Selection, StageError, Timestamp};
use serde_json::Value;

use super::question::{Columns, Question, at_least, below, from_where, position};
use super::value::parameter;
use super::{Cut, Database, Form, HistoryColumn, Parameter, Summary};

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
const LAST_TIME: i64 = 1 << 61;

/// More than any screen shows; databases take some ten thousand parameters.
const MAX_POINTS: u32 = 10_000;

impl Parts {
    /// At most `points` parts; none when there is no time between the two.
    ///
    /// # Errors
    /// Of kind `Config` when none or too many are wanted.
    pub fn new(from: Timestamp, until: Timestamp, points: u32) -> Result<Option<Self>> {
        if !(1..=MAX_POINTS).contains(&points) {
            return Err(StageError::config(format!("`points` is {points}, expected 1 to {MAX_POINTS}")));
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

    /// How many there are.
    fn count(self) -> i64 {
        (self.until.0 - self.from.0 - 1) / self.width + 1
    }

    /// When a part begins; of the one after the last, when the last one ends.
    pub fn begin(self, part: i64) -> Timestamp {
        Timestamp(self.from.0.saturating_add(part.saturating_mul(self.width)).min(self.until.0))
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
    let (time_column, time) = columns.find(time_column(rows)?)?;
    let mut conditions = columns.conditions(rows, &mut question)?;
    conditions.push(format!("{} IS NOT NULL", value.key));
    let number = format!("CAST({} AS double precision)", value.value_of(&value.key));
    let computed = format!("count(*), min({number}), max({number}), sum({number}) / count(*)");
    let summary = |conditions: &[String]| Summary {
        table: &columns.table.name,
        conditions: conditions.join(" AND "),
        time: &time.key,
        computed,
    };
    question.sql = match is_found_by_index(columns, rows, time_column)? {
        true => database.summary_by_index(&summary(&conditions), &values_of(parts, time, &mut question)),
        false => {
            conditions.push(at_least(time, parts.from, &mut question));
            conditions.push(below(time, parts.until, &mut question));
            let mut bind = |number| question.bind(Parameter::Integer(number));
            let cut = Cut { from: bind(parts.from.0), width: bind(parts.width), last: bind(parts.count() - 1) };
            database.summary_by_row(&summary(&conditions), &cut)
        }
    };
    Ok(question)
}

/// `(0, $1, $2), (1, $2, $3)`: the parts with their begin and end.
fn values_of(parts: Parts, time: &Form, question: &mut Question) -> String {
    let mut values = Vec::new();
    let mut begin = question.bind_for(time, Parameter::Time(parts.begin(0)));
    for part in 0..parts.count() {
        let end = question.bind_for(time, Parameter::Time(parts.begin(part + 1)));
        values.push(format!("({part}, {begin}, {end})"));
        begin = end;
    }
    values.join(", ")
}

/// Whether an index leads to the rows of a part: it begins with the columns that have a value, in any order, and then
/// has the times.
fn is_found_by_index(columns: Columns<'_>, rows: &Selection, time: &HistoryColumn) -> Result<bool> {
    let mut equal = Vec::with_capacity(rows.equal.len());
    for (name, _) in &rows.equal {
        let (column, form) = columns.find(name)?;
        if !form.is_plain {
            return Ok(false);
        }
        equal.push(&column.table_name);
    }
    equal.sort();
    equal.dedup();
    let (_, form) = columns.find(&time.name)?;
    let leads_there = |index: &Vec<String>| {
        let Some((first, rest)) = index.split_at_checked(equal.len()) else { return false };
        rest.first() == Some(&time.table_name) && equal.iter().all(|name| first.contains(name))
    };
    Ok(form.is_plain && columns.table.indexes.iter().any(leads_there))
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
    /// They come after these values.
    pub after: Option<&'a [Value]>,
    /// At most so many.
    pub limit: u32,
}

impl Combinations<'_> {
    /// Checks what can be checked without the table.
    pub fn check(&self, all: &[HistoryColumn]) -> Result<()> {
        let columns = self.columns.iter().map(|name| Ok(&all[position(all, name)?])).collect::<Result<Vec<_>>>()?;
        self.after(&columns).map(drop)
    }

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
    let after: Option<Vec<String>> = wanted
        .after(&of)?
        .map(|values| forms.iter().zip(values).map(|(form, value)| question.bind_for(form, value)).collect());
    let is_indexed = is_indexed(columns, &of, &forms);
    let walk = match is_indexed {
        true => format!("WITH RECURSIVE {}", database.walk(columns.table, &keys, after.as_deref())),
        false => {
            let mut conditions: Vec<String> = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
            conditions.extend(after.map(|after| format!("({}) > ({})", keys.join(", "), after.join(", "))));
            let named = keys.iter().enumerate().map(|(i, key)| format!("{key} AS c{i}")).collect::<Vec<_>>();
            format!("WITH walk AS (SELECT DISTINCT {}{})", named.join(", "), from_where(columns.table, &conditions))
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
    let sorted = if is_indexed { String::new() } else { format!(" ORDER BY {order}") };
    let limit = question.limit(wanted.limit);
    question.sql = format!("{walk} SELECT {} FROM walk{prefix}{sorted}{limit}", values.join(", "));
    Ok(question)
}

/// Whether an index begins with the columns, in their order.
fn is_indexed(columns: Columns<'_>, of: &[&HistoryColumn], forms: &[&Form]) -> bool {
    let begins_so = |index: &Vec<String>| {
        of.len() <= index.len() && of.iter().zip(index).all(|(column, indexed)| column.table_name == *indexed)
    };
    columns.table.is_walkable && forms.iter().all(|form| form.is_plain) && columns.table.indexes.iter().any(begins_so)
}
