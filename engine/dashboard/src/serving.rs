//! The threads of the dashboard: its own, so that whoever asks much waits for others who ask, and no row does.

use std::io;
use std::sync::Arc;

use pipeline_stage::{Result, StageError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// One thread speaks with everybody. Together with the one that computes it takes at most two cores, however many ask.
const THREADS: usize = 1;
/// Besides, what opens connections looks names up on such threads.
const BLOCKING_THREADS: usize = 4;

/// A dashboard that answers, until this is dropped.
pub struct Serving(Option<Runtime>);

impl Serving {
    /// Runs something for ever, on threads of its own.
    pub(crate) fn begin(serve: impl Future<Output = ()> + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("dashboard")
            .enable_all()
            .build()?;
        runtime.spawn(serve);
        Ok(Serving(Some(runtime)))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What takes long to compute is computed one by one, on a thread on which nobody waits for an answer.
pub struct Computing(Arc<Semaphore>);

impl Computing {
    /// With one thread.
    pub fn new() -> Self {
        Computing(Arc::new(Semaphore::new(1)))
    }

    /// Computes when it is its turn. Whoever no longer waits for the result leaves the row of those who do.
    ///
    /// # Errors
    /// `Fatal` when it panics.
    pub async fn run<T: Send + 'static>(&self, compute: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = self.0.clone().acquire_owned().await.expect("nobody closes it");
        let computed = spawn_blocking(move || {
            let _turn = turn;
            compute()
        });
        computed.await.map_err(|error| StageError::fatal("the computation failed").because(error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_computes_at_a_time_and_others_are_answered_meanwhile() {
        let (computing, at_once) = (Computing::new(), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        let one = || {
            let (at_once, most) = (at_once.clone(), most.clone());
            computing.run(move || {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                at_once.fetch_sub(1, Ordering::SeqCst);
            })
        };
        // This runtime has one thread: were it taken by a computation, nothing could be counted meanwhile.
        let mut answered = 0;
        let others = async {
            loop {
                answered += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            computed = futures::future::join_all((0..20).map(|_| one())) => assert!(computed.iter().all(|one| one.is_ok())),
            () = others => {}
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert!(20 < answered, "{answered}");
    }

    #[tokio::test]
    async fn what_panics_is_an_error_and_the_next_is_computed() {
        let computing = Computing::new();
        let panicked = computing.run(|| assert_eq!(1, 2)).await;
        assert!(panicked.is_err());
        assert_eq!(computing.run(|| 3).await.unwrap(), 3);
    }

    #[test]
    fn it_runs_on_threads_of_its_own_until_it_is_dropped() {
        let (told, thread) = std::sync::mpsc::channel();
        let serving = Serving::begin(async move {
            told.send(std::thread::current().name().map(str::to_owned)).unwrap();
            std::future::pending::<()>().await;
        });
        let serving = serving.unwrap();
        assert_eq!(thread.recv().unwrap().as_deref(), Some("dashboard"));
        drop(serving);
        // What it ran is gone, and with it the sender.
        assert!(
            thread
                .recv_timeout(Duration::from_secs(30))
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }
}
