//! When and how a process stops in the middle of a call.

use pipeline_testkit::Random;

use crate::draw::happens;
use crate::world::Mode;

/// A process that will stop in the middle of a call.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// After so many calls.
    pub in_calls: u32,
    /// Only calls whose names have this in them count.
    pub during: &'static str,
    /// After the effect, before the answer; otherwise before the effect.
    pub is_after: bool,
    /// In which way.
    pub how: How,
}

/// How a process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is killed.
    Kill,
    /// Its machine loses power: what was not synced may be gone.
    PowerCut,
    /// It is stopped for so many milliseconds.
    Pause(u64),
}

/// Calls at which a crash is worth most; as often as at one of them it comes at any call.
const MOMENTS: &[&str] = &[
    "logs ",
    "fsync: logs",
    " commits ",
    "is synced",
    "is claimed",
    "is cut",
    "stores marks",
    "publishes",
    "drops the log",
    "drops unpublished",
    "writes spikes",
    "writes the sinks",
    "forget",
    "buries",
    "delivered",
];

/// A crash at a drawn moment.
pub fn draw_crash(random: &mut Random, mode: Mode) -> Crash {
    let how = match mode {
        Mode::Folder if happens(random, 450) => How::PowerCut,
        Mode::Shared if happens(random, 450) => How::Pause(20 + random.below(1_500) as u64),
        _ => How::Kill,
    };
    let is_after = random.once_in(2);
    match random.once_in(2) {
        true => Crash { in_calls: 1 + random.below(60) as u32, during: "", is_after, how },
        false => {
            let during = MOMENTS[random.below(MOMENTS.len())];
            Crash { in_calls: 1 + random.below(5) as u32, during, is_after, how }
        }
    }
}
