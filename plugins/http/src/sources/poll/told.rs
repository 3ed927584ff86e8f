//! What people hear of requests that do not work: once when that is so, and once when they are back.
//!
//! When none works any more, that is an error of the source, which the engine tells and counts. The others are told here,
//! together: those that were refused at once, those that may come back by themselves when they have not for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline_stage::{Result, StageError};
use tracing::{info, warn};

use super::request::Again;
use super::rounds::State;

/// What is mended by asking again so soon is nothing to be told.
const TELL_AFTER: Duration = Duration::from_secs(60);
/// So many are named; the others are counted.
const NAMED: usize = 3;

/// What was told.
pub struct Told {
    /// The source's id.
    id: String,
    /// None of the requests works, and the engine knows.
    is_down: bool,
    /// Those that do not work while others do, by number.
    failing: BTreeSet<usize>,
}

impl Told {
    /// Nothing was told yet.
    pub fn new(id: &str) -> Self {
        Told { id: id.into(), is_down: false, failing: BTreeSet::new() }
    }

    /// A request works: says whether none did.
    pub fn is_back(&mut self) -> bool {
        std::mem::take(&mut self.is_down)
    }

    /// Tells what is new.
    ///
    /// # Errors
    /// `Transient`, once, when no request works any more. The requests keep their own pauses: there is none to be made.
    pub fn tell(&mut self, states: &[State]) -> Result<()> {
        let failing: Vec<(usize, &State)> =
            states.iter().enumerate().filter(|(_, state)| state.failing().is_some()).collect();
        if !failing.is_empty() && failing.len() == states.len() {
            if std::mem::replace(&mut self.is_down, true) {
                return Ok(());
            }
            let all: Vec<&State> = failing.iter().map(|(_, state)| *state).collect();
            let words = in_words(&all, states.len()).unwrap_or_default();
            return Err(StageError::transient(words).retry_after(Duration::ZERO));
        }
        let failing: Vec<(usize, &State)> = failing.into_iter().filter(|(_, state)| is_worth_telling(state)).collect();
        let new: Vec<&State> =
            failing.iter().filter(|(number, _)| !self.failing.contains(number)).map(|(_, state)| *state).collect();
        if let Some(words) = in_words(&new, states.len()) {
            warn!("{}: {words}; the others go on, and what does not work is asked again", self.id);
        }
        let is_back = |number: &&usize| states[**number].failing().is_none();
        let back: Vec<&State> = self.failing.iter().filter(is_back).map(|number| &states[*number]).collect();
        if !back.is_empty() {
            let names: Vec<String> = back.iter().take(NAMED).map(|state| quoted(state)).collect();
            info!("{}: answered again: {}{}", self.id, names.join(", "), further(back.len()));
        }
        self.failing.retain(|number| states[*number].failing().is_some());
        self.failing.extend(failing.into_iter().map(|(number, _)| number));
        Ok(())
    }
}

fn is_worth_telling(state: &State) -> bool {
    state
        .failing()
        .is_some_and(|failing| failing.failure.again == Again::Seldom || TELL_AFTER <= failing.since.elapsed())
}

/// What does not work, and why; none when nothing does not.
pub fn in_words(failing: &[&State], n_requests: usize) -> Option<String> {
    let first = failing.first()?.failing()?;
    if n_requests == 1 {
        return Some(first.failure.words.clone());
    }
    let why = failing.iter().take(NAMED).filter_map(|state| {
        let failing = state.failing()?;
        Some(format!("{}: {}", quoted(state), failing.failure.words))
    });
    let why: Vec<String> = why.collect();
    let count = failing.len();
    Some(format!("{count} of {n_requests} requests have no answer: {}{}", why.join(", "), further(count)))
}

fn quoted(state: &State) -> String {
    format!("`{}`", pipeline_stage::printable(state.name().unwrap_or_default(), 100))
}

fn further(count: usize) -> String {
    match count.checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(others) => format!(", and {others} more"),
    }
}
