//! Payloads of a shape that was seen before, read without a JSON parser.
//!
//! Producers write the same text around their values again and again. What stands between two values is kept as
//! a literal, in a graph whose states are "behind the value of this field". A payload is read by comparing every byte
//! with one of the literals that were seen in that place, and by checking each value for itself. Whatever does not fit
//! is left to the JSON parser, which has the last word on what is right, and whose good payloads teach new shapes.
//!
//! Why a path through the graph is JSON: each literal closes and opens the same containers wherever it stands behind the
//! same field, so a walk from the start to an end is an object, nested as it should be. Only names could come twice; the
//! declared ones are watched as they are entered, the others may.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::BinaryArray;

use super::fields::Fields;
use super::literals::{Learned, learn};
use super::runs::Run;
use super::steps::{Next, State, Step};
use super::values::skip;
use super::wanted::wanted;
use crate::formats::rows::{RUN, Row};

/// More steps than this, and all are forgotten: payloads without a fixed shape are not worth the memory.
const MAX_STEPS: usize = 1_024;

/// So many good payloads of no known shape, less those of a known one, and only one of [`TRIED`] is tried: where names are
/// never the same, trying costs as much as the parser.
const MANY_UNKNOWN: u32 = 256;
const TRIED: u32 = 32;

/// How many payloads may be learned from at once, and how many more with each batch.
const LEARNINGS: u32 = 64;
const LEARNINGS_OF_BATCH: u32 = 8;

/// Larger ones are not learned from: their literals may be large, too.
const MAX_PAYLOAD: usize = 16 << 10;

/// So many payloads in a row that are each like the one before are a reason to read the next ones side by side.
const ENOUGH_ALIKE: usize = 2;

/// A run shorter than this costs more than it saves; no shorter one is begun.
const SHORTEST_RUN: usize = 4;

/// Payloads that are longer on average are read alone: side by side, each step is somewhere else in memory. With 220 bytes
/// that took as long, with 330 a quarter more, with 540 and with 1,000 one and a half times to twice as long.
const LONGEST_IN_RUN: usize = 256;

/// Where all runs are shorter, so many payloads are read alone between two.
const LONGEST_PAUSE: usize = 512;

/// Fields are watched by a bit each.
const MAX_FIELDS: usize = 64;

/// The shapes that were seen.
pub(super) struct Layouts {
    /// By number; the first is the start of a payload.
    states: Vec<State>,
    /// The numbers of the others: where in the object their value stands.
    numbers: HashMap<Box<[u8]>, usize>,
    n_steps: usize,
    learnings: u32,
    /// How many good payloads had no known shape, less those that had one.
    n_unknown: u32,
    /// How many are not tried before the next one is.
    untried: u32,
    /// The last one was tried, and is of no known shape.
    is_new: bool,
    /// How many in a row were each like the one before it.
    n_alike: usize,
    /// The payloads of the batch are short enough to be read side by side.
    are_short: bool,
    /// How many are read side by side.
    run: usize,
    /// How many are read alone after a run that was too short, and how many of them are left.
    pause: usize,
    paused: usize,
    /// How many the last run was to have.
    tried: usize,
    #[cfg(test)]
    pub n_in_runs: usize,
    #[cfg(test)]
    pub n_tried: usize,
}

impl Layouts {
    /// None are known.
    pub fn new() -> Self {
        Layouts {
            states: vec![State::default()],
            numbers: HashMap::new(),
            n_steps: 0,
            learnings: LEARNINGS,
            n_unknown: 0,
            untried: 0,
            is_new: false,
            n_alike: 0,
            are_short: true,
            run: RUN,
            pause: 1,
            paused: 0,
            tried: 0,
            #[cfg(test)]
            n_in_runs: 0,
            #[cfg(test)]
            n_tried: 0,
        }
    }

    /// A batch begins, of so many payloads with so many bytes.
    pub fn begin_batch(&mut self, n_payloads: usize, n_bytes: usize) {
        self.learnings = (self.learnings + LEARNINGS_OF_BATCH).min(LEARNINGS);
        self.are_short = n_bytes <= n_payloads * LONGEST_IN_RUN;
    }

    /// Reads a payload of a known shape into the row. False: it is of no known shape, or something is wrong with it; the
    /// row may be half full then.
    pub fn read(&mut self, payload: &[u8], fields: &Fields, row: &mut Row) -> bool {
        self.is_new = false;
        if 0 < self.untried {
            self.untried -= 1;
            return false;
        }
        self.n_alike += 1;
        self.paused = self.paused.saturating_sub(1);
        let is_known = self.try_read(payload, fields, row).is_some();
        if is_known {
            self.n_unknown = self.n_unknown.saturating_sub(1);
        } else {
            self.n_alike = 0;
        }
        is_known
    }

    /// Whether the next payloads are most likely alike.
    pub fn expects_run(&self) -> bool {
        self.are_short && ENOUGH_ALIKE <= self.n_alike && self.paused == 0
    }

    /// Reads payloads as long as they are of the shape of the last one, and gives how many these are. What the columns have
    /// got of others has to be taken back; then [`Self::after_run`] has to be told how many rows were good.
    pub fn read_run(&mut self, payloads: &BinaryArray, rows: Range<usize>, fields: &Fields, row: &mut Row) -> usize {
        self.tried = rows.len().min(self.run);
        let mut run = Run::new(payloads, rows.start..rows.start + self.tried);
        let is_whole = self.walk(&mut run, fields, row).is_some();
        if is_whole { run.len() } else { 0 }
    }

    /// Longer runs after one that was good to its end, shorter ones after another; after a very short one a pause.
    pub fn after_run(&mut self, n_good: usize) {
        if n_good == self.tried {
            self.run = (self.run * 2).min(RUN);
        } else {
            self.n_alike = 0;
            self.run = (self.run / 2).max(SHORTEST_RUN);
        }
        if n_good < SHORTEST_RUN.min(self.tried) {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.paused = self.pause;
        } else {
            self.pause = 1;
        }
        self.n_unknown = self.n_unknown.saturating_sub(n_good as u32);
        #[cfg(test)]
        {
            self.n_in_runs += n_good;
            self.n_tried += self.tried;
        }
    }

    /// The way of the last payload, with all of a run. None when none of them goes it.
    fn walk(&self, run: &mut Run<'_>, fields: &Fields, row: &mut Row) -> Option<()> {
        let (mut state, mut seen) = (0, 0);
        while 0 < run.len() {
            let step = self.states[state].last()?;
            if seen & step.enters != 0 {
                return None;
            }
            seen |= step.enters;
            run.literal(&step.literal);
            state = match step.next {
                Next::Wanted { column, state } => {
                    run.wanted(row, &[column]);
                    state
                }
                Next::Shared { field, state } => {
                    run.wanted(row, fields.columns(field)?);
                    state
                }
                Next::Any { state } => {
                    run.any();
                    state
                }
                Next::End => {
                    run.end();
                    return Some(());
                }
            };
        }
        None
    }

    fn try_read(&mut self, payload: &[u8], fields: &Fields, row: &mut Row) -> Option<()> {
        let (mut at, mut state, mut seen) = (0, 0, 0);
        loop {
            let Some(step) = self.states[state].step(payload, at, &mut self.n_alike) else {
                self.is_new = true;
                return None;
            };
            if seen & step.enters != 0 {
                return None;
            }
            seen |= step.enters;
            at += step.len;
            (at, state) = match step.next {
                Next::Wanted { column, state } => (wanted(payload, at, column, row)?, state),
                Next::Shared { field, state } => (shared(payload, at, fields.columns(field)?, row)?, state),
                Next::Any { state } => (skip(payload, at)?, state),
                Next::End => return Some(()),
            };
        }
    }

    /// Learns from a payload that the JSON parser has read without complaint.
    pub fn learn(&mut self, payload: &[u8], fields: &Fields) {
        // One of a known shape may have a value that is unusual, such as a text with escapes.
        if !self.is_new {
            return;
        }
        self.n_unknown += 1;
        if self.n_unknown == MANY_UNKNOWN {
            (self.n_unknown, self.untried) = (MANY_UNKNOWN - 1, TRIED - 1);
        }
        if self.learnings == 0 || MAX_FIELDS < fields.len() || MAX_PAYLOAD < payload.len() {
            return;
        }
        self.learnings -= 1;
        let Some(shape) = learn(payload, fields) else { return };
        if MAX_STEPS < self.n_steps.max(self.states.len()) + shape.values.len() + 1 {
            self.states = vec![State::default()];
            self.numbers.clear();
            self.n_steps = 0;
        }
        let mut state = 0;
        for Learned { literal, enters, field, place } in shape.values {
            let n_states = self.states.len();
            let behind = *self.numbers.entry(place.into()).or_insert(n_states);
            if behind == n_states {
                self.states.push(State::default());
            }
            let next = match field.map(|field| (field, fields.columns(field))) {
                Some((_, Some(&[column]))) => Next::Wanted { column, state: behind },
                Some((field, _)) => Next::Shared { field, state: behind },
                None => Next::Any { state: behind },
            };
            self.n_steps += usize::from(self.states[state].add(Step::new(literal, enters, next)));
            state = behind;
        }
        let (literal, enters) = shape.end;
        self.n_steps += usize::from(self.states[state].add(Step::new(literal, enters, Next::End)));
    }
}

/// Reads a value for several columns.
fn shared(payload: &[u8], at: usize, columns: &[usize], row: &mut Row) -> Option<usize> {
    columns.iter().try_fold(at, |_, column| wanted(payload, at, *column, row))
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{Column, ColumnType};
    use pipeline_testkit::Random;

    use super::super::{Json, JsonOptions};
    use crate::formats::fixtures::{column, context, decode, decode_one, from, nullable};

    fn columns() -> Vec<Column> {
        vec![
            column("id", ColumnType::String),
            from("data.value", nullable("value", ColumnType::Float)),
            from("data.at", nullable("at", ColumnType::Timestamp)),
            nullable("n", ColumnType::Integer),
            from("list.1", nullable("second", ColumnType::Float)),
            nullable("ok", ColumnType::Boolean),
        ]
    }

    fn json() -> Json {
        JsonOptions {}.build_json(context(columns())).unwrap()
    }

    /// A payload, most likely a good one, of one of many shapes.
    fn payload(random: &mut Random) -> Vec<u8> {
        let mut members = vec![
            format!("\"id\":{}", pick(random, &["\"a\"", "\"sensor_0001\"", "\"é😀\"", "\"a\\n\"", "\"\"", "7"])),
            format!("\"data\":{}", data(random)),
            format!(
                "\"n\":{}",
                pick(
                    random,
                    &["5", "-5", "null", "5.0", "1e2", "9223372036854775807", "18446744073709551616", "\"5\""]
                )
            ),
            format!(
                "\"list\":{}",
                pick(random, &["[1,2,3]", "[1.5,-2.25]", "[]", "[null,null]", "[[1],2]", "{\"1\":4}", "7"])
            ),
            format!("\"ok\":{}", pick(random, &["true", "false", "null", "0"])),
            format!(
                "\"other\":{}",
                pick(random, &["\"x\"", "1e-7", "{\"id\":\"b\",\"n\":1}", "[{\"id\":1}]", "{}", "-0", "nul"])
            ),
        ];
        for _ in 0..random.below(3) {
            members.swap(random.below(6), random.below(6));
        }
        members.truncate(6 - random.below(3) / 2);
        if random.once_in(12) {
            members.push(members[random.below(members.len())].clone());
        }
        let comma = if random.once_in(2) { ", " } else { "," };
        let mut bytes =
            format!("{{{}}}{}", members.join(comma), pick(random, &["", "", "", " ", "\n", " x"])).into_bytes();
        if random.once_in(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.bits() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }

    fn data(random: &mut Random) -> String {
        let value =
            pick(random, &["22.13", "-0.0", "-0", "1013", "0.30000000000000004", "1e400", "1.", "null", "\"x\""]);
        let at =
            pick(random, &["\"2025-07-20T08:19:16Z\"", "1752999556", "1752999556412.5", "null", "\"yesterday\"", "-1"]);
        match random.below(5) {
            4 => pick(random, &["null", "7", "\"x\"", "[]", "{}"]).into(),
            0 => format!("{{\"at\":{at},\"value\":{value}}}"),
            1 => format!("{{\"value\":{value}, \"more\":{{\"value\":1}}}}"),
            _ => format!("{{\"value\":{value},\"at\":{at}}}"),
        }
    }

    fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
        // The first are the usual ones.
        from[if random.once_in(3) { random.below(from.len()) } else { random.below(from.len().min(2)) }]
    }

    #[test]
    fn what_is_read_without_the_parser_is_what_the_parser_reads() {
        let mut random = Random::new(7);
        let (mut learned, mut n_known, mut n_good) = (json(), 0, 0);
        for _ in 0..60_000 {
            let payload = payload(&mut random);
            learned.layouts.begin_batch(1, 100);
            let Json { table, fields, layouts, .. } = &mut learned;
            let is_known = layouts.read(&payload, fields, table.row());
            // One that has seen nothing has only the parser.
            let right = decode_one(&mut json(), &payload);
            let words = String::from_utf8_lossy(&payload).into_owned();
            assert_eq!(decode_one(&mut learned, &payload), right, "{words}");
            (n_known, n_good) = (n_known + u32::from(is_known), n_good + u32::from(right.is_ok()));
        }
        assert!(20_000 < n_good && n_good / 2 < n_known, "{n_known} of {n_good} good payloads had a known shape");
    }

    #[test]
    fn a_change_of_order_is_learned_once() {
        let mut format = json();
        for payload in [
            r#"{"id": "a", "data": {"value": 1.5}}"#,
            r#"{"data": {"value": 1.5}, "id": "a"}"#,
            r#"{"id": "a", "x": 5, "data": {"y": [1, 2], "value": 1.5}}"#,
        ] {
            for is_known in [false, true, true] {
                let Json { table, fields, layouts, .. } = &mut format;
                assert_eq!(layouts.read(payload.as_bytes(), fields, table.row()), is_known, "{payload}");
                assert_eq!(decode_one(&mut format, payload.as_bytes()).unwrap(), "a 1.5 null null null null");
            }
        }
    }

    #[test]
    fn a_time_that_is_no_text_is_none_before_the_first_time() {
        let mut format = json();
        decode_one(&mut format, br#"{"id": "a", "data": {"at": 1752999556}}"#).unwrap();
        let odd = [&br#"{"id": "a", "data": {"at": ""#[..], &[0; 10], br#"T08:19:16Z"}}"#].concat();
        assert!(decode_one(&mut format, &odd).is_err());
    }

    #[test]
    fn unusual_values_of_a_known_shape_are_not_held_against_it() {
        let mut format = json();
        for _ in 0..2_000 {
            decode_one(&mut format, br#"{"id": "\u00b0C"}"#).unwrap();
        }
        assert!(format.layouts.n_unknown < 10);
    }

    #[test]
    fn only_short_payloads_are_read_side_by_side() {
        for (size, is_run) in [(1, true), (1_000, false)] {
            let mut format = json();
            let payload = format!(r#"{{"id":"a","x":"{}","data":{{"value":2}}}}"#, "x".repeat(size)).into_bytes();
            let decoded = decode(&mut format, &[Some(payload.as_slice()); 200]).unwrap();
            assert_eq!((decoded.batch.num_rows(), decoded.rejected.len()), (200, 0));
            assert_eq!(0 < format.layouts.n_in_runs, is_run, "{size} bytes");
        }
    }

    #[test]
    fn endless_new_shapes_take_a_bounded_memory() {
        let mut format = json();
        for number in 0..3_000 {
            format.layouts.begin_batch(1, 100);
            let payload = format!(r#"{{"k{number}": 1, "id": "a", "data": {{"value": 2}}, "m{number}": 2}}"#);
            decode_one(&mut format, payload.as_bytes()).unwrap();
            assert!(format.layouts.n_steps <= super::MAX_STEPS && format.layouts.states.len() <= super::MAX_STEPS + 1);
        }
    }

    #[test]
    fn payloads_that_have_no_shape_are_seldom_tried_and_one_that_comes_back_is_found() {
        let mut format = json();
        let mut is_tried = |payload: &str| {
            format.layouts.begin_batch(1, 100);
            let is_tried = format.layouts.untried == 0;
            decode_one(&mut format, payload.as_bytes()).unwrap();
            is_tried
        };
        let n_tried = (0..20_000).filter(|number| is_tried(&format!(r#"{{"k{number}": 1, "id": "a"}}"#))).count();
        assert!(256 < n_tried && n_tried < 2_000, "{n_tried}");
        let n_tried = (0..20_000).filter(|_| is_tried(r#"{"id": "a"}"#)).count();
        assert!(19_900 < n_tried, "{n_tried}");
        assert_eq!(format.layouts.n_unknown, 0);
    }

    #[test]
    fn reads_as_the_first_and_as_a_later_row_of_a_batch() {
        let mut format = json();
        let payload: &[u8] =
            r#"{"id":"é","data":{"value":-1.25,"at":"2025-07-20T08:19:16Z"},"n":3,"ok":true}"#.as_bytes();
        let decoded = decode(&mut format, &[Some(payload); 5]).unwrap();
        assert!(decoded.rejected.is_empty());
        for row in 0..5 {
            let words = crate::formats::fixtures::row_of(&decoded.batch, row);
            assert_eq!(words, "é -1.25 2025-07-20T08:19:16Z 3 null true");
        }
    }
}
