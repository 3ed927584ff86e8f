//! What the reader is told of the connection, and by it the engine: that the broker is gone, once, and that it is back.

use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_stage::{Result, StageError};
use tokio::sync::Notify;

/// Of one connection.
#[derive(Clone, Default)]
pub struct News(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    some: Notify,
}

#[derive(Default)]
struct State {
    /// What the reader has not been told.
    untold: Option<Result<()>>,
    /// It was told an error last.
    is_down: bool,
}

impl News {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }

    /// The connection does not work, or has ended.
    pub fn failed(&self, error: StageError) {
        self.state().untold = Some(Err(error));
        self.0.some.notify_one();
    }

    /// Whether the reader was told that it does not work.
    pub fn is_told(&self) -> bool {
        self.state().is_down
    }

    /// It works: said to who was told otherwise.
    pub fn is_well(&self) {
        let mut state = self.state();
        state.untold = state.is_down.then_some(Ok(()));
        self.0.some.notify_one();
    }

    /// Waits for the next. Cancel-safe.
    ///
    /// # Errors
    /// Why the connection does not work.
    pub async fn next(&self) -> Result<()> {
        loop {
            let some = self.0.some.notified();
            if let Some(news) = self.take() {
                return news;
            }
            some.await;
        }
    }

    fn take(&self) -> Option<Result<()>> {
        let mut state = self.state();
        let news = state.untold.take()?;
        state.is_down = news.is_err();
        Some(news)
    }
}

/// Held by the connection's thread: a panic there is not waited for.
pub struct TellsPanic(pub News);

impl Drop for TellsPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed(StageError::fatal("the connection to the broker has panicked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline_stage::ErrorKind;

    fn gone() -> StageError {
        StageError::transient("gone")
    }

    #[test]
    fn an_outage_is_told_and_its_end_to_who_was_told() {
        let news = News::default();
        news.is_well();
        assert!(news.take().is_none());
        news.failed(gone());
        news.is_well();
        assert!(news.take().is_none(), "it was over before anybody asked");
        news.failed(gone());
        assert!(news.take().is_some_and(|news| news.is_err()) && news.take().is_none());
        news.is_well();
        news.failed(gone());
        news.is_well();
        assert!(news.take().is_some_and(|news| news.is_ok()), "the reader was told of the first");
        news.is_well();
        assert!(news.take().is_none());
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let news = News::default();
        let thread = TellsPanic(news.clone());
        let thread = std::thread::spawn(move || {
            let _thread = thread;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(news.next().await.unwrap_err().kind(), ErrorKind::Fatal);
        drop(TellsPanic(news.clone()));
        assert!(news.take().is_none());
    }
}
