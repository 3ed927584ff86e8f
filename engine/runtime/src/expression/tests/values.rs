//! What expressions give.

use super::*;
use crate::expression::functions;

/// One row without columns, for constant expressions.
fn nothing() -> RecordBatch {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap()
}

#[test]
fn columns_and_operators_give_a_value_for_each_row() {
    let batch = readings();
    for (text, expected) in [
        ("value", "71.5 -0.0 NULL 20.25"),
        ("\"value\"", "71.5 -0.0 NULL 20.25"),
        ("\"°C\" > 0", "true false true true"),
        ("\"a.b\"", "1 2 3 4"),
        ("user", "u v w x"),
        ("timestamp", "2025-07-20T08:19:16.500Z 2024-02-29T23:59:59Z NULL 1969-12-31T23:59:59Z"),
        ("value>-1", "true true NULL true"),
        ("value > 50 AND is_anomaly", "true false NULL false"),
        ("value > 50 OR is_anomaly", "true false NULL true"),
        ("NOT is_anomaly", "false true NULL false"),
        ("count + 1", "8 1 NULL NULL"),
        ("count - 0.5", "6.5 -0.5 NULL 9.223372036854776e18"),
        ("-count", "-7 0 NULL -9223372036854775807"),
        ("value * 2", "143.0 -0.0 NULL 40.5"),
        ("10 / count", "1 NULL NULL 0"),
        ("value / 0", "NULL NULL NULL NULL"),
        ("count % 4", "3 0 NULL 3"),
        ("count / 2", "3 0 NULL 4611686018427387903"),
        ("value % 10", "1.5 -0.0 NULL 0.25"),
        ("value = 0", "false true NULL false"),
        ("\"a.b\" = 2.0", "false true false false"),
        ("metric = 'humidity'", "false true NULL false"),
        ("metric <> 'humidity'", "true false NULL true"),
        ("metric || '/' || count", "temperature/7 humidity/0 NULL /9223372036854775807"),
        ("count || ' rows'", "7 rows 0 rows NULL 9223372036854775807 rows"),
        ("value BETWEEN 0 AND 50", "false true NULL true"),
        ("value NOT BETWEEN 0 AND 50", "true false NULL false"),
        ("5 BETWEEN count AND 7", "false true NULL false"),
        ("7 BETWEEN 5 AND count", "true false NULL true"),
        ("metric IN ('humidity', 'temperature')", "true true NULL false"),
        ("metric NOT IN ('humidity')", "true false NULL true"),
        ("count IN (7, 2.5)", "true false NULL false"),
        ("value IN (0, 71.5)", "true true NULL false"),
        ("is_anomaly IN (TRUE)", "true false NULL true"),
        ("count IN (7, 1 / 0)", "true NULL NULL NULL"),
        ("count IN (\"a.b\" - 2, 7, \"a.b\" + 3)", "true true NULL false"),
        ("7 IN (count, 3)", "true false NULL false"),
        ("timestamp IN ('2024-02-29T23:59:59Z')", "false true NULL false"),
        ("sensor_id LIKE 'sensor-%'", "true true false false"),
        ("sensor_id ILIKE 'sensor-0_'", "true true true false"),
        ("sensor_id NOT LIKE '%-02'", "true false true true"),
        ("sensor_id LIKE '__ü°'", "false false false true"),
        ("metric LIKE metric", "true true NULL true"),
        ("'100%' LIKE '100\\%' AND is_anomaly", "true false NULL true"),
        ("value IS NULL", "false false true false"),
        ("value IS NOT NULL", "true true false true"),
        ("is_anomaly IS TRUE", "true false false true"),
        ("is_anomaly IS NOT TRUE", "false true true false"),
        ("is_anomaly IS FALSE", "false true false false"),
        ("is_anomaly IS NOT FALSE", "true false true true"),
        ("is_anomaly IS UNKNOWN", "false false true false"),
        ("(value > 50) IS NOT UNKNOWN", "true true false true"),
        ("count IS DISTINCT FROM 7", "false true true true"),
        ("count IS NOT DISTINCT FROM NULL", "false false true false"),
        ("NULL IS NULL", "true true true true"),
        ("5", "5 5 5 5"),
        ("'it''s'", "it's it's it's it's"),
    ] {
        assert_eq!(evaluate(text, &batch), expected, "`{text}`");
    }
}

#[test]
fn times_move_by_intervals() {
    let batch = readings();
    for (text, expected) in [
        ("timestamp > '2025-01-01'", "true false NULL false"),
        ("timestamp > TIMESTAMP '2025-01-01T00:00:00+02:00'", "true false NULL false"),
        ("'2025-07-20 08:19:16.5' = timestamp", "true false NULL false"),
        ("timestamp BETWEEN '1969-01-01' AND '2024-12-31'", "false true NULL true"),
        ("timestamp - INTERVAL '1 day' < '2024-02-29'", "false true NULL true"),
        ("INTERVAL '1.5' HOUR + timestamp", "2025-07-20T09:49:16.500Z 2024-03-01T01:29:59Z NULL 1970-01-01T01:29:59Z"),
        ("timestamp - timestamp = INTERVAL '0 s'", "true true NULL true"),
        ("timestamp - TIMESTAMP '1970-01-01' > -INTERVAL '1 minute'", "true true NULL true"),
        ("EXTRACT(EPOCH FROM timestamp - TIMESTAMP '2024-02-29')", "43834756.5 86399.0 NULL -1709164801.0"),
        ("EXTRACT(EPOCH FROM timestamp)", "1752999556.5 1709251199.0 NULL -1.0"),
        ("EXTRACT(hour FROM timestamp)", "8 23 NULL 23"),
        ("EXTRACT(DOY FROM timestamp)", "201 60 NULL 365"),
        ("EXTRACT(dow FROM timestamp)", "0 4 NULL 3"),
        ("EXTRACT(isodow FROM timestamp)", "7 4 NULL 3"),
        ("EXTRACT(week FROM timestamp)", "29 9 NULL 1"),
        ("EXTRACT(second FROM timestamp)", "16 59 NULL 59"),
        ("DATE_TRUNC('minute', timestamp)", "2025-07-20T08:19:00Z 2024-02-29T23:59:00Z NULL 1969-12-31T23:59:00Z"),
        ("DATE_TRUNC('week', timestamp)", "2025-07-14T00:00:00Z 2024-02-26T00:00:00Z NULL 1969-12-29T00:00:00Z"),
        ("DATE_TRUNC('Month', timestamp)", "2025-07-01T00:00:00Z 2024-02-01T00:00:00Z NULL 1969-12-01T00:00:00Z"),
        ("DATE_TRUNC('quarter', timestamp)", "2025-07-01T00:00:00Z 2024-01-01T00:00:00Z NULL 1969-10-01T00:00:00Z"),
        ("DATE_TRUNC('year', timestamp)", "2025-01-01T00:00:00Z 2024-01-01T00:00:00Z NULL 1969-01-01T00:00:00Z"),
    ] {
        assert_eq!(evaluate(text, &batch), expected, "`{text}`");
    }
}

#[test]
fn functions_choose_and_convert() {
    let batch = readings();
    for (text, expected) in [
        ("CASE WHEN value > 50 THEN 'hot' WHEN value < 10 THEN 'cold' END", "hot cold NULL NULL"),
        ("CASE metric WHEN 'humidity' THEN 1 WHEN 'temperature' THEN 2.5 ELSE 0 END", "2.5 1.0 0.0 0.0"),
        ("CASE WHEN count <> 0 THEN 70 / count ELSE 0 END", "10 0 0 0"),
        ("COALESCE(value, count, 0)", "71.5 -0.0 0.0 20.25"),
        ("COALESCE(metric, sensor_id)", "temperature humidity Sensor-03 "),
        ("NULLIF(metric, '')", "temperature humidity NULL NULL"),
        ("NULLIF(value, 0)", "71.5 NULL NULL 20.25"),
        ("LEAST(value, \"a.b\", NULL)", "1.0 -0.0 3.0 4.0"),
        ("GREATEST(value, count)", "71.5 -0.0 NULL 9.223372036854776e18"),
        ("GREATEST(metric, 'k')", "temperature k k k"),
        ("LEAST(\"°C\", 5)", "5.0 0.0 1.0 5.0"),
        ("CONCAT(metric, ':', value)", "temperature:71.5 humidity:-0.0 : :20.25"),
        ("LENGTH(sensor_id)", "9 9 9 4"),
        ("UPPER(SUBSTR(sensor_id, 1, 2))", "SE SE SE ÄÖ"),
        ("SUBSTRING(sensor_id FROM 8 FOR 2)", "01 02 03 "),
        ("STARTS_WITH(sensor_id, 'sensor')", "true true false false"),
        ("value::INTEGER", "72 0 NULL 20"),
        ("value::string || '!'", "71.5! -0.0! NULL 20.25!"),
        ("CAST(SUBSTR(sensor_id, 8) AS INTEGER)", "1 2 3 NULL"),
        ("CAST(metric AS FLOAT)", "NULL NULL NULL NULL"),
        ("'nan'::float", "NULL NULL NULL NULL"),
        ("\"°C\"::integer", "NULL 0 1 NULL"),
        ("is_anomaly::integer", "1 0 NULL 1"),
        ("count::boolean", "true false NULL true"),
        ("(sensor_id = 'x')::text", "false false false false"),
        ("(timestamp::text)::timestamp = timestamp", "true true NULL true"),
        ("CAST('2025-07-20' AS TIMESTAMP WITH TIME ZONE) < timestamp", "true false NULL false"),
        ("SQRT(value)", "8.455767262643882 -0.0 NULL 4.5"),
        ("LN(value - 71.5)", "NULL NULL NULL NULL"),
        ("POWER(count, 400)", "NULL 0.0 NULL NULL"),
        ("ABS(count - 8)", "1 8 NULL 9223372036854775799"),
        ("ROUND(value / 3, 2)", "23.83 -0.0 NULL 6.75"),
        ("ROUND(count, -1)", "10 0 NULL NULL"),
        ("\"°C\" * 1", "NULL 0.0 1.0 NULL"),
    ] {
        assert_eq!(evaluate(text, &batch), expected, "`{text}`");
    }
}

#[test]
fn arithmetic_without_a_result_is_null() {
    let batch = nothing();
    for (text, expected) in [
        ("9223372036854775807 + 1", "NULL"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775808 - 1", "NULL"),
        ("-(-9223372036854775808)", "NULL"),
        ("ABS(-9223372036854775808)", "NULL"),
        ("-9223372036854775808 / -1", "NULL"),
        ("-9223372036854775808 % -1", "0"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("1 / 0", "NULL"),
        ("1 % 0", "NULL"),
        ("1.0 % 0", "NULL"),
        ("1e308 * 10", "NULL"),
        ("SQRT(-1)", "NULL"),
        ("9.3e18::integer", "NULL"),
        ("(-9223372036854775808.0)::integer", "-9223372036854775808"),
        ("TIMESTAMP '2025-01-01' + INTERVAL '100000 days'", "2298-10-17T00:00:00Z"),
        ("EXTRACT(year FROM TIMESTAMP '2025-01-01' + INTERVAL '100000 days' + INTERVAL '100000 days')", "2572"),
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("(1 + 2) * 3", "9"),
        ("NOT TRUE OR TRUE", "true"),
        ("NOT 1 = 2", "true"),
        ("1 < 2 AND 2 < 3", "true"),
        ("- - 5", "5"),
    ] {
        assert_eq!(evaluate(text, &batch), expected, "`{text}`");
    }
}

#[test]
fn logic_has_three_values() {
    let batch = nothing();
    let values = [("TRUE", Some(true)), ("FALSE", Some(false)), ("NULL", None)];
    let words = |value: Option<bool>| value.map_or("NULL".to_owned(), |value| value.to_string());
    for (one, is_one) in values {
        assert_eq!(evaluate(&format!("NOT {one}"), &batch), words(is_one.map(|is| !is)));
        for (two, is_two) in values {
            let all = if is_one == Some(false) || is_two == Some(false) { Some(false) } else { is_one.and(is_two) };
            let any = if is_one == Some(true) || is_two == Some(true) { Some(true) } else { is_one.and(is_two) };
            assert_eq!(evaluate(&format!("{one} AND {two}"), &batch), words(all));
            assert_eq!(evaluate(&format!("{one} OR {two}"), &batch), words(any));
        }
    }
}

#[test]
fn floats_are_in_one_order_with_nan_on_top() {
    let bits = [f64::NAN, -f64::NAN, f64::INFINITY, 1.0, 0.0, -0.0, -1.0, f64::NEG_INFINITY];
    let ranks = [3, 3, 2, 1, 0, 0, -1, -2];
    let pairs: Vec<(usize, usize)> = (0..8).flat_map(|one| (0..8).map(move |two| (one, two))).collect();
    let column = |pick: fn(&(usize, usize)) -> usize| -> ArrayRef {
        Arc::new(pairs.iter().map(|pair| bits[pick(pair)]).collect::<Float64Array>())
    };
    let batch = RecordBatch::try_from_iter([("a", column(|(one, _)| *one)), ("b", column(|(_, two)| *two))]).unwrap();
    type Holds = fn(i32, i32) -> bool;
    let operators: [(&str, Holds); 8] = [
        ("a = b", |a, b| a == b),
        ("a <> b", |a, b| a != b),
        ("a < b", |a, b| a < b),
        ("a <= b", |a, b| a <= b),
        ("NOT a < b", |a, b| a >= b),
        ("a BETWEEN b AND b", |a, b| a == b),
        ("GREATEST(a, b) = a", |a, b| a >= b),
        ("CASE a WHEN b THEN TRUE ELSE FALSE END", |a, b| a == b),
    ];
    for (text, holds) in operators {
        let expected: Vec<bool> = pairs.iter().map(|(one, two)| holds(ranks[*one], ranks[*two])).collect();
        let found = compile(text, &batch.schema()).select(&batch).unwrap();
        assert_eq!(found, BooleanArray::from(expected), "`{text}`");
    }
    assert_eq!(evaluate("a IN (0, 1)", &batch.slice(24, 3)), "true true true");
    assert_eq!(evaluate("b IN (0)", &batch.slice(0, 8)), "false false false false true true false false");
}

#[test]
fn null_is_not_selected() {
    let batch = readings();
    let condition = Expression::compile_condition("value > 50 OR is_anomaly", &schema()).unwrap();
    assert_eq!(condition.select(&batch).unwrap(), BooleanArray::from(vec![true, false, false, true]));
    let never = Expression::compile_condition("NULL", &schema()).unwrap();
    assert_eq!(never.select(&batch).unwrap(), BooleanArray::from(vec![false; 4]));
    let number = compile("value", &schema());
    assert!(number.select(&batch).is_err());
}

#[test]
fn says_which_columns_it_uses_and_whether_nulls_can_come() {
    for (text, columns, is_nullable) in [
        ("value > 1 AND sensor_id = 'a' AND value < 5", vec!["value", "sensor_id"], true),
        ("sensor_id = 'a'", vec!["sensor_id"], false),
        ("value IS NULL", vec!["value"], false),
        ("COALESCE(value, 0)", vec!["value"], false),
        ("\"a.b\" + 1", vec!["a.b"], true),
        ("sensor_id IN ('a', 'b')", vec!["sensor_id"], false),
        ("1 / 0", vec![], true),
        ("CONCAT(metric)", vec!["metric"], false),
    ] {
        let expression = compile(text, &schema());
        assert_eq!(expression.columns(), columns, "`{text}`");
        assert_eq!(expression.is_nullable(), is_nullable, "`{text}`");
    }
}

#[test]
fn rows_of_another_schema_are_an_error_not_a_wrong_result() {
    let condition = compile("value > 1", &schema());
    let other = RecordBatch::try_from_iter([("value", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef)]).unwrap();
    assert!(condition.evaluate(&other).unwrap_err().to_string().contains("column 2 of the rows is not `value`"));
    let as_text = compile("value", &other.schema());
    let wrong = RecordBatch::try_from_iter([("value", Arc::new(StringArray::from(vec!["1"])) as ArrayRef)]).unwrap();
    assert!(as_text.evaluate(&wrong).unwrap_err().to_string().contains("column `value` is Utf8, expected Float64"));
}

#[test]
fn every_function_does_what_its_documentation_says() {
    let batch = nothing();
    let mut n_examples = 0;
    for doc in functions() {
        assert_eq!(evaluate(doc.example, &batch), doc.result, "`{}`", doc.example);
        assert!(doc.example.contains(doc.name), "`{}` is not an example of `{}`", doc.example, doc.name);
        assert!(doc.signature.starts_with(doc.name) && doc.description.ends_with('.'), "`{}`", doc.name);
        n_examples += 1;
    }
    assert!(20 < n_examples);
}
