//! Payloads that are alike, read side by side: each step is taken for all of them before the next one. So what a step needs
//! is looked up once, and the processor, which knows what comes, works on several payloads at a time.

use std::ops::Range;

use arrow::array::BinaryArray;

use super::steps::Literal;
use super::values::skip;
use super::wanted::{float, text, time, unusual};
use crate::formats::building::Building;
use crate::formats::rows::{Making, RUN, Row};

/// Payloads that are being read. The first one that does not fit ends the run before it.
pub(super) struct Run<'a> {
    /// The bytes of all payloads of the batch, one behind the other. A step may read beyond the end of its payload: then it
    /// does not come out at the end either.
    bytes: &'a [u8],
    /// Where the payloads end.
    ends: &'a [i32],
    /// Up to where each of them has been read.
    at: [usize; RUN],
    len: usize,
}

impl<'a> Run<'a> {
    /// The payloads of some rows, at most [`RUN`].
    pub fn new(payloads: &'a BinaryArray, rows: Range<usize>) -> Self {
        let (len, offsets) = (rows.len(), &payloads.value_offsets()[rows.start..=rows.end]);
        let mut at = [0; RUN];
        at.iter_mut().zip(&offsets[..len]).for_each(|(at, start)| *at = *start as usize);
        Run { bytes: payloads.value_data(), ends: &offsets[1..], at, len }
    }

    /// How many payloads fit up to here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads a literal.
    pub fn literal(&mut self, literal: &Literal) {
        self.each(|bytes, at| literal.is_at(bytes, at).then(|| at + literal.len()));
    }

    /// Reads a value for each of some columns.
    pub fn wanted(&mut self, row: &mut Row, columns: &[usize]) {
        let start = self.at;
        for &column in columns {
            self.at = start;
            self.column(&mut row.making(column));
        }
    }

    /// Reads a value for a column. What its values usually are is asked once, and not of each.
    fn column(&mut self, making: &mut Making<'_>) {
        let mut first = 0;
        loop {
            let days = &*making.days;
            first = match making.building {
                Building::Text(texts) => self.each_from(first, |bytes, at| text(bytes, at, texts)),
                Building::Float(values) => self.each_from(first, |bytes, at| float(bytes, at, values)),
                Building::Time(times) => self.each_from(first, |bytes, at| time(bytes, at, times, days)),
                _ => first,
            };
            if first == self.len {
                return;
            }
            let Some(behind) = unusual(self.bytes, self.at[first], making) else {
                self.len = first;
                return;
            };
            self.at[first] = behind;
            first += 1;
        }
    }

    /// Reads a value that no column wants.
    pub fn any(&mut self) {
        self.each(skip);
    }

    /// All payloads must have been read to their ends.
    pub fn end(&mut self) {
        let mut ends = self.ends.iter();
        self.each(|_, at| ends.next().is_some_and(|end| *end as usize == at).then_some(at));
    }

    #[inline(always)]
    fn each(&mut self, read: impl FnMut(&[u8], usize) -> Option<usize>) {
        self.len = self.each_from(0, read);
    }

    /// Up to the first one that cannot be read so; gives its number.
    #[inline(always)]
    fn each_from(&mut self, first: usize, mut read: impl FnMut(&[u8], usize) -> Option<usize>) -> usize {
        for (idx, at) in self.at[..self.len].iter_mut().enumerate().skip(first) {
            match read(self.bytes, *at) {
                Some(behind) => *at = behind,
                None => return idx,
            }
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use pipeline_stage::{Column, ColumnFrom, ColumnType, Format, Meta, RawRows};
    use pipeline_testkit::Random;

    use super::super::{Json, JsonOptions};
    use super::*;
    use crate::formats::fixtures::{column, context, from, meta, nullable, raw_rows, row_of};

    fn columns() -> Vec<Column> {
        vec![
            column("id", ColumnType::String),
            from("data.value", nullable("value", ColumnType::Float)),
            from("data.value", nullable("again", ColumnType::Float)),
            from("data.at", nullable("at", ColumnType::Timestamp)),
            nullable("n", ColumnType::Integer),
            nullable("ok", ColumnType::Boolean),
            nullable("missing", ColumnType::String),
            nullable("note", ColumnType::String),
            meta("key", ColumnType::String, Meta::Key),
            meta("offset", ColumnType::Integer, Meta::Offset),
            Column { from: ColumnFrom::Part(Meta::Key, 2), ..nullable("part", ColumnType::Integer) },
        ]
    }

    fn json() -> Json {
        JsonOptions {}.build_json(context(columns())).unwrap()
    }

    /// A payload of one of two shapes, mostly the first, and seldom one that has something unusual or wrong.
    fn payload(random: &mut Random, second: bool) -> Vec<u8> {
        let id = [
            "a",
            "sensor_0001",
            "a name of thirty-two bytes, just",
            "one longer than what is copied at once",
            "é😀",
            "",
        ][random.below(6)];
        let value = ["22.13", "-0.0", "1013", "0.30000000000000004", "-12", "1e-7", "null"][random.below(7)];
        let note = match random.below(60) {
            0 => "7",
            1 => "\"a\\n\"",
            other => ["null", "\"\"", "\"some words\""][other % 3],
        };
        let at = match random.below(4) {
            0 => format!("{}", 1_752_999_556_000 + random.below(1_000_000)),
            1 => format!("\"2025-07-{:02}T08:19:16.25Z\"", 1 + random.below(30)),
            _ => format!("\"2025-07-20T08:19:{:02}.{:06}Z\"", random.below(60), random.below(1_000_000)),
        };
        let n = random.below(100_000);
        let text = match second {
            false => {
                format!(
                    r#"{{"id": "{id}", "data": {{"value": {value}, "at": {at}}}, "note": {note}, "n": {n}, "x": "y", "ok": true}}"#
                )
            }
            true => format!(r#"{{"n":{n},"id":"{id}","data":{{"at":{at},"value":{value}}}}}"#),
        };
        let mut bytes = text.into_bytes();
        if random.once_in(40) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] = random.bits() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => bytes.extend(b" "),
                4 => bytes.extend(b"x"),
                _ => bytes = br#"{"id": "\u00e9", "data": {"value": null}, "n": 5.0}"#.to_vec(),
            }
        }
        bytes
    }

    #[test]
    fn what_is_read_side_by_side_is_what_each_alone_gives() {
        let mut random = Random::new(3);
        let mut format = json();
        let mut n_good = 0;
        for batch in 0..300 {
            let mut payloads = Vec::new();
            while payloads.len() < 150 {
                let second = random.once_in(4);
                (0..=random.below(100)).for_each(|_| payloads.push(payload(&mut random, second)));
            }
            let is_there: Vec<bool> = payloads.iter().map(|_| batch % 3 == 0 || !random.once_in(60)).collect();
            let keys = payloads.iter().map(|_| match random.below(120) {
                0 => None,
                1 => Some(&b"\xff"[..]),
                2 => Some(&b"key/x"[..]),
                other => Some(if other % 2 == 0 { &b"key/7"[..] } else { b"key" }),
            });
            let keys = BinaryArray::from_iter(keys);
            let there = payloads.iter().zip(&is_there).map(|(payload, is_there)| is_there.then_some(&payload[..]));
            let all = raw_rows(&there.collect::<Vec<_>>());
            let of = |range: Range<usize>| RawRows {
                payloads: all.payloads.slice(range.start, range.len()),
                keys: Some(keys.slice(range.start, range.len())),
                ..raw_rows(&[])
            };
            let skipped = random.below(10);
            let offsets: Vec<u64> = (skipped as u64..payloads.len() as u64).collect();
            let decoded = format.decode(&of(skipped..payloads.len()), &offsets).unwrap();
            let (mut good, mut bad) =
                ((0..decoded.batch.num_rows()).map(|row| row_of(&decoded.batch, row)), decoded.rejected.into_iter());
            let rows = decoded.rows.unwrap_or((0..offsets.len() as u32).collect());
            let mut rows = rows.into_iter();
            for (row, offset) in offsets.iter().enumerate() {
                let idx = skipped + row;
                // One that has seen nothing has only the parser.
                let mut alone = json().decode(&of(idx..idx + 1), &[*offset]).unwrap();
                match alone.rejected.pop() {
                    Some((_, why)) => assert_eq!(bad.next(), Some((row as u32, why))),
                    None => {
                        assert_eq!(
                            good.next(),
                            Some(row_of(&alone.batch, 0)),
                            "{}",
                            String::from_utf8_lossy(&payloads[idx])
                        );
                        assert_eq!(rows.next(), Some(row as u32));
                        n_good += 1;
                    }
                }
            }
            assert_eq!((good.next(), rows.next()), (None, None));
            assert_eq!(bad.next(), None);
        }
        let n_in_runs = format.layouts.n_in_runs;
        assert!(20_000 < n_good && n_good / 2 < n_in_runs, "{n_good} good, {n_in_runs} of them in runs");
    }

    #[test]
    fn a_run_ends_before_a_value_that_cannot_be() {
        for odd in ["7", "null", r#""a\nb""#, "[]"] {
            let mut format = json();
            let payload = |id: &str| format!(r#"{{"id": {id}, "n": 1}}"#).into_bytes();
            let mut payloads = vec![payload(r#""a""#); 60];
            payloads[30] = payload(odd);
            let payloads = BinaryArray::from_iter_values(&payloads);
            let mut raw = raw_rows(&[]);
            raw.payloads = payloads.slice(0, 4);
            raw.keys = Some(raw.payloads.clone());
            assert_eq!(format.decode(&raw, &[0; 4]).unwrap().batch.num_rows(), 4);
            let Json { table, fields, layouts, .. } = &mut format;
            assert_eq!(layouts.read_run(&payloads, 4..60, fields, table.row()), 26, "{odd}");
        }
    }

    #[test]
    fn rows_that_cannot_be_are_seldom_tried_together() {
        let payloads = vec![br#"{"n": 1}"#.to_vec(); 10_000];
        let mut raw = raw_rows(&payloads.iter().map(|payload| Some(&payload[..])).collect::<Vec<_>>());
        raw.keys = Some(raw.payloads.clone());
        let mut format = json();
        let decoded = format.decode(&raw, &(0..10_000).collect::<Vec<u64>>()).unwrap();
        assert_eq!(decoded.rejected.len(), 10_000);
        assert!(format.layouts.n_tried < 1_000, "{} rows were tried together", format.layouts.n_tried);
    }

    #[test]
    fn a_run_ends_before_what_is_not_alike() {
        let alike = |n: usize| format!(r#"{{"id": "a", "n": {n}}}"#).into_bytes();
        let mut payloads: Vec<Vec<u8>> = (0..100).map(alike).collect();
        payloads[50] = br#"{"n": 1, "id": "a"}"#.to_vec();
        payloads[80] = br#"{"id": "a", "n": 1} "#.to_vec();
        let payloads = BinaryArray::from_iter_values(&payloads);
        let mut format = json();
        // A run that ended early is followed by one of half the length.
        for (alone, n_read) in [(0..4, 46), (50..54, 26), (80..84, 16)] {
            let mut raw = raw_rows(&[]);
            raw.payloads = payloads.slice(alone.start, alone.len());
            raw.keys = Some(raw.payloads.clone());
            format.decode(&raw, &[0; 4]).unwrap();
            let Json { table, fields, layouts, .. } = &mut format;
            let rows = alone.end..(alone.end + RUN).min(payloads.len());
            assert!(layouts.expects_run(), "from row {}", alone.end);
            assert_eq!(layouts.read_run(&payloads, rows, fields, table.row()), n_read, "from row {}", alone.end);
            layouts.after_run(n_read);
        }
    }
}
