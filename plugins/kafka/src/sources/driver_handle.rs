//! The source's end of the driver: orders go in, changes of the assignment come out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use pipeline_stage::{Assignment, Result, StageError};
use tokio::sync::mpsc;
use tracing::warn;

use crate::consumer::Place;
use crate::sources::held::Opening;
use crate::sources::reader::Waker;

/// How many orders and changes may wait. Both are rare, and those who send them wait for room.
const QUEUE_SIZE: usize = 64;

/// How long closing may take when the source is dropped: leaving the group is one request.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// What the source asks of the driver.
pub(crate) enum Order {
    /// Read a partition.
    Open(Opening),
    /// The task of a partition has stopped.
    Release(Place),
    /// Leave the group and join it again, for these topics.
    Rejoin(Vec<Arc<str>>),
}

/// The source's end of the driver. Dropping it closes the consumer, which leaves the group.
pub(crate) struct DriverHandle {
    orders: mpsc::Sender<Order>,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    done: std_mpsc::Receiver<()>,
}

impl DriverHandle {
    /// Passes an order on.
    pub(crate) async fn order(&mut self, order: Order) -> Result<()> {
        let sent = self.orders.send(order).await;
        self.waker.wake();
        sent.map_err(|_| StageError::lost("the consumer was closed"))
    }

    /// Where others put orders; they wake the driver then.
    pub(crate) fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// Wakes the driver.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}

impl Drop for DriverHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if self.done.recv_timeout(CLOSE_DEADLINE) == Err(std_mpsc::RecvTimeoutError::Timeout) {
            warn!(
                "the consumer could not be closed in {} s; the group will miss it after its session",
                CLOSE_DEADLINE.as_secs()
            );
        }
    }
}

/// Changes of what the process holds, in order.
pub(crate) type Changes = mpsc::Receiver<Result<Assignment>>;

/// The driver's end.
pub(crate) struct DriverEnds {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) changes: mpsc::Sender<Result<Assignment>>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Told when the consumer is closed.
    pub(crate) done: std_mpsc::SyncSender<()>,
}

/// Both ends.
pub(crate) fn connect(waker: &Arc<Waker>) -> (DriverHandle, Changes, DriverEnds) {
    let (order_sender, orders) = mpsc::channel(QUEUE_SIZE);
    let (changes, change_receiver) = mpsc::channel(QUEUE_SIZE);
    let (done, done_receiver) = std_mpsc::sync_channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let ends = DriverEnds { orders, changes, stop: Arc::clone(&stop), done };
    (DriverHandle { orders: order_sender, waker: Arc::clone(waker), stop, done: done_receiver }, change_receiver, ends)
}
