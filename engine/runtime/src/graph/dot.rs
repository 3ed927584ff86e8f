//! For Graphviz.

use pipeline_stage::Kind;

use super::summary::{promise, what, when};
use crate::plan::Plan;

/// The plan as a Graphviz digraph.
pub fn dot(plan: &Plan) -> String {
    let mut text =
        format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", escaped(&plan.settings.name));
    for stage in &plan.stages {
        let shape = match stage.kind {
            Kind::Source => "oval",
            Kind::Sink => "cylinder",
            _ => "box",
        };
        let mut lines = vec![stage.id.clone(), what(plan, stage)];
        lines.extend(promise(stage).map(str::to_owned));
        let label = lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\\n");
        text.push_str(&format!("  \"{}\" [shape={shape}, label=\"{label}\"];\n", stage.id));
    }
    for stage in &plan.stages {
        for &input in &stage.inputs {
            let label = when(stage).map(|when| format!(" [label=\"{}\"]", escaped(&when))).unwrap_or_default();
            text.push_str(&format!("  \"{}\" -> \"{}\"{label};\n", plan.stages[input].id, stage.id));
        }
    }
    text.push_str("}\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
