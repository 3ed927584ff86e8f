//! Which detector the rows of a stage come through.

use std::collections::BTreeSet;

use pipeline_stage::{DetectorAbove, Kind};
use serde_json::Value;

use super::Plan;

impl Plan {
    /// The detector that the rows of a stage come through: the one whose verdict its `when:` asks for, else the nearest.
    /// None when there is none, or when rows come through several and nothing tells which.
    pub fn detector_above(&self, stage: usize) -> Option<usize> {
        let (mut nearest, mut all) = (BTreeSet::new(), BTreeSet::new());
        for input in &self.stages[stage].inputs {
            self.collect_detectors(*input, true, &mut nearest, &mut all);
        }
        let is_asked_for = |detector: &&usize| {
            self.anomaly_column(**detector).is_some_and(|column| {
                let name = self.stages[**detector].schema.field(column).name();
                self.stages[stage].when.iter().any(|when| when.columns().contains(name))
            })
        };
        let asked_for: Vec<usize> = all.iter().filter(is_asked_for).copied().collect();
        match (asked_for.as_slice(), nearest.len()) {
            ([detector], _) => Some(*detector),
            (_, 1) => nearest.first().copied(),
            _ => None,
        }
    }

    fn collect_detectors(
        &self,
        stage: usize,
        is_nearest: bool,
        nearest: &mut BTreeSet<usize>,
        all: &mut BTreeSet<usize>,
    ) {
        let is_detector = self.stages[stage].kind == Kind::Detector;
        if is_detector {
            all.insert(stage);
        }
        if is_detector && is_nearest {
            nearest.insert(stage);
        }
        for input in &self.stages[stage].inputs {
            self.collect_detectors(*input, is_nearest && !is_detector, nearest, all);
        }
    }

    /// What a sink is told of it.
    pub(super) fn told_of_detector_above(&self, sink: usize) -> Option<DetectorAbove> {
        let detector = self.detector_above(sink)?;
        let stage = &self.stages[detector];
        let time = stage.options.get("time").and_then(Value::as_str).map(str::to_owned);
        let key = self.series_key(detector)?.into_iter().map(|(name, _)| name).collect();
        Some(DetectorAbove { id: stage.id.clone(), key, time })
    }
}
