//! Dead letters by reason, in few words: reasons hold values, of which there is no end.

use std::collections::BTreeMap;

/// The reason that stands for all that came when there were too many.
pub const OTHER: &str = "other";

/// More reasons of one stage are counted together, so that metrics stay few.
const MAX_REASONS: usize = 20;
/// Of a reason this many characters are kept.
const MAX_CHARACTERS: usize = 120;

/// How many dead letters of each stage there were of each reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<usize, Families>);

/// How many dead letters of one stage there were of each reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Families(BTreeMap<String, u64>);

impl Reasons {
    /// A row of a stage became a dead letter.
    pub fn add(&mut self, stage: usize, reason: &str) {
        self.0.entry(stage).or_default().add(reason, 1);
    }

    /// Stage, reason, count.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str, u64)> {
        self.0.iter().flat_map(|(stage, reasons)| reasons.iter().map(|(reason, count)| (*stage, reason, count)))
    }
}

impl Families {
    /// So many rows became dead letters for one reason.
    pub fn add(&mut self, reason: &str, count: u64) {
        let family = family_of(reason);
        let is_known = self.0.contains_key(&family) || self.0.len() < MAX_REASONS;
        *self.0.entry(if is_known { family } else { OTHER.into() }).or_default() += count;
    }

    /// Reason, count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }
}

/// A reason without the values in it: what stands in quotes and all numbers become `…`.
fn family_of(reason: &str) -> String {
    let mut family = String::new();
    let mut quote = None;
    let mut is_in_number = false;
    for letter in reason.chars() {
        if family.len() >= MAX_CHARACTERS {
            break;
        }
        match (quote, letter) {
            (Some(end), _) if letter == end => {
                quote = None;
                family.push('…');
                family.push(letter);
            }
            (Some(_), _) => {}
            (None, '`' | '"') => {
                quote = Some(letter);
                family.push(letter);
            }
            (None, '0'..='9') => {
                if !is_in_number {
                    family.push('…');
                }
            }
            (None, _) => family.push(letter),
        }
        is_in_number = quote.is_none() && (letter.is_ascii_digit() || (is_in_number && letter == '.'));
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_values_are_one() {
        for (reason, family) in [
            ("`value` is `x12`, expected a number", "`…` is `…`, expected a number"),
            ("line 12, column 4: \"}\" is missing", "line …, column …: \"…\" is missing"),
            ("offset 4 and 5", "offset … and …"),
            ("an end that never comes: `open", "an end that never comes: `"),
        ] {
            assert_eq!(family_of(reason), family);
        }
    }

    #[test]
    fn there_are_only_so_many_of_a_stage() {
        let mut reasons = Reasons::default();
        for number in 0..100 {
            reasons.add(3, &"x".repeat(number + 1));
        }
        reasons.add(3, "x");
        let all: Vec<_> = reasons.iter().collect();
        assert_eq!(all.len(), MAX_REASONS + 1);
        assert!(all.contains(&(3, OTHER, 80)) && all.contains(&(3, "x", 2)), "{all:?}");
    }
}
