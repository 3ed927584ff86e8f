//! The async runtime of this library: the engine's calls block, those of its stages wait.

use std::sync::LazyLock;
use std::time::Duration;

use pipeline_stage::Result;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// One thread drives timers and connections; the engine's own threads do the work.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("plugin").enable_all().build();
    runtime.expect("the system has a thread left")
});

/// Runs to the end.
pub fn wait<R>(work: impl Future<Output = R>) -> R {
    RUNTIME.block_on(work)
}

/// Runs for no longer than this; the work must be cancel-safe.
pub fn wait_for<R>(work: impl Future<Output = Result<R>>, limit: Duration) -> Result<Option<R>> {
    // Made inside: a timer belongs to the runtime that it is made in.
    RUNTIME.block_on(async { tokio::time::timeout(limit, work).await.ok().transpose() })
}

/// What is made or dropped meanwhile may use the runtime.
pub fn enter() -> EnterGuard<'static> {
    RUNTIME.enter()
}
