//! What is said about expressions that are wrong: each names the place and, mostly, what would be right.

use super::*;
use crate::expression::ExpressionError;

/// The errors of a condition, by place.
fn errors(text: &str) -> Vec<ExpressionError> {
    match Expression::compile_condition(text, &schema()) {
        Ok(_) => panic!("`{text}` is not wrong"),
        Err(errors) => errors,
    }
}

/// Expression, the words the error points at, message, help.
type Case = (&'static str, &'static str, &'static str, &'static str);

fn check(cases: &[Case]) {
    for (text, place, message, help) in cases {
        let all = errors(text);
        let [error] = all.as_slice() else { panic!("`{text}`: {all:?}") };
        let found = (&text[error.span.clone()], error.message.as_str(), error.help.as_deref().unwrap_or(""));
        assert_eq!(found, (*place, *message, *help), "`{text}`");
        assert!(!message.ends_with('.') && !message.starts_with(|letter: char| letter.is_uppercase()), "{message}");
    }
}

const COLUMNS: &str =
    "there are `sensor_id`, `metric`, `value`, `count`, `is_anomaly`, `timestamp`, `°C`, `a.b`, `user`";

#[test]
fn points_at_names_that_do_not_exist() {
    check(&[
        ("valeu > 5", "valeu", "there is no column `valeu`", "did you mean `value`?"),
        ("Value > 5", "Value", "there is no column `Value`", "did you mean `value`?"),
        ("\"valeu\" > 5", "\"valeu\"", "there is no column `valeu`", "did you mean `value`?"),
        ("foo > 5", "foo", "there is no column `foo`", COLUMNS),
        (
            "metric = \"humidity\"",
            "\"humidity\"",
            "there is no column `humidity`",
            "text is written in single quotes: 'humidity'",
        ),
        (
            "spikes.value > 5",
            "spikes.value",
            "`spikes.value` is not the name of a column",
            "write `value`: there is only one table",
        ),
        ("a.b > 5", "a.b", "`a.b` is not the name of a column", "write a name with dots in double quotes: \"a.b\""),
        ("RUOND(value) > 1", "RUOND", "no function is called `RUOND`", "did you mean `ROUND`?"),
        (
            "IF(is_anomaly, TRUE, FALSE)",
            "IF",
            "no function is called `IF`",
            "write `CASE WHEN condition THEN value ELSE value END`",
        ),
        (
            "value::frob > 1",
            "frob",
            "no type is called `frob`",
            "there are STRING, INTEGER, FLOAT, BOOLEAN and TIMESTAMP",
        ),
        (
            "CAST(value AS DATE) > 1",
            "DATE",
            "no type is called `DATE`",
            "there are no dates; `DATE_TRUNC('day', …)` gives the beginning of a day",
        ),
        ("EXTRACT(huor FROM timestamp) > 1", "huor", "no part of a time is called `huor`", "did you mean `hour`?"),
        (
            "DATE_TRUNC('fortnight', timestamp) > timestamp",
            "'fortnight'",
            "no part of a time is called `fortnight`",
            "there are year, quarter, month, week, day, hour, minute, second",
        ),
    ]);
    let unknown = &errors("frobnicate(value) > 1")[0];
    assert!(unknown.help.as_deref().unwrap().contains("`ABS`, `ROUND`"));
}

#[test]
fn points_at_values_of_the_wrong_type() {
    check(&[
        ("value", "value", "`value` is a float, expected a condition (true or false)", "compare it: `value > 0`"),
        (
            "count + 1 AND TRUE",
            "count + 1",
            "`count + 1` is an integer, expected a condition (true or false)",
            "compare it: `count + 1 > 0`",
        ),
        (
            "NOT metric",
            "metric",
            "`metric` is a string, expected a condition (true or false)",
            "compare it: `metric = 'text'`",
        ),
        (
            "CASE WHEN value THEN TRUE END",
            "value",
            "`value` is a float, expected a condition (true or false)",
            "compare it: `value > 0`",
        ),
        (
            "value > '50'",
            "'50'",
            "`value` is a float and `'50'` is a string: they cannot be compared",
            "numbers are written without quotes: `50`",
        ),
        (
            "metric > 5",
            "5",
            "`metric` is a string and `5` is an integer: they cannot be compared",
            "`CAST(metric AS FLOAT)` reads a number",
        ),
        (
            "is_anomaly = 1",
            "1",
            "`is_anomaly` is a boolean and `1` is an integer: they cannot be compared",
            "a boolean is a condition by itself: `is_anomaly` or `NOT is_anomaly`",
        ),
        (
            "timestamp > 5",
            "5",
            "`timestamp` is a timestamp and `5` is an integer: they cannot be compared",
            "`EXTRACT(EPOCH FROM …)` gives seconds since 1970",
        ),
        (
            "value BETWEEN 1 AND 'a'",
            "'a'",
            "`value` is a float and `'a'` is a string: they cannot be compared",
            "numbers are written without quotes",
        ),
        (
            "(value + 1) * 2 = metric",
            "metric",
            "`(value + 1) * 2` is a float and `metric` is a string: they cannot be compared",
            "`CAST(metric AS FLOAT)` reads a number",
        ),
        (
            "value::text IS NULL = LENGTH(metric)",
            "LENGTH(metric)",
            "`value::text IS NULL` is a boolean and `LENGTH(metric)` is an integer: they cannot be compared",
            "a boolean is a condition by itself: `value::text IS NULL` or `NOT value::text IS NULL`",
        ),
        (
            "COALESCE(NULL, 1, 'a') = 1",
            "'a'",
            "`1` is an integer and `'a'` is a string: either may be the result, so they need one type",
            "numbers are written without quotes",
        ),
        (
            "value + metric > 5",
            "metric",
            "`metric` is a string, `+` takes numbers",
            "texts are joined by `||`, and `CAST(… AS FLOAT)` reads a number",
        ),
        ("is_anomaly * 2 > 1", "is_anomaly", "`is_anomaly` is a boolean, `*` takes numbers", ""),
        (
            "timestamp + 5 > timestamp",
            "5",
            "`5` is an integer, `+` moves a timestamp by an interval",
            "write it like INTERVAL '5 minutes'",
        ),
        (
            "is_anomaly || is_anomaly",
            "is_anomaly || is_anomaly",
            "`||` joins texts, and none of these is one",
            "write `OR`",
        ),
        ("value LIKE 'a'", "value", "`value` is a float, `LIKE` takes texts", ""),
        ("-metric > 1", "metric", "`metric` is a string, `-` takes a number", ""),
        ("LENGTH(value) > 1", "value", "`value` is a float, `LENGTH` takes a string", "`LENGTH(text)`"),
        ("ROUND(value, 1.5) > 1", "1.5", "`1.5` is a float, `ROUND` takes an integer", "`ROUND(number [, digits])`"),
        ("ROUND() > 1", "ROUND()", "`ROUND` does not take 0 arguments", "write `ROUND(number [, digits])`"),
        (
            "ABS(DISTINCT value) > 1",
            "ABS(DISTINCT value)",
            "this form of call is not part of the language",
            "write `ABS(number)`",
        ),
        (
            "CAST(timestamp AS INTEGER) > 1",
            "timestamp",
            "a timestamp cannot be turned into an integer",
            "`EXTRACT(EPOCH FROM …)` gives seconds",
        ),
        ("DATE_TRUNC(metric, timestamp) > timestamp", "metric", "the part must be written out, as 'text'", ""),
    ]);
}

#[test]
fn says_why_a_literal_is_wrong() {
    check(&[
        (
            "timestamp > 'yesterday'",
            "'yesterday'",
            "`yesterday` is not a timestamp",
            "write it like '2025-07-20T08:19:16Z' or '2025-07-20'",
        ),
        (
            "DATE '2025-01-01' < timestamp",
            "DATE '2025-01-01'",
            "there are no literals of type DATE",
            "write TIMESTAMP '2025-07-20T08:19:16Z'",
        ),
        (
            "INTERVAL '5 monuts' > INTERVAL '1 s'",
            "INTERVAL '5 monuts'",
            "`monuts` is not a unit of time",
            "write it like INTERVAL '1 hour 30 minutes'",
        ),
        (
            "INTERVAL '1 month' > INTERVAL '1 s'",
            "INTERVAL '1 month'",
            "an interval of `month` has no fixed length",
            "write it in days",
        ),
        (
            "count > 99999999999999999999",
            "99999999999999999999",
            "`99999999999999999999` does not fit into an integer of 64 bits",
            "write a float: `1e19`",
        ),
        ("value < 1e999", "1e999", "`1e999` does not fit into a float of 64 bits", "the greatest is about 1.8e308"),
        (
            "count = 0x1F",
            "0x1F",
            "`0x1F` is not part of the language",
            "there are numbers, 'texts', TRUE, FALSE and NULL",
        ),
        ("value = NULL", "NULL", "`=` with NULL is always NULL", "write `value IS NULL` or `value IS NOT NULL`"),
        ("value IN (1, NULL)", "NULL", "nothing is equal to NULL, not even in a list", "write `value IS NULL`"),
        (
            "value BETWEEN NULL AND 5",
            "NULL",
            "`BETWEEN` with NULL is never true",
            "write `<=` or `>=` for one bound alone",
        ),
    ]);
}

#[test]
fn says_why_clock_chance_and_other_rows_are_not_there() {
    let again = "the same rows must always give the same result, also when they are read again";
    for (text, place, message) in [
        ("timestamp > now() - INTERVAL '5 minutes'", "now", format!("`NOW` looks at the clock: {again}")),
        (
            "timestamp > CURRENT_TIMESTAMP",
            "CURRENT_TIMESTAMP",
            format!("`CURRENT_TIMESTAMP` looks at the clock: {again}"),
        ),
        ("RANDOM() > 0.5", "RANDOM", format!("`RANDOM` is random: {again}")),
        (
            "AVG(value) OVER (PARTITION BY metric) > 5",
            "AVG",
            "`AVG` needs many rows, an expression sees one at a time".to_owned(),
        ),
        ("COUNT(*) > 5", "COUNT", "`COUNT` needs many rows, an expression sees one at a time".to_owned()),
        ("value IN (SELECT 1)", "value IN (SELECT 1)", "an expression sees one row, it cannot have queries".to_owned()),
    ] {
        let all = errors(text);
        assert_eq!((&text[all[0].span.clone()], all[0].message.as_str()), (place, message.as_str()));
        assert!(all[0].help.is_some() && all.len() == 1, "`{text}`");
    }
}

#[test]
fn points_at_what_cannot_be_read() {
    let missing = "an operator such as `AND` may be missing before it";
    check(&[
        ("", "", "the expression is empty", "write one such as `value > 50`"),
        ("value >", "", "expected an expression, found the end", ""),
        ("(value > 5", "", "expected `)`, found the end", ""),
        ("value IN 5", "5", "expected `(`, found `5`", ""),
        ("value IS 5", "5", "expected NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS, found `5`", ""),
        ("value > 5)", ")", "`)` is not expected here, the expression has ended before it", "no `(` is open"),
        ("value > 5 count", "count", "`count` is not expected here, the expression has ended before it", missing),
        ("value > 5 OR OR count > 3", "OR", "`OR` is not expected here", "a value is missing before it"),
        ("CASE WHEN TRUE THEN 1", "CASE", "this `CASE` has no `END`", ""),
        (
            "metric = 'humidity",
            "'humidity",
            "the text that begins here has no end",
            "close it with `'`; a quote inside a text is written twice: 'it''s'",
        ),
        (
            "CAST(value, INTEGER) > 1",
            "CAST(value, INTEGER)",
            "`CAST` is not called like this",
            "write `CAST(value AS type), value::type`",
        ),
        ("metric REGEXP 'a'", "metric REGEXP 'a'", "there are no regular expressions, only LIKE and ILIKE", ""),
    ]);
}

#[test]
fn knows_the_signs_of_other_languages() {
    for (text, sign, help) in [
        ("value == 5", "==", "write `=` to compare"),
        ("is_anomaly && is_anomaly", "&&", "write `AND`"),
        ("!is_anomaly", "!", "write `NOT`, or `<>` for unequal"),
        ("value => 5", "=>", "write `>=`"),
        ("value =< 5", "=<", "write `<=`"),
        ("value ≥ 5", "≥", "write `>=`"),
        ("value ^ 2 > 1", "^", "write `POWER(base, exponent)`"),
        ("metric ~ 'x'", "~", "there are no regular expressions; write `LIKE 'sensor-%'`"),
        ("value > 5;", ";", "leave it out: there is only one expression"),
        ("WHERE value > 5", "WHERE", "write the condition alone: `value > 50`"),
        ("value > $1", "$1", "there are no parameters; to use a column, write its name alone"),
    ] {
        let all = errors(text);
        assert_eq!(&text[all[0].span.clone()], sign);
        assert_eq!(all[0].message, format!("`{sign}` is not part of the language"));
        assert_eq!((all[0].help.as_deref(), all.len()), (Some(help), 1), "`{text}`");
    }
    // They are right inside a text.
    assert_eq!(evaluate("metric = '== && ! -- /* ; ≥'", &readings()), "false false NULL false");
}

#[test]
fn refuses_comments_because_two_signs_look_like_one() {
    for text in [
        "value--1 > 5",
        "value > 5 -- hot",
        "value /* hot */ > 5",
        "/*! value */ > 5",
        "/*!*/ value > 5",
        "5 > 3 /*!1*/",
        "value > 5 /*",
    ] {
        let all = errors(text);
        assert_eq!(all[0].message, "comments are not allowed in an expression", "`{text}`");
        let marked = &text[all[0].span.start..];
        assert!(marked.is_empty() || marked.starts_with("--") || marked.starts_with("/*"), "`{text}`");
    }
}

#[test]
fn reports_all_mistakes_by_place() {
    let text = "valeu > 5 AND (foo(value) = 1 OR metric > 3) AND timestamp < NOW()";
    let places: Vec<_> = errors(text).into_iter().map(|error| text[error.span].to_owned()).collect();
    assert_eq!(places, ["valeu", "foo", "3", "NOW"]);
    assert_eq!(errors("value == 5 && !is_anomaly").len(), 3);
}

#[test]
fn counts_places_in_bytes_of_any_alphabet_and_line() {
    for (text, start, place) in [
        ("'°😀' = foo", 11, "foo"),
        ("\"°C\" > 0 AND metric = \"bär\"", 23, "\"bär\""),
        ("metric = 'ä'\r\n\tAND foo = 1", 20, "foo"),
        ("metric = 'ä\nö'\n AND foo = 1", 22, "foo"),
        ("'é' LIKE ≥", 10, "≥"),
        ("größe > 1", 0, "größe"),
        ("'😀' = 'x' )", 13, ")"),
        ("'😀' = ", 9, ""),
        ("'😀' = 'abc", 9, "'abc"),
    ] {
        let error = &errors(text)[0];
        assert_eq!((error.span.start, &text[error.span.clone()]), (start, place), "`{text}`");
    }
}

#[test]
fn refuses_results_no_column_can_have() {
    for (text, message) in [
        ("NULL", "`NULL` alone has no type"),
        ("timestamp - timestamp", "the result is an interval, which no column can have"),
    ] {
        assert_eq!(Expression::compile(text, &schema()).unwrap_err()[0].message, message);
    }
    let schema = Schema::new(vec![Field::new("small", DataType::Int8, true)]);
    let error = &Expression::compile("small > 1", &schema).unwrap_err()[0];
    assert_eq!(error.message, "column `small` is Int8, which expressions cannot use");
}

#[test]
fn words_of_sql_are_columns_unless_they_are_reserved() {
    for name in [
        "timestamp",
        "time",
        "date",
        "value",
        "key",
        "offset",
        "partition",
        "user",
        "end",
        "order",
        "group",
        "left",
        "floor",
        "from",
        "position",
        "current_date",
    ] {
        let schema = Schema::new(vec![Field::new(name, DataType::Float64, true)]);
        for text in [
            "{} > 5",
            "ABS({}) > 1 AND {} < 3",
            "{} IS NULL",
            "1 - {} > -{}",
            "CASE WHEN {} > 1 THEN {} END > 0",
            "{}::text = 'a'",
        ] {
            compile(&text.replace("{}", name), &schema);
        }
    }
    for name in ["interval", "select", "when", "exists"] {
        let schema = Schema::new(vec![Field::new(name, DataType::Float64, true)]);
        let error = &Expression::compile(&format!("{name} > 5"), &schema).unwrap_err()[0];
        let help = format!("to use the column `{name}`, write it in double quotes: \"{name}\"");
        assert_eq!(error.help.as_deref(), Some(help.as_str()));
        compile(&format!("\"{name}\" > 5"), &schema);
    }
}

#[test]
fn depth_and_length_are_bounded_and_never_overflow_the_stack() {
    let too_deep = "the expression is nested too deeply";
    let repeat = |before: &str, inner: &str, after: &str, times: usize| {
        format!("{}{inner}{}", before.repeat(times), after.repeat(times))
    };
    let shapes: [(&str, &str, &str); 12] = [
        ("(", "value", ")"),
        ("NOT ", "is_anomaly", ""),
        ("- ", "value", ""),
        ("ABS(", "value", ")"),
        ("NOT (is_anomaly OR ", "is_anomaly", ")"),
        ("CASE WHEN is_anomaly THEN ", "value", " END"),
        ("CAST(", "value", " AS FLOAT)"),
        ("", "value", " IS NULL"),
        ("", "value", "::text"),
        ("", "value", " + 1"),
        ("", "is_anomaly", " IN (TRUE)"),
        ("(SELECT ", "1", ")"),
    ];
    // A thread of less stack than any that compiles or evaluates expressions.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let checks = thread.spawn(move || {
        for (before, inner, after) in shapes {
            for times in [150, 400] {
                let errors = Expression::compile(&repeat(before, inner, after, times), &schema()).unwrap_err();
                assert_eq!(
                    (errors[0].message.as_str(), errors.len()),
                    (too_deep, 1),
                    "{before}{inner}{after} × {times}"
                );
            }
        }
        for (before, inner, after) in &shapes[..10] {
            evaluate(&repeat(before, inner, after, 15), &readings());
        }
        evaluate(&repeat("", "value", " + 1", 95), &readings());
        // Long lists and chains are not deep.
        evaluate(&repeat("", "is_anomaly", " AND is_anomaly OR NOT is_anomaly", 500), &readings());
        evaluate(&format!("metric IN ('a'{})", ", 'b'".repeat(1_400)), &readings());
        let long = Expression::compile(&repeat("", "is_anomaly", " AND is_anomaly", 5_000), &schema()).unwrap_err();
        assert_eq!(long[0].message, "the expression is too long, it may have at most 3000 words and signs");
    });
    checks.unwrap().join().unwrap();
}
