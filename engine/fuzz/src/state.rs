//! A whole state store with rows that nobody has written: read by the tools, then by the engine.
//!
//! The rows come in by `import`, which takes whatever fits the tables, as a damaged or edited database would hold it.
//! Each input takes one or two milliseconds, because it is a database: a million of them take half an hour.

use std::cell::RefCell;
use std::path::Path;

use pipeline_runtime::store::tools::StateTools;
use pipeline_runtime::store::{StateStore, open};
use pipeline_stage::{Result, StageError};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const PIPELINE: &str = "iot";
/// More rows than that in one input teach nothing.
const MAX_ROWS: usize = 64;

/// An empty store, which is used again as long as it stays empty.
struct Empty {
    folder: TempDir,
    tools: StateTools,
    /// The first line of an export.
    head: String,
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    static EMPTY: RefCell<Option<Empty>> = const { RefCell::new(None) };
}

/// The bytes are the rows of an export: one a line, without its first and last line.
pub fn run(bytes: &[u8]) -> bool {
    RUNTIME.with(|runtime| runtime.block_on(look_at(bytes)))
}

async fn look_at(bytes: &[u8]) -> bool {
    let empty = match EMPTY.take() {
        Some(empty) => empty,
        None => Empty::new().await,
    };
    let rows: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).take(MAX_ROWS).collect();
    let end = format!("{{\"rows\":{}}}\n", rows.len());
    let export = [empty.head.as_bytes(), b"\n", &rows.join(&b'\n'), b"\n", end.as_bytes()].concat();
    if let Err(error) = empty.tools.import(&mut export.as_slice()).await {
        is_said(&error);
        EMPTY.set(Some(empty));
        return false;
    }
    let once = read(&empty.tools).await;
    let Empty { folder, tools, head } = empty;
    drop(tools);
    let store = open(&folder.path().display().to_string(), PIPELINE).await.expect("it could be opened before");
    let is_good = use_it(&*store).await;
    drop((store, head));
    once && is_good
}

impl Empty {
    async fn new() -> Self {
        // What is synced there costs nothing.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder can be made");
        let tools = StateTools::alone(&folder.path().display().to_string(), PIPELINE).await.expect("it is empty");
        let mut nothing = Vec::new();
        tools.export(&mut nothing).await.expect("nothing can be exported");
        let head = String::from_utf8(nothing).expect("an export is text");
        let head = head.lines().next().expect("it has a first line").to_owned();
        Empty { folder, tools, head }
    }
}

fn is_said(error: &StageError) {
    assert!(!error.chain().trim().is_empty(), "what is refused has a reason");
}

fn is_right<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(is_said).ok()
}

/// All that the tools show. True when all of it could be read.
async fn read(tools: &StateTools) -> bool {
    let tasks = is_right(tools.tasks().await);
    let states = match &tasks {
        Some(tasks) => is_right(tools.states(tasks).await).is_some(),
        None => false,
    };
    let counts = [is_right(tools.outboxes().await), is_right(tools.dead_letters().await)];
    let evidence = is_right(tools.evidence_lines().await);
    let mut is_good = states && counts.iter().all(Option::is_some) && evidence.is_some();
    let (lines, damaged) = evidence.unwrap_or_default();
    damaged.iter().for_each(is_said);
    is_good &= damaged.is_empty();
    for line in lines {
        is_good &= is_right(tools.evidence(line.number).await).flatten().is_some();
    }
    is_right(tools.export(&mut Vec::new()).await).is_some() && is_good
}

/// All that a run asks when it takes this state up. True when it could.
async fn use_it(store: &dyn StateStore) -> bool {
    let Some(tasks) = is_right(store.tasks().await) else { return false };
    let mut is_good = is_right(store.pending_definitions().await).is_some();
    for task in tasks {
        let Some(claimed) = is_right(store.claim(&task).await) else { return false };
        let stages = claimed.checkpoint.iter().flat_map(|checkpoint| &checkpoint.stages);
        for stage in stages {
            is_good &= is_right(store.load(&task, &stage.id).await).is_some();
        }
        is_good &= is_right(store.replay_requests(&task, 0, 100).await).is_some();
    }
    is_good &= is_right(store.dead_letters(0, 100).await).is_some();
    for sink in ["alerts", ""] {
        let Some(pending) = is_right(store.pending(sink, 100).await) else { return false };
        for alert in pending.iter().filter(|alert| alert.is_excess) {
            is_good &= is_right(store.digest(sink, alert.number).await).is_some();
        }
    }
    is_good
}
