//! The books of a run as a table, and how numbers are written.

use std::time::Duration;

use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::Counts;
use pipeline_stage::Kind;

/// The table that is printed when a run ends: what came into each stage and where it went.
pub fn table(plan: &Plan, counts: &[Counts]) -> String {
    let heads = ["stage", "in", "out", "held", "filtered", "dead", "late"];
    let mut rows = vec![heads.map(String::from)];
    for (stage, counts) in plan.stages.iter().zip(counts) {
        rows.push([
            stage.id.clone(),
            if stage.kind == Kind::Source && counts.dead == 0 { "–".into() } else { grouped(counts.rows_in) },
            grouped(counts.out),
            dash_if_zero(counts.held),
            dash_if_zero(counts.filtered),
            grouped(counts.dead),
            if stage.kind == Kind::Detector || stage.kind == Kind::Transform {
                grouped(counts.late)
            } else {
                "–".into()
            },
        ]);
    }
    let widths: Vec<usize> =
        (0..heads.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        text.push_str(&format!("  {:<width$}", row[0], width = widths[0]));
        for (cell, width) in row[1..].iter().zip(&widths[1..]) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    let are_balanced = counts.iter().all(Counts::is_balanced);
    text.push_str(if are_balanced { "  books balance ✓" } else { "  books do NOT balance ✗" });
    text
}

fn dash_if_zero(count: u64) -> String {
    if count == 0 { "–".into() } else { grouped(count) }
}

/// `4,120`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if 0 < place && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `00:21`, `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3_600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// `21 s`, `4 min 10 s`.
pub fn span(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!(clock(Duration::from_secs(21)), "00:21");
        assert_eq!(clock(Duration::from_secs(3_723)), "1:02:03");
        assert_eq!(span(Duration::from_millis(1_500)), "1.5 s");
        assert_eq!(span(Duration::from_secs(250)), "4 min 10 s");
    }
}
