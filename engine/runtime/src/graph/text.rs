//! For a terminal: a tree from each source to its sinks.

use super::summary::{promise, what, when};
use crate::plan::Plan;

/// One line of the picture.
struct Line {
    tree: String,
    what: String,
    promise: String,
    when: String,
}

/// The plan as lines, each indented by two blanks.
///
/// ```text
///   readings          kafka iot-data-stream
///   ├─→ history       postgres sensor_data             exactly once
///   └─→ spikes        zscore, window 30, threshold 3
///       └─→ alerts    slack                            at least once, by outbox   when is_anomaly
/// ```
pub fn text(plan: &Plan) -> String {
    let mut lines = Vec::new();
    let mut is_drawn = vec![false; plan.stages.len()];
    for source in (0..plan.stages.len()).filter(|&stage| plan.stages[stage].inputs.is_empty()) {
        draw(plan, source, ("", ""), &mut is_drawn, &mut lines);
    }
    let width = |of: fn(&Line) -> &String| lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
    let widths = [width(|line| &line.tree), width(|line| &line.what), width(|line| &line.promise)];
    let mut text = String::new();
    for Line { tree, what, promise, when } in &lines {
        let line = format!("  {tree:<0$}   {what:<1$}   {promise:<2$}   {when}", widths[0], widths[1], widths[2]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Draws a stage with all that reads it; `first` stands before its name, `rest` before what is below it.
fn draw(plan: &Plan, stage: usize, (first, rest): (&str, &str), is_drawn: &mut [bool], lines: &mut Vec<Line>) {
    let shown = &plan.stages[stage];
    if std::mem::replace(&mut is_drawn[stage], true) {
        let what = "see above".to_owned();
        lines.push(Line { tree: format!("{first}{}", shown.id), what, promise: String::new(), when: String::new() });
        return;
    }
    lines.push(Line {
        tree: format!("{first}{}", shown.id),
        what: what(plan, shown),
        promise: promise(shown).unwrap_or_default().into(),
        when: when(shown).map(|when| format!("when {when}")).unwrap_or_default(),
    });
    let readers: Vec<usize> =
        (0..plan.stages.len()).filter(|&reader| plan.stages[reader].inputs.contains(&stage)).collect();
    for (i, &reader) in readers.iter().enumerate() {
        let (branch, trunk) = if i + 1 < readers.len() { ("├─→ ", "│   ") } else { ("└─→ ", "    ") };
        draw(plan, reader, (&format!("{rest}{branch}"), &format!("{rest}{trunk}")), is_drawn, lines);
    }
}
