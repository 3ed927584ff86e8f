//! What the dashboard looks at.

use std::sync::Arc;
use std::time::SystemTime;

use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::{Progress, Run};
use pipeline_runtime::store::StateStore;
use pipeline_stage::{Result, StageError};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A run, as the dashboard sees it.
pub struct Watched {
    /// What is run.
    pub plan: Arc<Plan>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Its state; see [`Watched::ask_store`].
    store: Arc<dyn StateStore>,
    /// Where the pipeline runs.
    pipeline: Handle,
    /// Where that is, for people.
    pub place: String,
    /// When it began.
    pub began: Instant,
    /// The same, by the machine's clock.
    pub began_at: SystemTime,
    /// The binary's version.
    pub version: &'static str,
}

impl Watched {
    /// A run that was prepared. Called where the pipeline runs.
    pub fn new(plan: Arc<Plan>, run: &Run) -> Self {
        Watched {
            plan,
            progress: run.progress(),
            store: run.store(),
            pipeline: Handle::current(),
            place: run.place(),
            began: Instant::now(),
            began_at: SystemTime::now(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Asks the state store where the pipeline runs: a connection that is opened for the question is kept for the
    /// pipeline, and must not end with the dashboard.
    ///
    /// # Errors
    /// Those of the store, and `Transient` when the run has ended.
    pub async fn ask_store<T, Answer>(&self, ask: impl FnOnce(Arc<dyn StateStore>) -> Answer) -> Result<T>
    where
        T: Send + 'static,
        Answer: Future<Output = Result<T>> + Send + 'static,
    {
        let asked = self.pipeline.spawn(ask(self.store.clone()));
        asked.await.unwrap_or_else(|error| Err(StageError::transient("the run has ended").because(error)))
    }
}
