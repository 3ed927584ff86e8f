//! Functions of texts; characters are Unicode code points.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::compute::kernels::comparison::starts_with as begins_with;
use arrow::datatypes::Int64Type;

use crate::expression::error::ExpressionError;
use crate::expression::tree::{Nulls, Operation, Typed};
use crate::expression::types::Type;

type Made = Result<Operation, ExpressionError>;

pub fn lower(_: &[Typed]) -> Made {
    of_text(str::to_lowercase)
}

pub fn upper(_: &[Typed]) -> Made {
    of_text(str::to_uppercase)
}

pub fn trim(_: &[Typed]) -> Made {
    of_text(|text| text.trim().to_owned())
}

pub fn trim_start(_: &[Typed]) -> Made {
    of_text(|text| text.trim_start().to_owned())
}

pub fn trim_end(_: &[Typed]) -> Made {
    of_text(|text| text.trim_end().to_owned())
}

pub fn length(_: &[Typed]) -> Made {
    Ok(Operation::new(Type::Integer, Nulls::OfAny, |arguments| {
        let texts = arguments.texts(0);
        Ok(arguments.compute_numbers::<Int64Type>(|row| i64::try_from(texts.at(row).chars().count()).ok()))
    }))
}

pub fn starts_with(_: &[Typed]) -> Made {
    Ok(Operation::new(Type::Boolean, Nulls::OfAny, |arguments| {
        Ok(Arc::new(begins_with(&arguments.operands[0], &arguments.operands[1])?))
    }))
}

pub fn concat(_: &[Typed]) -> Made {
    Ok(Operation::new(Type::Text, Nulls::Never, |arguments| {
        let columns: Vec<_> = (0..arguments.operands.len()).map(|index| arguments.texts(index)).collect();
        // Not `compute_texts`: that gives null where an argument is null.
        let in_row =
            |row: usize| columns.iter().filter(move |texts| !texts.is_null(row)).map(move |texts| texts.at(row));
        let joined = (0..arguments.n_rows).map(|row| in_row(row).collect::<String>());
        Ok(Arc::new(StringArray::from_iter_values(joined)))
    }))
}

pub fn substring(arguments: &[Typed]) -> Made {
    let has_count = arguments.len() == 3;
    Ok(Operation::new(Type::Text, Nulls::Possible, move |arguments| {
        let (texts, starts) = (arguments.texts(0), arguments.numbers::<Int64Type>(1));
        let counts = has_count.then(|| arguments.numbers::<Int64Type>(2));
        let count_of = |row| counts.as_ref().map_or(i64::MAX, |counts| counts.at(row));
        Ok(arguments.compute_texts(|row| part(texts.at(row), starts.at(row), count_of(row))))
    }))
}

/// As in SQL: a place before the text uses up some of the count.
fn part(text: &str, start: i64, count: i64) -> Option<&str> {
    if count < 0 {
        return None;
    }
    let end = start.saturating_add(count);
    let place = |character: i64| usize::try_from(character.saturating_sub(1)).unwrap_or(0);
    let byte = |character: i64| text.char_indices().nth(place(character)).map_or(text.len(), |(byte, _)| byte);
    let (from, to) = (byte(start), byte(end));
    Some(&text[from..to.max(from)])
}

fn of_text(compute: impl Fn(&str) -> String + Send + Sync + 'static) -> Made {
    Ok(Operation::new(Type::Text, Nulls::OfAny, move |arguments| {
        let texts = arguments.texts(0);
        Ok(arguments.compute_texts(|row| Some(compute(texts.at(row)))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_out_characters() {
        for (start, count, expected) in [
            (1, i64::MAX, Some("a°😀d")),
            (2, 2, Some("°😀")),
            (4, 9, Some("d")),
            (5, 1, Some("")),
            (0, 2, Some("a")),
            (-1, 2, Some("")),
            (-5, i64::MAX, Some("a°😀d")),
            (i64::MAX, i64::MAX, Some("")),
            (i64::MIN, 3, Some("")),
            (1, -1, None),
        ] {
            assert_eq!(part("a°😀d", start, count), expected, "{start} {count}");
        }
    }
}
