//! What does not work at the moment, and is tried again until it does: all of this process.
//!
//! Whoever tries again notes it here by [`Retry`](super::retry::Retry), wherever in the engine it is: so it is one list for
//! the process, not for a run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static TROUBLES: Mutex<BTreeMap<u64, Trouble>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static FAILURES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// More names are not counted one by one: they are stages and parts of the engine, of which there are few.
const MAX_NAMES: usize = 1_000;

#[derive(Clone)]
struct Trouble {
    what: String,
    why: String,
    since: Instant,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// A stage's id, or a part of the engine: `state store`.
    pub what: String,
    /// The error, in words.
    pub why: String,
    /// For how long.
    pub since: Duration,
}

/// Notes that something does not work, as long as it is held.
pub struct Down(u64);

/// Something does not work from here on until what this gives is dropped.
pub fn down(what: &str, why: String) -> Down {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let trouble = Trouble { what: what.into(), why, since: Instant::now() };
    TROUBLES.lock().expect("no holder of this lock panics").insert(id, trouble);
    let mut failures = FAILURES.lock().expect("no holder of this lock panics");
    if failures.contains_key(what) || failures.len() < MAX_NAMES {
        *failures.entry(what.into()).or_default() += 1;
    }
    Down(id)
}

impl Down {
    /// It does not work for another reason by now.
    pub fn is_because(&self, why: String) {
        if let Some(trouble) = TROUBLES.lock().expect("no holder of this lock panics").get_mut(&self.0) {
            trouble.why = why;
        }
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        TROUBLES.lock().expect("no holder of this lock panics").remove(&self.0);
    }
}

/// What does not work now, each thing once, with what was noted first.
pub fn failing() -> Vec<Failing> {
    let troubles = TROUBLES.lock().expect("no holder of this lock panics");
    let mut failing: Vec<Failing> = Vec::new();
    for trouble in troubles.values() {
        if failing.iter().all(|known| known.what != trouble.what) {
            let Trouble { what, why, since } = trouble.clone();
            failing.push(Failing { what, why, since: since.elapsed() });
        }
    }
    failing
}

/// How often each thing has stopped working.
pub fn failures() -> BTreeMap<String, u64> {
    FAILURES.lock().expect("no holder of this lock panics").clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_down_is_listed_once_until_all_of_it_works() {
        let of = |name: &str| failing().into_iter().filter(|failing| failing.what == name).collect::<Vec<_>>();
        let first = down("a sink of this test", "refused".into());
        let second = down("a sink of this test", "refused again".into());
        assert_eq!(of("a sink of this test").len(), 1);
        assert_eq!(of("a sink of this test")[0].why, "refused");
        first.is_because("gone".into());
        assert_eq!(of("a sink of this test")[0].why, "gone");
        drop(first);
        assert_eq!(of("a sink of this test")[0].why, "refused again");
        drop(second);
        assert!(of("a sink of this test").is_empty());
        assert_eq!(failures()["a sink of this test"], 2);
    }
}
