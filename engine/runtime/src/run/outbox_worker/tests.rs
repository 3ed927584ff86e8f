//! The worker is polled by hand: what an idle one does is nothing.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use async_trait::async_trait;
use pipeline_stage::{Pace, WhenFull};
use tokio::sync::watch;

use super::super::clock::SystemClock;
use super::*;

/// An outbox of single alerts that answers at once.
#[derive(Default)]
struct Memory {
    waiting: Mutex<Vec<i64>>,
    /// Who has the lease.
    holder: Mutex<Option<String>>,
    calls: AtomicUsize,
}

impl Memory {
    fn called(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// All answers are there at once: a worker that asks without end would never come back from a poll.
    fn call(&self) {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) < 100, "it asks without end");
    }

    fn add(&self, number: i64) {
        self.waiting.lock().unwrap().push(number);
    }
}

#[async_trait]
impl OutboxStore for Memory {
    async fn pending(&self, _: &str, _: u32) -> Result<Vec<Pending>> {
        self.call();
        let alert = Alert { id: "a".into(), row: serde_json::Map::new(), digest_of: None };
        let pending = |number: &i64| Pending {
            number: *number,
            alert: alert.clone(),
            is_excess: false,
            digest: None,
            task: "0".into(),
            place: "readings/0".into(),
            offset: 0,
            branch: 0,
            epoch: 1,
        };
        Ok(self.waiting.lock().unwrap().iter().map(pending).collect())
    }

    async fn count_pending(&self, _: &str) -> Result<u64> {
        self.call();
        Ok(self.waiting.lock().unwrap().len() as u64)
    }

    async fn digest(&self, _: &str, _: i64) -> Result<Option<Digest>> {
        Ok(None)
    }

    async fn delivered(&self, number: i64, _: Timestamp) -> Result<()> {
        self.waiting.lock().unwrap().retain(|waiting| *waiting != number);
        Ok(())
    }

    async fn digest_delivered(&self, _: &str, _: i64, _: Timestamp) -> Result<()> {
        Ok(())
    }

    async fn undeliverable(&self, _: &[(i64, DeadLetter)]) -> Result<()> {
        Ok(())
    }

    async fn drop_delivered(&self, _: &str, _: Timestamp, _: u32) -> Result<u64> {
        self.call();
        Ok(0)
    }

    async fn lease(&self, _: &str, holder: &str, _: Duration) -> Result<bool> {
        self.call();
        Ok(self.holder.lock().unwrap().get_or_insert_with(|| holder.into()) == holder)
    }

    async fn release(&self, _: &str, holder: &str) -> Result<()> {
        self.holder.lock().unwrap().take_if(|held_by| held_by == holder);
        Ok(())
    }
}

struct TakesAll;

#[async_trait]
impl OutboxSink for TakesAll {
    fn pace(&self) -> Pace {
        PACE
    }

    async fn deliver(&mut self, _: &Alert) -> Result<()> {
        Ok(())
    }
}

const PACE: Pace = Pace {
    at_most_every: Duration::ZERO,
    timeout: Duration::from_secs(10),
    max_pending: 1_000,
    when_full: WhenFull::Digest,
};

/// Counts how often a task wants to be polled.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    /// Polls for as long as it is woken up; it must come to rest.
    fn settle<T>(self: &Arc<Self>, mut task: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        let waker = self.clone().into();
        for _ in 0..20 {
            self.0.store(0, Ordering::Relaxed);
            let poll = task.as_mut().poll(&mut Context::from_waker(&waker));
            if poll.is_ready() || self.0.load(Ordering::Relaxed) == 0 {
                return poll;
            }
        }
        panic!("it does not come to rest");
    }
}

struct Scene {
    store: Arc<Memory>,
    outbox: Arc<Outbox>,
    stop: watch::Sender<bool>,
    wakes: Arc<Wakes>,
}

/// A worker with an outbox that is empty.
async fn scene() -> (Scene, impl Future<Output = Result<()>>) {
    let store = Arc::new(Memory::default());
    let outbox = Outbox::open("alerts", PACE, store.clone()).await.unwrap();
    let clock = Arc::new(SystemClock);
    let lease = Lease::new("alerts", &PACE, store.clone(), "me".into());
    let worker = OutboxWorker::new(outbox.clone(), Box::new(TakesAll), store.clone(), clock, lease);
    let (stop, stopped) = watch::channel(false);
    store.called();
    (Scene { store, outbox, stop, wakes: Arc::default() }, worker.run(Stop::new(stopped)))
}

#[tokio::test]
async fn an_idle_worker_sleeps_until_something_is_put_in() {
    let (scene, worker) = scene().await;
    let mut worker = pin!(worker);
    assert!(scene.wakes.settle(worker.as_mut()).is_pending());
    assert!(scene.store.called() <= 3, "lease, delete, read");

    scene.store.add(7);
    scene.outbox.put(1);
    assert_eq!(scene.wakes.0.load(Ordering::Relaxed), 1, "it is woken up");
    assert!(scene.wakes.settle(worker.as_mut()).is_pending());
    assert!(scene.store.waiting.lock().unwrap().is_empty(), "delivered");
    assert!(scene.store.called() <= 2, "reads it, and that there is nothing more");
}

#[tokio::test]
async fn a_worker_without_the_lease_sleeps_whatever_is_put_in() {
    let (scene, worker) = scene().await;
    let mut worker = pin!(worker);
    *scene.store.holder.lock().unwrap() = Some("other".into());
    assert!(scene.wakes.settle(worker.as_mut()).is_pending());
    assert!(scene.store.called() <= 2, "lease, count");
    for number in 0..50 {
        scene.store.add(number);
        scene.outbox.put(1);
    }
    assert_eq!(scene.wakes.0.load(Ordering::Relaxed), 0);
    assert!(scene.wakes.settle(worker.as_mut()).is_pending());
    assert_eq!(scene.store.called(), 0);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_gives_the_lease_back() {
    let (scene, worker) = scene().await;
    let mut worker = pin!(worker);
    assert!(scene.wakes.settle(worker.as_mut()).is_pending());
    assert_eq!(scene.store.holder.lock().unwrap().as_deref(), Some("me"));
    scene.stop.send_replace(true);
    assert!(matches!(scene.wakes.settle(worker.as_mut()), Poll::Ready(Ok(()))));
    assert_eq!(*scene.store.holder.lock().unwrap(), None);
}

#[tokio::test]
async fn an_outbox_is_empty_only_if_the_store_says_so() {
    let (scene, _worker) = scene().await;
    scene.store.add(1);
    let mut emptied = pin!(scene.outbox.emptied());
    assert!(scene.wakes.settle(emptied.as_mut()).is_pending(), "another process has put something in");
    assert_eq!(scene.outbox.left().await, 1);
    scene.store.waiting.lock().unwrap().clear();
    scene.outbox.counted(0);
    assert!(scene.wakes.settle(emptied.as_mut()).is_ready());
}

#[tokio::test]
async fn a_full_outbox_makes_digests_of_the_rest() {
    let (scene, _worker) = scene().await;
    let new = |offset| crate::store::NewAlert {
        sink: "alerts".into(),
        alert: Alert { id: "a".into(), row: serde_json::Map::new(), digest_of: None },
        is_excess: false,
        place: "readings/0".into(),
        offset,
        branch: 0,
    };
    let mut alerts: Vec<_> = (0..5).map(new).collect();
    scene.outbox.put(PACE.max_pending - 2);
    scene.outbox.admit(&mut alerts).await;
    let excess: Vec<bool> = alerts.iter().map(|alert| alert.is_excess).collect();
    assert_eq!(excess, [false, false, true, true, true]);
}
