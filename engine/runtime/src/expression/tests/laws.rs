//! What must hold for all rows: however they are cut into batches, each gives the same value.

use arrow::compute::concat;

use super::*;

/// Numbers that look random and are the same in every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }
}

/// Rows of edge cases: a third of the cells are null.
fn many_rows(n_rows: usize, chance: &mut Chance) -> RecordBatch {
    let texts = [None, None, Some(""), Some("a"), Some("sensor-01"), Some("Ünï😀"), Some("12"), Some("2025-07-20")];
    let floats =
        [None, None, None, Some(0.0), Some(-0.0), Some(2.5), Some(-1e308), Some(f64::NAN), Some(f64::INFINITY)];
    let integers = [None, None, Some(0), Some(-1), Some(7), Some(i64::MAX), Some(i64::MIN)];
    let booleans = [None, Some(true), Some(false)];
    let times = [None, Some(0), Some(-1), Some(1_752_999_556_500_000), Some(i64::MAX), Some(i64::MIN)];
    let mut rows =
        |_| (chance.of(&texts), chance.of(&floats), chance.of(&integers), chance.of(&booleans), chance.of(&times));
    let rows: Vec<_> = (0..n_rows).map(&mut rows).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("t", Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>())),
        ("f", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>())),
        ("i", Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>())),
        ("b", Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>())),
        ("at", Arc::new(rows.iter().map(|row| row.4).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

const EXPRESSIONS: &[&str] = &[
    "t",
    "f",
    "i",
    "b",
    "at",
    "5",
    "NULL IS NULL",
    "NOT b",
    "b AND f > 1",
    "b OR i = 7 OR t = 'a'",
    "b IS NOT TRUE",
    "f + i",
    "f - 1",
    "f * f",
    "f / i",
    "f % 2",
    "i + 1",
    "i - i",
    "i * 2",
    "i / i",
    "i % 7",
    "-i",
    "-f",
    "t || i",
    "t = 'a'",
    "t <> t",
    "f < i",
    "f <= 0",
    "i > 0",
    "at >= '2000-01-01'",
    "t IS NULL",
    "i IS DISTINCT FROM 7",
    "f BETWEEN -1 AND i",
    "f NOT BETWEEN 0 AND 3",
    "t IN ('a', '12')",
    "f IN (0, 2.5)",
    "i IN (7, i / 0)",
    "i NOT IN (7, 0)",
    "t IN (t || '', 'a')",
    "at IN ('1970-01-01')",
    "b IN (TRUE)",
    "t LIKE '%s%'",
    "t ILIKE 'ü%'",
    "t LIKE t",
    "CASE WHEN b THEN f WHEN i > 0 THEN i END",
    "CASE t WHEN 'a' THEN t ELSE '?' END",
    "at + INTERVAL '1 day'",
    "at - INTERVAL '1 h'",
    "EXTRACT(EPOCH FROM at - TIMESTAMP '2000-01-01')",
    "EXTRACT(year FROM at)",
    "EXTRACT(EPOCH FROM at)",
    "DATE_TRUNC('week', at)",
    "DATE_TRUNC('hour', at)",
    "DATE_TRUNC('quarter', at)",
    "ABS(i)",
    "ABS(f)",
    "ROUND(f, i)",
    "ROUND(i, -1)",
    "ROUND(f)",
    "FLOOR(f)",
    "CEIL(f)",
    "SQRT(f)",
    "EXP(f)",
    "LN(f)",
    "LOG10(f)",
    "POWER(f, i)",
    "LEAST(f, i, 3)",
    "GREATEST(t, 'b')",
    "COALESCE(t, '-')",
    "NULLIF(i, 7)",
    "LOWER(t)",
    "UPPER(t)",
    "LENGTH(t)",
    "TRIM(t)",
    "LTRIM(t)",
    "RTRIM(t)",
    "CONCAT(t, f, at, b)",
    "SUBSTR(t, i)",
    "SUBSTR(t, 2, i)",
    "STARTS_WITH(t, 's')",
    "t::integer",
    "t::float",
    "t::boolean",
    "t::timestamp",
    "f::integer",
    "f::string",
    "i::boolean",
    "b::integer",
    "at::string",
    "LEAST(5, 3)",
    "5 IN (i, 3)",
    "5 BETWEEN 1 AND i",
];

#[test]
fn batching_does_not_matter() {
    let mut chance = Chance(20_250_720);
    let batch = many_rows(300, &mut chance);
    let mut n_cuts = 0;
    for text in EXPRESSIONS {
        let expression = compile(text, &batch.schema());
        let whole = expression.evaluate(&batch).unwrap();
        for _ in 0..5 {
            let mut parts = Vec::new();
            let mut start = 0;
            while start < batch.num_rows() {
                // Empty batches, and slices that begin within a byte of a bitmap.
                let length = (chance.below(70) as usize).min(batch.num_rows() - start);
                parts.push(expression.evaluate(&batch.slice(start, length)).unwrap());
                assert_eq!(parts.last().unwrap().len(), length, "`{text}`");
                start += length;
                n_cuts += 1;
            }
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            assert_eq!(words(&concat(&parts).unwrap()), words(&whole), "`{text}`");
        }
        let empty = expression.evaluate(&batch.slice(7, 0)).unwrap();
        assert_eq!((empty.len(), empty.data_type()), (0, expression.data_type()), "`{text}`");
    }
    assert!(3_000 < n_cuts);
}

#[test]
fn every_function_takes_part_in_the_law() {
    let all = EXPRESSIONS.join(" ").to_uppercase();
    // CAST is there as `::`.
    for doc in crate::expression::functions().filter(|doc| doc.name != "CAST") {
        assert!(all.contains(&format!("{}(", doc.name)), "`{}`", doc.name);
    }
}

#[test]
fn any_soup_of_words_is_compiled_or_refused_at_a_place_inside_it() {
    let words = [
        "t",
        "f",
        "i",
        "b",
        "at",
        "x",
        "(",
        ")",
        "(",
        ")",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "=",
        "<>",
        "<",
        ">=",
        "AND",
        "OR",
        "NOT",
        "IS",
        "NULL",
        "TRUE",
        "5",
        "2.5",
        "'a'",
        "'°😀'",
        "\"°\"",
        "IN",
        "BETWEEN",
        "LIKE",
        "ILIKE",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST(",
        "AS",
        "FLOAT",
        "::",
        "text",
        "EXTRACT(",
        "hour",
        "FROM",
        "DATE_TRUNC('day',",
        "INTERVAL",
        "'5 minutes'",
        "TIMESTAMP",
        "'2025-01-01'",
        "ABS(",
        "CONCAT(",
        "SUBSTR(",
        "TRIM(",
        "FLOOR(",
        "COALESCE(",
        "POSITION(",
        "DISTINCT",
        "SELECT",
        "[",
        "]",
        "{",
        "}",
        ":",
        ".",
        "\n",
        "--",
        "/*",
        "'",
        "\"",
        "!",
        "≥",
        "\u{0}",
        "OVER",
        "ANY",
        "ALL",
        "AT",
        "TIME",
        "ZONE",
        "COLLATE",
        "EXISTS",
        "STRUCT(",
        "ARRAY",
        "INTERVAL '1 day'",
        "IS NULL",
        "IS NOT TRUE",
    ];
    let batch = many_rows(3, &mut Chance(7));
    let mut chance = Chance(1);
    let (mut n_compiled, mut n_errors) = (0, 0);
    for _ in 0..3_000 {
        // Half of them are right but for one word.
        let mut soup: Vec<&str> = match chance.below(2) {
            0 => chance.of(EXPRESSIONS).split(' ').collect(),
            _ => (0..chance.below(8)).map(|_| chance.of(&words)).collect(),
        };
        let place = chance.below(soup.len() as u64 + 1) as usize;
        soup.insert(place, chance.of(&words));
        if chance.below(2) == 0 {
            soup.remove(chance.below(soup.len() as u64) as usize);
        }
        let text = soup.join(chance.of(&[" ", " ", ""]));
        match Expression::compile(&text, &batch.schema()) {
            Ok(expression) => {
                assert_eq!(expression.evaluate(&batch).unwrap().len(), 3, "`{text}`");
                n_compiled += 1;
            }
            Err(errors) => {
                assert!(!errors.is_empty(), "`{text}`");
                for error in errors {
                    assert!(text.get(error.span.clone()).is_some(), "`{text}`: {error:?}");
                    n_errors += 1;
                }
            }
        }
    }
    assert!(150 < n_compiled && 1_000 < n_errors, "{n_compiled} compiled, {n_errors} errors");
}

#[test]
fn a_constant_gives_what_a_column_of_it_gives() {
    let batch = many_rows(200, &mut Chance(42));
    let mut n_rows = 0;
    for text in
        ["f + 2.5", "i / 7", "t = 'a'", "LEAST(i, 7)", "COALESCE(f, 2.5)", "t || 'a'", "NULLIF(i, 7)", "t LIKE 'a'"]
    {
        let literal = text.rsplit([' ', ',', '(']).next().unwrap().trim_end_matches(')');
        let column = compile(literal, &batch.schema()).evaluate(&batch).unwrap();
        let name = format!("{}k{}", &text[..text.rfind(literal).unwrap()], if text.ends_with(')') { ")" } else { "" });
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("k", column.data_type().clone(), true)));
        let mut columns = batch.columns().to_vec();
        columns.push(column);
        let with_column = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let of_constant = compile(text, &batch.schema()).evaluate(&batch).unwrap();
        let of_column = compile(&name, &with_column.schema()).evaluate(&with_column).unwrap();
        assert_eq!(words(&of_constant), words(&of_column), "`{text}` and `{name}`");
        n_rows += of_column.len();
    }
    assert_eq!(n_rows, 8 * 200);
}

/// All values as bits would be too strict for NaN, and Arrow's equality too lax for -0.
fn words(array: &ArrayRef) -> Vec<String> {
    (0..array.len()).map(|row| word(array, row)).collect()
}

fn word(array: &ArrayRef, row: usize) -> String {
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) if times.is_valid(row) => times.value(row).to_string(),
        _ => cell(array, row),
    }
}
