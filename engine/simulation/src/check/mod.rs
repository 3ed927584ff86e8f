//! Is everything as it would be had nothing happened?

mod alerts;
mod letters;
mod rows;

use std::sync::Arc;

use crate::bugs::Bug;
use crate::expected::{Expected, expected};
use crate::input::{Input, partition};
use crate::world::State;

/// Compares what there is after a seed with an undisturbed run; each difference is one line.
pub fn differences(state: &State, variant: u64, input: &Arc<Input>, bug: Option<Bug>) -> Vec<String> {
    let n_partitions = input.partitions.len() as u32;
    let starts = (0..n_partitions).map(|number| {
        let name = partition(number).name.to_string();
        let first = input.partitions[number as usize].first().map_or(0, |row| row.offset);
        state.record.starts.get(&name).copied().unwrap_or(first)
    });
    let starts: Vec<u64> = starts.collect();
    let expected = expected(variant, input, &starts, bug);
    let mut found = Differences { state, input, expected: &expected, starts: &starts, words: Vec::new() };
    found.rows();
    found.pulses();
    found.marks();
    found.alerts();
    found.letters();
    found.words
}

struct Differences<'a> {
    state: &'a State,
    input: &'a Input,
    expected: &'a Expected,
    /// By partition.
    starts: &'a [u64],
    words: Vec<String>,
}

impl Differences<'_> {
    fn tasks(&self) -> impl Iterator<Item = (u32, String)> + use<> {
        (0..self.input.partitions.len() as u32).map(|number| (number, partition(number).name.to_string()))
    }

    fn say(&mut self, words: String) {
        if self.words.len() < 12 {
            self.words.push(words);
        }
    }
}
