//! Functions of SQL that an expression must not or cannot have, with the reason.

const OF_CLOCK: &[&str] = &[
    "NOW",
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "CLOCK_TIMESTAMP",
    "STATEMENT_TIMESTAMP",
    "TRANSACTION_TIMESTAMP",
    "GETDATE",
    "SYSDATE",
    "TODAY",
    "AGE",
];

const OF_CHANCE: &[&str] = &["RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID"];

const OF_ROWS: &[&str] = &[
    "AVG",
    "COUNT",
    "MAX",
    "MEDIAN",
    "MIN",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "SUM",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
    "FIRST_VALUE",
    "LAG",
    "LAST_VALUE",
    "LEAD",
    "NTILE",
    "RANK",
    "ROW_NUMBER",
];

/// Message and help for a function that exists in SQL but not here; none if it is just not known.
pub fn refusal(name: &str) -> Option<(String, &'static str)> {
    let name = name.to_ascii_uppercase();
    let is_among = |names: &[&str]| names.contains(&name.as_str());
    let again = "the same rows must always give the same result, also when they are read again";
    if is_among(OF_CLOCK) {
        return Some((format!("`{name}` looks at the clock: {again}"), "use a column with the time of the row"));
    }
    if is_among(OF_CHANCE) {
        return Some((format!("`{name}` is random: {again}"), "compare a column instead"));
    }
    if is_among(OF_ROWS) {
        let help = match name.as_str() {
            "MIN" => "`LEAST(a, b)` compares values of one row",
            "MAX" => "`GREATEST(a, b)` compares values of one row",
            _ => "a detector keeps a window over earlier rows",
        };
        return Some((format!("`{name}` needs many rows, an expression sees one at a time"), help));
    }
    let instead = match name.as_str() {
        "IF" | "IIF" => "write `CASE WHEN condition THEN value ELSE value END`",
        "IFNULL" | "ISNULL" | "NVL" => "write `COALESCE(value, other)`",
        "LEN" => "write `LENGTH(text)`",
        "MOD" => "write `dividend % divisor`",
        "DATE_PART" | "YEAR" | "MONTH" | "DAY" | "HOUR" | "MINUTE" | "SECOND" => "write `EXTRACT(part FROM timestamp)`",
        "TO_TIMESTAMP" => "write `CAST(text AS TIMESTAMP)`",
        "CONTAINS" | "INSTR" | "POSITION" | "STRPOS" | "REGEXP_LIKE" => "write `text LIKE '%part%'`",
        "LOG" => "write `LN(number)` or `LOG10(number)`",
        _ => return None,
    };
    Some((format!("no function is called `{name}`"), instead))
}
