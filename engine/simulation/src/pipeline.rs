//! The pipeline that is simulated, in three versions of its file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipeline_runtime::file::LoadOptions;
use pipeline_runtime::plan::{Plan, load_text};
use pipeline_stage::{Registry, StageType};
use pipeline_testkit::Random;

use crate::file::ArchiveOptions;
use crate::mailbox::MailOptions;
use crate::source::StreamOptions;
use crate::table::TableOptions;
use crate::transforms::{PulseOptions, StampOptions};
use crate::world::Mode;

/// What differs between the files of two seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `commit_every`, in milliseconds.
    pub commit_every: u64,
    /// `checkpoint_every`, in milliseconds.
    pub checkpoint_every: u64,
    /// How many alerts may wait.
    pub max_pending: u64,
    /// `when_full`.
    pub when_full: &'static str,
    /// Whether some alerts can never be delivered.
    pub mail_refuses: bool,
    /// Whether the source gives each row once only.
    pub gives: &'static str,
}

impl Settings {
    /// A seed's own.
    pub fn of(random: &mut Random) -> Self {
        let commit_every = [4, 12, 40][random.below(3)];
        Settings {
            commit_every,
            checkpoint_every: commit_every * [2, 5, 20][random.below(3)],
            max_pending: [2, 5, 1_000][random.below(3)],
            when_full: if random.once_in(4) { "wait" } else { "digest" },
            mail_refuses: random.once_in(3),
            gives: "again",
        }
    }

    /// Of an undisturbed run.
    pub fn calm() -> Self {
        let (commit_every, checkpoint_every) = (20, 1_000_000);
        Settings {
            commit_every,
            checkpoint_every,
            max_pending: 1_000_000,
            when_full: "digest",
            mail_refuses: false,
            gives: "again",
        }
    }
}

thread_local! {
    static REGISTRY: Arc<Registry> = Arc::new(registry());
    static PLANS: RefCell<BTreeMap<String, Arc<Plan>>> = const { RefCell::new(BTreeMap::new()) };
}

fn registry() -> Registry {
    let own = [
        StageType::source::<StreamOptions>(),
        StageType::transform::<StampOptions>(),
        StageType::transform::<PulseOptions>(),
        StageType::sink::<TableOptions>(),
        StageType::sink::<ArchiveOptions>(),
        StageType::sink::<MailOptions>(),
    ];
    let mut registry = Registry::default();
    for stage in own.into_iter().chain(pipeline_builtin::stages()) {
        registry.add(stage).expect("each name is there once");
    }
    registry
}

/// The plan of a version of the file.
pub fn plan(mode: Mode, version: u32, settings: &Settings) -> Arc<Plan> {
    let text = text(mode, version, settings);
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&text).cloned()) {
        return plan;
    }
    let loaded = REGISTRY
        .with(|registry| load_text("simulated.yaml", &text, Path::new("."), &LoadOptions::default(), registry))
        .unwrap_or_else(|report| panic!("the simulated pipeline is wrong: {}", report.render(false)));
    let plan = Arc::new(loaded.0);
    PLANS.with_borrow_mut(|plans| plans.insert(text, plan.clone()));
    plan
}

const FILE: &str = include_str!("simulated.yaml");

/// Files belong to one machine; `late` comes with version 1.
fn text(mode: Mode, version: u32, settings: &Settings) -> String {
    let files = match (mode, version) {
        (Mode::Shared, _) => "",
        (Mode::Folder, 0) => "archive: { type: archive, inputs: stamp }",
        (Mode::Folder, _) => "archive: { type: archive, inputs: stamp }\n  late: { type: archive, inputs: stamp }",
    };
    FILE.replace("$COMMIT_EVERY", &settings.commit_every.to_string())
        .replace("$CHECKPOINT_EVERY", &settings.checkpoint_every.to_string())
        .replace("$VERSION", &version.to_string())
        .replace("$FILES", files)
        .replace("$MAX_PENDING", &settings.max_pending.to_string())
        .replace("$WHEN_FULL", settings.when_full)
        .replace("$GIVES", settings.gives)
        .replace("$MAIL_REFUSES", &settings.mail_refuses.to_string())
}
