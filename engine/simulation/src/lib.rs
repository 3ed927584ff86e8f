//! The engine in a simulated world, in which everything that can fail does, as a seed says.
//!
//! The world has a clock, a state store with an explicit fsync, a source with partitions, transactional sinks, files
//! and the other side of an outbox. One or several processes run the real engine in it; they are killed, stopped,
//! moved and started again between any two steps of input and output. In the end the output is compared with that of
//! an undisturbed run.
//!
//! One seed is one schedule, reproduced exactly: see `docs/decisions/0011-simulation.md`.

pub mod bugs;
mod check;
mod crash;
mod draw;
mod driver;
mod expected;
mod file;
mod group;
mod input;
mod mailbox;
mod pipeline;
mod process;
mod script;
pub mod seeds;
mod source;
mod store;
mod table;
mod transforms;
mod weather;
mod world;

use std::sync::Arc;

use pipeline_runtime::store::StateStore;

/// Runs something on a simulated store that never fails, to compare it with a real one.
pub fn on_simulated_store<T, F: Future<Output = T>>(work: impl FnOnce(Arc<dyn StateStore>) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(async {
        let input = Arc::new(input::Input::new(0, 0));
        let world = world::World::new(0, world::Mode::Folder, input, weather::Weather::calm(), false);
        let store = Arc::new(store::SimulatedStore::new(process::Process::new(world.clone(), 0, 0, 0)));
        tokio::select! {
            done = work(store) => done,
            () = world.driver.run() => unreachable!("so many calls are not made"),
        }
    })
}
