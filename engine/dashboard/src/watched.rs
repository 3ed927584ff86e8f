//! What the dashboard looks at.

use std::sync::Arc;
use std::time::SystemTime;

use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::{Progress, Run};
use pipeline_runtime::store::StateStore;
use tokio::time::Instant;

/// A run, as the dashboard sees it.
pub struct Watched {
    /// What is run.
    pub plan: Arc<Plan>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Its state.
    pub store: Arc<dyn StateStore>,
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
    /// A run that was prepared.
    pub fn new(plan: Arc<Plan>, run: &Run) -> Self {
        Watched {
            plan,
            progress: run.progress(),
            store: run.store(),
            place: run.place(),
            began: Instant::now(),
            began_at: SystemTime::now(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}
