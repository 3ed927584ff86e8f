//! When each request is made: in rounds, and again after it has failed.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use pipeline_inbox::now;
use pipeline_stage::Timestamp;
use reqwest::header::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::request::{Again, Failure, Outcome, Request};
use super::{HttpOptions, Unchanged};

/// Many enough that a hundred answers of a tenth of a second come within two, few enough for any API.
const MOST_UNDER_WAY: usize = 8;
/// How long something that does not work is left alone at the least, before it is asked as often as the others.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The first pause after a failure, when rounds are not shorter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The requests, and when they are made.
pub struct Rounds {
    requests: Vec<State>,
    every: Duration,
    unchanged: Unchanged,
    /// Each request is to be answered once.
    once: bool,
    begin: Interval,
    began: Option<Timestamp>,
    /// Those that are to be made as soon as there is room.
    due: VecDeque<usize>,
    under_way: JoinSet<(usize, Outcome)>,
}

/// A request, and how it went.
pub struct State {
    request: Arc<Request>,
    /// Due or under way.
    is_busy: bool,
    /// The last answer was one, even if there was nothing new in it.
    was_answered: bool,
    failing: Option<Failing>,
    last: Option<Last>,
}

/// Since when a request does not work.
pub struct Failing {
    /// What went wrong last.
    pub failure: Failure,
    /// Since the first failure.
    pub since: Instant,
    /// When it is made again.
    pub again: Instant,
    pauses: ExponentialBackoff,
}

/// What tells whether a document is the same as the last one.
struct Last {
    tag: Option<HeaderValue>,
    hash: [u8; 32],
}

impl State {
    /// Its name; none when it is the only one.
    pub fn name(&self) -> Option<&str> {
        self.request.name.as_deref()
    }

    /// What does not work, if anything does not.
    pub fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }
}

impl Rounds {
    /// The first round begins so much later; none is where each request is to be answered `once`, as soon as can be.
    pub fn new(requests: &[Arc<Request>], options: &HttpOptions, first: Option<Duration>) -> Self {
        let state = |request: &Arc<Request>| State {
            request: request.clone(),
            is_busy: false,
            was_answered: false,
            failing: None,
            last: None,
        };
        let mut begin = interval_at(Instant::now() + first.unwrap_or_default(), options.every.0);
        begin.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Rounds {
            requests: requests.iter().map(state).collect(),
            every: options.every.0,
            unchanged: options.unchanged,
            once: first.is_none(),
            begin,
            began: None,
            due: VecDeque::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Waits for what becomes of the next request, and makes those that are due. Cancel-safe.
    pub async fn next(&mut self) -> (usize, Outcome) {
        loop {
            self.make_those_due();
            let again = self.requests.iter().filter(|state| !state.is_busy).filter_map(State::failing);
            let again = again.map(|failing| failing.again).min();
            tokio::select! {
                biased;
                Some(answered) = self.under_way.join_next() => {
                    return answered.expect("a request neither panics nor is given up");
                }
                _ = self.begin.tick() => self.begin_round(),
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.try_again(),
            }
        }
    }

    fn make_those_due(&mut self) {
        while self.under_way.len() < MOST_UNDER_WAY
            && let Some(number) = self.due.pop_front()
        {
            let state = &self.requests[number];
            let known = state.last.as_ref().and_then(|last| last.tag.clone());
            let request = state.request.clone();
            self.under_way.spawn(async move { (number, request.ask(known).await) });
        }
    }

    fn begin_round(&mut self) {
        self.began = Some(now());
        for (number, state) in self.requests.iter_mut().enumerate() {
            let is_done = self.once && state.was_answered;
            // What fails has a rhythm of its own until it works again.
            if state.failing.is_none() && !is_done && !std::mem::replace(&mut state.is_busy, true) {
                self.due.push_back(number);
            }
        }
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        for (number, state) in self.requests.iter_mut().enumerate() {
            let is_due = state.failing.as_ref().is_some_and(|failing| failing.again <= now);
            if is_due && !std::mem::replace(&mut state.is_busy, true) {
                self.due.push_back(number);
            }
        }
    }

    /// Notes what became of a request; gives the document, if it is to be a row.
    pub fn take(&mut self, number: usize, outcome: Outcome) -> Option<Bytes> {
        let (every, unchanged) = (self.every, self.unchanged);
        let state = &mut self.requests[number];
        state.is_busy = false;
        match outcome {
            Outcome::Failed(failure) => {
                let before = state.failing.take();
                let now = Instant::now();
                let since = before.as_ref().map_or(now, |failing| failing.since);
                let mut pauses = before.map_or_else(|| pauses(every), |failing| failing.pauses);
                let again = now + pause(failure.again, &mut pauses, every);
                state.failing = Some(Failing { failure, since, again, pauses });
                None
            }
            Outcome::Nothing => {
                (state.failing, state.was_answered) = (None, true);
                None
            }
            Outcome::Document(body, tag) => {
                (state.failing, state.was_answered) = (None, true);
                if unchanged == Unchanged::Keep {
                    return Some(body);
                }
                let hash = Sha256::digest(&body).into();
                let before = state.last.replace(Last { tag, hash });
                before.is_none_or(|before| before.hash != hash).then_some(body)
            }
        }
    }

    /// The name of a request.
    pub fn name(&self, number: usize) -> Option<&str> {
        self.requests[number].name()
    }

    /// All requests, in their order.
    pub fn states(&self) -> &[State] {
        &self.requests
    }

    /// When the last round began.
    pub fn began(&self) -> Option<Timestamp> {
        self.began
    }

    /// No request is under way.
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.due.is_empty()
    }

    /// How many requests do not work.
    pub fn n_failing(&self) -> u64 {
        self.requests.iter().filter(|state| state.failing.is_some()).count() as u64
    }

    /// Each request has its answer, or was refused.
    pub fn is_over(&self) -> bool {
        self.is_quiet() && self.requests.iter().all(|state| state.was_answered || is_refused(state))
    }

    /// What was refused, in words.
    pub fn refused(&self) -> Option<String> {
        let refused: Vec<&State> = self.requests.iter().filter(|state| is_refused(state)).collect();
        super::told::in_words(&refused, self.requests.len())
    }
}

fn is_refused(state: &State) -> bool {
    state.failing.as_ref().is_some_and(|failing| failing.failure.again == Again::Seldom)
}

fn longest_pause(every: Duration) -> Duration {
    every.max(LONG_PAUSE)
}

fn pauses(every: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(every.min(FIRST_PAUSE))
        .with_max_delay(longest_pause(every))
        .with_jitter()
        // Requests that failed together need not come back together.
        .with_jitter_seed(RandomState::new().hash_one("pauses"))
        .without_max_times()
        .build()
}

fn pause(again: Again, pauses: &mut ExponentialBackoff, every: Duration) -> Duration {
    let longest = longest_pause(every);
    // What is random comes on top of the longest one, too.
    let mut growing = || pauses.next().unwrap_or(longest).min(longest);
    match again {
        Again::Soon => growing(),
        Again::NextRound => growing().max(every),
        Again::After(pause) => pause.max(growing()),
        Again::Seldom => longest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute_or_the_interval() {
        for (every, first, longest) in [(15, 1, 60), (3_600, 1, 3_600)] {
            let every = Duration::from_secs(every);
            let mut growing = pauses(every);
            let seconds = Duration::from_secs;
            let found: Vec<Duration> = (0..20).map(|_| pause(Again::Soon, &mut growing, every)).collect();
            assert!((seconds(first)..=seconds(2 * first)).contains(&found[0]), "{found:?}");
            assert!(found.is_sorted() && found[19] == seconds(longest), "{found:?}");
            let again = |again| pause(again, &mut pauses(every), every);
            assert!(every <= again(Again::NextRound));
            assert_eq!(again(Again::Seldom), seconds(longest));
            assert_eq!(again(Again::After(seconds(7))), seconds(7));
            let found: Vec<_> = (0..20).map(|_| pause(Again::After(Duration::ZERO), &mut growing, every)).collect();
            assert_eq!(found[19], seconds(longest), "it is no leave to ask without a pause");
        }
    }
}
