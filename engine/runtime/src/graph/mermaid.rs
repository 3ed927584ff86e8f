//! For web pages and READMEs that draw Mermaid.

use pipeline_stage::Kind;

use super::summary::{promise, what, when};
use crate::plan::Plan;

/// The plan as a Mermaid flowchart.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for stage in &plan.stages {
        let (open, close) = match stage.kind {
            Kind::Source => ("([", "])"),
            Kind::Sink => ("[(", ")]"),
            _ => ("[", "]"),
        };
        let mut lines = vec![stage.id.clone(), what(plan, stage)];
        lines.extend(promise(stage).map(str::to_owned));
        let label = lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br/>");
        text.push_str(&format!("  {}{open}\"{label}\"{close}\n", stage.id));
    }
    for stage in &plan.stages {
        for &input in &stage.inputs {
            let arrow = when(stage).map_or("-->".into(), |when| format!("-->|\"{}\"|", escaped(&when)));
            text.push_str(&format!("  {} {arrow} {}\n", plan.stages[input].id, stage.id));
        }
    }
    text
}

/// Mermaid takes HTML's entities with `#`, and would take markup for itself.
fn escaped(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;").replace('`', "#96;")
}
