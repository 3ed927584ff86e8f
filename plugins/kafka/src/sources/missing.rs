//! Rows that are not there any more, in words: what was wanted, what is there, and the choices.

use pipeline_stage::Position;

use crate::consumer::Place;
use crate::health::grouped;

/// What can be done when a partition cannot be gone on with.
pub(crate) const CHOICES: &str =
    "`--cold-start` goes on with what is there, with empty windows for this partition and all others as they are";

/// What the brokers have of a partition: the rows from `low` on, before `high`, in a topic of this id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds<'a> {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) topic_id: Option<&'a str>,
}

/// Why a partition cannot be gone on with at a position; none when it can.
pub(crate) fn missing(place: &Place, from: &Position, there: Bounds<'_>) -> Option<String> {
    let (at, low, high) = (grouped(from.offset), grouped(there.low), grouped(there.high));
    let found = format!("{place} goes on at offset {at}, but the rows there are from {low} to {high}");
    if let Some(words) = made_anew(&place.topic, from.detail.as_deref(), there.topic_id) {
        return Some(format!("{place} goes on at offset {at}, but {words}; the rows there are from {low} to {high}"));
    }
    if from.offset < there.low {
        let gone = grouped(there.low - from.offset);
        return Some(format!("{found}: up to {gone} were deleted before they were read; longer retention prevents it"));
    }
    let is_beyond = there.high < from.offset;
    is_beyond.then(|| format!("{found}: the topic was deleted and made anew, or these are other brokers"))
}

/// Whether a topic is another one of the same name, in words.
pub(crate) fn made_anew(topic: &str, was: Option<&str>, is: Option<&str>) -> Option<String> {
    match (was, is) {
        (Some(was), Some(is)) if was != is => {
            Some(format!("`{topic}` was deleted and made anew: its id was {was}, it is {is}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_wanted_and_what_is_there() {
        let place = Place { topic: "iot".into(), partition: 3 };
        let at = |offset, id: &str| Position { offset, detail: Some(id.into()) };
        let there = |low, high| Bounds { low, high, topic_id: Some("a") };
        for (from, there, words) in [
            (
                at(1_000, "a"),
                there(5_000, 9_000),
                "partition 3 of `iot` goes on at offset 1,000, but the rows there are from 5,000 to 9,000: up to 4,000 \
                 were deleted before they were read; longer retention prevents it",
            ),
            (
                at(1_000, "a"),
                there(0, 12),
                "partition 3 of `iot` goes on at offset 1,000, but the rows there are from 0 to 12: the topic was deleted \
                 and made anew, or these are other brokers",
            ),
            (
                at(1_000, "b"),
                there(0, 9_000),
                "partition 3 of `iot` goes on at offset 1,000, but `iot` was deleted and made anew: its id was b, it is \
                 a; the rows there are from 0 to 9,000",
            ),
        ] {
            assert_eq!(missing(&place, &from, there).as_deref(), Some(words));
        }
        for from in [at(0, "a"), at(9, "a"), Position::at(5)] {
            assert_eq!(missing(&place, &from, there(0, 9)), None, "{from:?}");
        }
    }
}
