//! Rows as aligned lines: time, key, other columns, what the detector says, id.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use chrono::{DateTime, NaiveDate, Utc};
use pipeline_stage::keyed::SCORE_COLUMNS;
use pipeline_stage::{Cell, ColumnType, Timestamp, printable};

/// Longer text is cut: a payload of megabytes would drown the screen.
const MAX_TEXT: usize = 64;
/// Wider values stand out of their column instead of widening it for the rest of the run.
const MAX_WIDTH: usize = 32;

/// Prints rows; remembers how wide each column has been and which date was shown last.
pub struct Lines {
    time: Option<usize>,
    columns: Vec<Column>,
    verdict: Option<Verdict>,
    is_terminal: bool,
    last_date: Option<NaiveDate>,
    widths: Vec<usize>,
}

struct Column {
    idx: usize,
    /// Before each value; empty where the value speaks for itself.
    label: String,
    is_number: bool,
}

/// Where a detector's columns stand.
struct Verdict {
    is_anomaly: usize,
    expected: usize,
    lower: usize,
    upper: usize,
    statistic: Option<(usize, String)>,
}

/// A piece of a line, padded to the width of its column.
struct Piece {
    label: String,
    text: String,
    is_number: bool,
    colour: Option<&'static str>,
}

impl Lines {
    /// Decides which of the chosen columns stands where.
    pub fn new(schema: &Schema, chosen: &[usize], key: &[String], is_terminal: bool) -> Self {
        let name = |idx: usize| schema.field(idx).name().as_str();
        let column_type = |idx: usize| ColumnType::of(schema.field(idx).data_type());
        let time = chosen.iter().copied().find(|&idx| column_type(idx) == Some(ColumnType::Timestamp));
        let verdict = Verdict::find(schema, chosen);
        let is_said_elsewhere =
            |idx: usize| Some(idx) == time || verdict.as_ref().is_some_and(|verdict| verdict.says(schema, idx));
        let in_key = |idx: usize| key.iter().position(|part| part == name(idx));

        let mut keys: Vec<usize> = chosen.iter().copied().filter(|&idx| in_key(idx).is_some()).collect();
        keys.sort_by_key(|&idx| in_key(idx));
        let others: Vec<usize> =
            chosen.iter().copied().filter(|&idx| in_key(idx).is_none() && !is_said_elsewhere(idx)).collect();
        let label = |idx: usize| match others.len() {
            1 => String::new(),
            _ => format!("{} ", printable(name(idx), MAX_TEXT)),
        };
        let is_number = |idx: usize| matches!(column_type(idx), Some(ColumnType::Float | ColumnType::Integer));
        let keys = keys.into_iter().map(|idx| Column { idx, label: String::new(), is_number: is_number(idx) });
        let columns = keys
            .chain(others.iter().map(|&idx| Column { idx, label: label(idx), is_number: is_number(idx) }))
            .collect();
        Lines { time, columns, verdict, is_terminal, last_date: None, widths: Vec::new() }
    }

    /// Appends the line of a row, after a line with the date if a terminal has not been told it.
    pub fn print(&mut self, batch: &RecordBatch, row: usize, id: &str, out: &mut Vec<u8>) {
        let cell = |idx: usize| Cell::of(batch.column(idx), row);
        let mut pieces = Vec::new();
        if let Some(time) = self.time {
            let text = self.time_of(cell(time), out);
            pieces.push(Piece::text(text));
        }
        for column in &self.columns {
            let text = text_of(cell(column.idx));
            pieces.push(Piece { label: column.label.clone(), text, is_number: column.is_number, colour: None });
        }
        if let Some(verdict) = &self.verdict {
            pieces.extend(verdict.pieces(cell, self.is_terminal));
        }
        self.widths.resize(pieces.len(), 0);
        for (piece, width) in pieces.iter().zip(&mut self.widths) {
            piece.print(width, out);
        }
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }

    fn time_of(&mut self, cell: Cell<'_>, out: &mut Vec<u8>) -> String {
        let time = match cell {
            Cell::Time(Timestamp(micros)) => DateTime::<Utc>::from_timestamp_micros(micros),
            _ => None,
        };
        let Some(time) = time else { return text_of(cell) };
        if !self.is_terminal {
            return time.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
        }
        let date = time.date_naive();
        if self.last_date.replace(date) != Some(date) {
            out.extend_from_slice(format!("{date} UTC\n").as_bytes());
        }
        time.format("%H:%M:%S%.3f").to_string()
    }
}

impl Verdict {
    /// The columns of one detector, if all of them are to be shown; they may have a prefix.
    fn find(schema: &Schema, chosen: &[usize]) -> Option<Self> {
        let prefixes = chosen.iter().filter_map(|&idx| schema.field(idx).name().strip_suffix("is_anomaly"));
        prefixes.into_iter().find_map(|prefix| {
            let find = |name: &str| {
                chosen.iter().copied().find(|&idx| schema.field(idx).name().strip_prefix(prefix) == Some(name))
            };
            let [_, is_anomaly, expected, lower, upper] = SCORE_COLUMNS.map(find);
            // The detector's own statistic comes right after the columns that all detectors add.
            let statistic = upper.map(|upper| upper + 1).filter(|idx| {
                chosen.contains(idx) && ColumnType::of(schema.field(*idx).data_type()) == Some(ColumnType::Float)
            });
            let label = |idx: usize| {
                let name = schema.field(idx).name();
                let name = name.strip_prefix(prefix).unwrap_or(name);
                printable(name.strip_suffix("_score").unwrap_or(name), MAX_TEXT)
            };
            find(SCORE_COLUMNS[0])?;
            Some(Verdict {
                is_anomaly: is_anomaly?,
                expected: expected?,
                lower: lower?,
                upper: upper?,
                statistic: statistic.map(|idx| (idx, label(idx))),
            })
        })
    }

    fn says(&self, schema: &Schema, idx: usize) -> bool {
        let name = schema.field(idx).name();
        let prefix = schema.field(self.is_anomaly).name().trim_end_matches("is_anomaly");
        let is_statistic = self.statistic.as_ref().is_some_and(|(statistic, _)| *statistic == idx);
        is_statistic || name.strip_prefix(prefix).is_some_and(|name| SCORE_COLUMNS.contains(&name))
    }

    fn pieces<'a>(&self, cell: impl Fn(usize) -> Cell<'a>, is_terminal: bool) -> [Piece; 3] {
        let float = |idx: usize| match cell(idx) {
            Cell::Float(number) if number.is_finite() => Some(number),
            _ => None,
        };
        let statistic = match &self.statistic {
            Some((idx, label)) => match float(*idx) {
                Some(number) => (format!("{label} "), rounded(number, 2)),
                None => Default::default(),
            },
            None => Default::default(),
        };
        let is_anomaly = cell(self.is_anomaly) == Cell::Boolean(true);
        [
            Piece { label: statistic.0, text: statistic.1, is_number: true, colour: None },
            Piece::text(expectation(float(self.expected), float(self.lower), float(self.upper))),
            Piece {
                label: String::new(),
                text: if is_anomaly { "ANOMALY".into() } else { String::new() },
                is_number: false,
                colour: (is_terminal && is_anomaly).then_some("\u{1b}[1;31m"),
            },
        ]
    }
}

/// `expected 22.6 ± 12.8`; with one limit only, or limits that are not as far away on both sides, both are named.
fn expectation(expected: Option<f64>, lower: Option<f64>, upper: Option<f64>) -> String {
    let Some(expected) = expected else { return String::new() };
    let words = format!("expected {}", short(expected));
    match (lower, upper) {
        (Some(lower), Some(upper)) => {
            let (below, above) = (expected - lower, upper - expected);
            let is_symmetric = (above - below).abs() <= 1e-3 * (above + below).abs();
            match is_symmetric {
                true => format!("{words} ± {}", short((above + below) / 2.0)),
                false => format!("{words}, {} … {}", short(lower), short(upper)),
            }
        }
        (Some(lower), None) => format!("{words}, at least {}", short(lower)),
        (None, Some(upper)) => format!("{words}, at most {}", short(upper)),
        (None, None) => words,
    }
}

/// About four digits: enough to compare with, not more than can be read at a glance.
fn short(number: f64) -> String {
    match number.abs() {
        size if 1000.0 <= size => rounded(number, 1),
        size if 1.0 <= size || size == 0.0 => rounded(number, 2),
        _ => rounded(number, 4),
    }
}

fn rounded(number: f64, decimals: usize) -> String {
    let size = number.abs();
    match size != 0.0 && !(1e-4..1e7).contains(&size) {
        true => format!("{number:.decimals$e}"),
        false => format!("{number:.decimals$}"),
    }
}

fn text_of(cell: Cell<'_>) -> String {
    match cell {
        Cell::Null => "–".into(),
        Cell::Text(text) => printable(text, MAX_TEXT),
        Cell::Integer(number) => number.to_string(),
        // Debug turns to exponents where Display would write hundreds of digits.
        Cell::Float(number) => format!("{number:?}"),
        Cell::Boolean(is_true) => is_true.to_string(),
        Cell::Time(time) => time.to_rfc3339(),
        Cell::Other(text) => printable(&text, MAX_TEXT),
    }
}

impl Piece {
    fn text(text: String) -> Self {
        Piece { label: String::new(), text, is_number: false, colour: None }
    }

    /// Appends the piece and two spaces, numbers to the right, text to the left; nothing while the column is empty.
    fn print(&self, width: &mut usize, out: &mut Vec<u8>) {
        let label_length = self.label.chars().count();
        let length = label_length + self.text.chars().count();
        *width = (*width).max(length.min(MAX_WIDTH + label_length));
        if *width == 0 {
            return;
        }
        let padding = " ".repeat(width.saturating_sub(length));
        let (before, after) = if self.is_number { (padding.as_str(), "") } else { ("", padding.as_str()) };
        let (colour, plain) = match self.colour {
            Some(colour) => (colour, "\u{1b}[0m"),
            None => ("", ""),
        };
        let (label, text) = (&self.label, &self.text);
        out.extend_from_slice(format!("{label}{before}{colour}{text}{plain}{after}  ").as_bytes());
    }
}
