//! What an undisturbed run of the same input gives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::Builder;

use crate::bugs;
use crate::input::{Input, partition};
use crate::script::undisturbed;
use crate::weather::Weather;
use crate::world::{Mode, World};

/// What an undisturbed run gives.
#[derive(Debug, Default)]
pub struct Expected {
    /// By sink and task: offset and row, in order.
    pub rows: BTreeMap<(String, String), Vec<(u64, String)>>,
    /// By id.
    pub alerts: BTreeMap<String, Map<String, Value>>,
}

type Key = (u64, Vec<u64>);

thread_local! {
    static KNOWN: RefCell<BTreeMap<Key, Rc<Expected>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Of an input whose partitions are read from these offsets on. An engine with a bug is repaired for it.
pub fn expected(variant: u64, input: &Arc<Input>, starts: &[u64], bug: Option<bugs::Bug>) -> Rc<Expected> {
    let key = (variant, starts.to_vec());
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return known;
    }
    bugs::put_in(None);
    let made = Rc::new(run(input, starts));
    bugs::put_in(bug);
    KNOWN.with_borrow_mut(|known| known.insert(key, made.clone()));
    made
}

fn run(input: &Arc<Input>, starts: &[u64]) -> Expected {
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
    runtime.block_on(async {
        let world = World::new(0, Mode::Folder, input.clone(), Weather::calm(), false);
        world.state().streams.fixed_starts = Some(starts.to_vec());
        undisturbed(&world).await;
        let expected = take(&world);
        world.end();
        expected
    })
}

fn take(world: &World) -> Expected {
    let state = world.state();
    assert!(state.failures.is_empty(), "the undisturbed run fails: {:?}", state.failures);
    let mut expected = Expected::default();
    let files = state.disk.files.iter().map(|(place, file)| (place, &file.lines));
    for (place, rows) in state.tables.rows.iter().chain(files) {
        expected.rows.insert(place.clone(), rows.iter().map(|row| (row.offset, row.text.clone())).collect());
    }
    for waiting in state.store.log.seen().outboxes.alerts.values() {
        expected.alerts.insert(waiting.pending.alert.id.clone(), waiting.pending.alert.row.clone());
    }
    expected
}

impl Expected {
    /// The rows of a sink and task.
    pub fn of(&self, sink: &str, task: u32) -> &[(u64, String)] {
        self.rows.get(&(sink.to_owned(), partition(task).name.to_string())).map_or(&[], Vec::as_slice)
    }
}
