//! Which calls into libraries have not come back: a thread of its own says so, because the others may all hang.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A call on 8,192 rows takes milliseconds; a thousand times that is no slow machine any more.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// The calls of one stage.
pub struct InFlight {
    stage: String,
    started: AtomicU64,
    ended: AtomicU64,
}

struct Watched {
    calls: Weak<InFlight>,
    /// How many had started when it was looked last, and since when it is that many.
    seen: u64,
    since: Instant,
    is_told: bool,
}

static WATCHED: LazyLock<Mutex<Vec<Watched>>> = LazyLock::new(|| {
    // A machine that has no thread left runs on without warnings.
    let _ = thread::Builder::new().name("plugin calls".into()).spawn(watch);
    Mutex::default()
});

impl InFlight {
    /// Watches the calls of a stage.
    pub fn new(stage: &str) -> Arc<Self> {
        let calls = Arc::new(InFlight { stage: stage.into(), started: AtomicU64::new(0), ended: AtomicU64::new(0) });
        let watched = Watched { calls: Arc::downgrade(&calls), seen: 0, since: Instant::now(), is_told: false };
        WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        calls
    }

    /// A call that is watched.
    pub fn watch<R>(&self, call: impl FnOnce() -> R) -> R {
        // A stage is called from one thread at a time: no addition is lost.
        self.started.store(self.started.load(Relaxed) + 1, Relaxed);
        let result = call();
        self.ended.store(self.ended.load(Relaxed) + 1, Relaxed);
        result
    }

    /// The stage's id.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    fn is_in_call(&self) -> bool {
        self.started.load(Relaxed) != self.ended.load(Relaxed)
    }
}

/// The stages whose library has not come back for some seconds, in words.
pub fn stuck() -> Vec<String> {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let told = watched.iter().filter(|watched| watched.is_told).filter_map(|watched| watched.calls.upgrade());
    told.map(|calls| calls.stage.clone()).collect()
}

fn watch() {
    loop {
        thread::sleep(LOOK_EVERY);
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain_mut(|watched| match watched.calls.upgrade() {
            Some(calls) => {
                watched.look(&calls);
                true
            }
            None => false,
        });
    }
}

impl Watched {
    fn look(&mut self, calls: &InFlight) {
        let started = calls.started.load(Relaxed);
        let is_same_call = started == self.seen && calls.is_in_call();
        if !is_same_call {
            if self.is_told {
                tracing::info!("{}: the plugin is back after {} s", calls.stage, self.since.elapsed().as_secs());
            }
            (self.seen, self.since, self.is_told) = (started, Instant::now(), false);
        } else if WARN_AFTER <= self.since.elapsed() && !self.is_told {
            self.is_told = true;
            let seconds = WARN_AFTER.as_secs();
            tracing::warn!(
                "{}: a call into its plugin has not come back for {seconds} s; nothing of this task moves until it does",
                calls.stage
            );
        }
    }
}
