//! Pipeline files: read and planned, and the plan stored and planned again. Nothing is opened.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use pipeline_runtime::diagnostics::Report;
use pipeline_runtime::graph;
use pipeline_runtime::plan::{Environment, LoadOptions, Plan, load_definition, load_text};
use pipeline_stage::Registry;

/// Longer files are not read in another way than short ones.
const MAX_BYTES: usize = 16_384;
/// A folder that is not there, so that neither `.env` nor secrets are.
const DIRECTORY: &str = "/nonexistent/pipeline-fuzz";

static REGISTRY: LazyLock<Arc<Registry>> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let stages =
        [pipeline_builtin::stages(), pipeline_http::stages(), pipeline_postgres::stages(), pipeline_sqlite::stages()];
    for stage in stages.into_iter().flatten() {
        registry.add(stage).expect("no two are called alike");
    }
    Arc::new(registry)
});

/// The first byte chooses profile and arguments; what follows is the text of the file.
pub fn run(bytes: &[u8]) -> bool {
    let Some((choice, text)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    // Files of secrets are read from wherever the author says: nothing of that is wanted here.
    if MAX_BYTES < text.len() || text.contains("{file:") {
        return false;
    }
    let environment = || Environment::default().with("DATABASE_URL", "postgres://localhost/iot").with("RATE", "5");
    let options = LoadOptions {
        profile: (choice & 1 != 0).then(|| "production".into()),
        set: if choice & 2 != 0 { vec!["commit_every=20ms".into()] } else { vec![] },
        environment: environment(),
        ..LoadOptions::default()
    };
    match load_text("pipeline.yaml", text, Path::new(DIRECTORY), &options, &REGISTRY) {
        Ok((plan, report)) => {
            assert!(!report.has_errors(), "a plan has no errors");
            is_said(&report);
            is_drawn(&plan);
            let again = load_definition(&plan.definition, &plan, environment());
            let again = again.unwrap_or_else(|report| panic!("its definition is refused: {}", report.render(false)));
            assert_eq!(again.definition, plan.definition, "what is stored is the pipeline");
            assert_eq!(again.settings.name, plan.settings.name);
            true
        }
        Err(report) => {
            assert!(report.has_errors(), "what is refused has a reason");
            is_said(&report);
            false
        }
    }
}

/// Every finding can be shown, whatever stands around its place.
fn is_said(report: &Report) {
    let text = report.render(false);
    assert_eq!(text.is_empty(), report.is_empty());
    assert!(report.to_json().is_array() || report.to_json().is_object());
}

fn is_drawn(plan: &Plan) {
    for drawing in [graph::text(plan), graph::dot(plan), graph::mermaid(plan), graph::outlook(plan)] {
        assert!(!drawing.is_empty());
    }
}
