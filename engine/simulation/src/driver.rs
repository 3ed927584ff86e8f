//! Who goes next: every call to the simulated world waits here, and one at a time is let through.
//!
//! Between two of them the engine runs until it can only wait. So the order of everything that matters is that of the
//! turns, and they are drawn from the seed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// More turns than any seed needs: a simulation that takes more does not come to its end.
const MAX_TURNS: u64 = 400_000;

/// Lets calls through in the order of their times.
pub struct Driver {
    began: Instant,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    /// By the millisecond they are due, and a drawn number that decides between those of one millisecond.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    n_turns: u64,
}

impl Driver {
    /// Time begins.
    pub fn new() -> Self {
        Driver { began: Instant::now(), queue: Mutex::default(), news: Notify::new() }
    }

    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// How many turns there were.
    pub fn n_turns(&self) -> u64 {
        self.queue.lock().expect("no holder panics").n_turns
    }

    /// Waits for a turn at a time or soon after it.
    pub async fn turn(&self, at: u64, draw: u64) {
        let (turn, came) = oneshot::channel();
        {
            let mut queue = self.queue.lock().expect("no holder panics");
            let mut place = (at.max(self.now()), draw);
            while queue.waiting.contains_key(&place) {
                place.1 = place.1.wrapping_add(1);
            }
            queue.waiting.insert(place, turn);
        }
        self.news.notify_one();
        if came.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives turns until there were too many.
    pub async fn run(&self) {
        loop {
            match self.next() {
                Next::None => self.news.notified().await,
                Next::At(at) => tokio::select! {
                    biased;
                    () = sleep_until(self.began + Duration::from_millis(at)) => {}
                    () = self.news.notified() => {}
                },
                Next::Now(turn) => {
                    // Whoever was dropped meanwhile does not take it.
                    let _ = turn.send(());
                    // Paused time moves only when nobody can do anything but wait.
                    sleep(Duration::from_millis(1)).await;
                }
                Next::Never => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.queue.lock().expect("no holder panics");
        if MAX_TURNS <= queue.n_turns {
            return Next::Never;
        }
        let Some(first) = queue.waiting.first_entry() else { return Next::None };
        let at = first.key().0;
        if self.now() < at {
            return Next::At(at);
        }
        let turn = first.remove();
        queue.n_turns += 1;
        Next::Now(turn)
    }
}

enum Next {
    None,
    At(u64),
    Now(oneshot::Sender<()>),
    Never,
}
