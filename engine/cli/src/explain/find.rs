//! Which evidence is meant.

use pipeline_runtime::store::{EvidenceLine, MAX_EVIDENCE};
use pipeline_stage::{Result, StageError, Timestamp, printable};
use serde_json::{Value, json};

use crate::books::grouped;

/// Of an id at least this much must be given: it is found among ten thousand.
const MIN_ID: usize = 4;

/// The alert of an id: of each detector that judged it the newest evidence, the one nearest to the sinks first.
pub fn by_id<'a>(pipeline: &str, lines: &'a [EvidenceLine], id: &str) -> Result<Vec<&'a EvidenceLine>> {
    let id = id.trim().to_lowercase();
    if id.len() < MIN_ID {
        return Err(StageError::config(format!(
            "`{id}` is too short for an id, which looks like `7f3a-0412-88d1-52c0`"
        )));
    }
    let mut ids: Vec<&str> =
        lines.iter().flat_map(|line| &line.ids).map(String::as_str).filter(|known| known.starts_with(&id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let Some(first) = ids.first() else { return Err(unknown(pipeline, &id, lines)) };
    let mut found: Vec<&EvidenceLine> = Vec::new();
    for line in lines.iter().filter(|line| line.ids.iter().any(|known| known.starts_with(&id))) {
        // A pipeline that has begun anew has read the row again, and the newest alert is meant.
        if found.iter().all(|other| other.stage != line.stage) {
            found.push(line);
        }
    }
    let place = |line: &EvidenceLine| line.ids.iter().position(|known| known.starts_with(&id));
    found.sort_by_key(|line| place(line));
    let is_one_row = ids.iter().all(|other| other == first) || found.iter().any(|line| has_all(line, &ids));
    match is_one_row {
        true => Ok(found),
        false => Err(StageError::config(format!("several alerts begin with `{id}`: {}", some(&ids)))),
    }
}

fn has_all(line: &EvidenceLine, ids: &[&str]) -> bool {
    ids.iter().all(|id| line.ids.iter().any(|known| known == id))
}

fn some(ids: &[&str]) -> String {
    let shown = ids.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    if 5 < ids.len() { format!("{shown}, …") } else { shown }
}

fn unknown(pipeline: &str, id: &str, lines: &[EvidenceLine]) -> StageError {
    let oldest = match lines.last() {
        None => {
            "there is no evidence yet: no detector has called a row an anomaly since this state keeps it".to_owned()
        }
        Some(oldest) => format!("the oldest that is kept is of {}", oldest.at),
    };
    StageError::config(format!(
        "no alert `{id}` is known in the state of `{}`\n  = {oldest}\n  = kept are the newest {} of the last 30 days; of \
         a flood 100 a second for each detector and task\n  = the row may be none that a detector called an anomaly, or one of \
         several that a transform made of one\n  = `--series KEY --at TIME` finds alerts by their series",
        pipeline,
        grouped(MAX_EVIDENCE),
    ))
}

/// The alerts of a series, the newest first.
pub fn by_series<'a>(lines: &'a [EvidenceLine], series: &str, at: Option<&str>) -> Result<Vec<&'a EvidenceLine>> {
    let at = at.map(|at| at.trim().trim_end_matches(['Z', 'z']).replacen(' ', "T", 1));
    let of_series: Vec<&EvidenceLine> = lines.iter().filter(|line| is_of(line, series)).collect();
    let found: Vec<&EvidenceLine> = of_series
        .iter()
        .filter(|line| at.as_ref().is_none_or(|at| time_of(line).to_rfc3339().starts_with(at.as_str())))
        .copied()
        .collect();
    match (found.first(), of_series.first(), &at) {
        (Some(_), ..) => Ok(found),
        (None, Some(newest), Some(at)) => Err(StageError::config(format!(
            "the series `{series}` has {} alerts, but none whose time begins with `{at}`; the newest is of {}",
            of_series.len(),
            time_of(newest)
        ))),
        _ => {
            let known = lines.first().map(|line| format!("; the newest alert is of `{}`", name_of(line)));
            Err(StageError::config(format!("no alert of a series `{series}` is known{}", known.unwrap_or_default())))
        }
    }
}

/// `sensor-04,temperature` is a whole key, `sensor_id=sensor-04,metric_type=temperature` some of its columns.
fn is_of(line: &EvidenceLine, series: &str) -> bool {
    let has = |part: &str| {
        let Some((name, value)) = part.split_once('=') else { return false };
        line.series.iter().any(|(known, of)| known == name.trim() && of == value)
    };
    name_of(line) == series || series.split(',').all(has)
}

/// The key's values, separated by commas.
pub fn name_of(line: &EvidenceLine) -> String {
    line.series.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")
}

/// When it was: the row's own time, else that of its epoch.
pub fn time_of(line: &EvidenceLine) -> Timestamp {
    line.row_at.unwrap_or(line.at)
}

/// `7f3a-0412-88d1-52c0  2025-07-20T08:19:16Z  spikes  sensor-04,temperature`.
pub fn as_line(line: &EvidenceLine) -> String {
    let id = line.ids.first().map_or("", String::as_str);
    format!("{id}  {}  {}  {}", time_of(line), line.stage, printable(&name_of(line), usize::MAX))
}

/// The same for programs.
pub fn as_object(line: &EvidenceLine) -> Value {
    let series = line.series.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    json!({
        "id": line.ids.first(), "ids": line.ids, "stage": line.stage, "series": Value::Object(series.collect()),
        "time": line.row_at.map(Timestamp::to_rfc3339), "task": line.task, "epoch": line.epoch,
        "committed_at": line.at.to_rfc3339(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: i64, stage: &str, ids: &[&str], sensor: &str) -> EvidenceLine {
        EvidenceLine {
            number,
            stage: stage.into(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            series: vec![("sensor_id".into(), sensor.into()), ("metric_type".into(), "temperature".into())],
            row_at: Some(Timestamp(1_752_999_556_000_000 + number)),
            task: "0".into(),
            epoch: 3,
            at: Timestamp(1_752_999_557_000_000),
        }
    }

    fn numbers(found: Result<Vec<&EvidenceLine>>) -> Vec<i64> {
        found.unwrap().iter().map(|line| line.number).collect()
    }

    #[test]
    fn an_id_may_be_cut_as_long_as_it_means_one_row() {
        let lines = [
            line(5, "second", &["cccc-2"], "a"),
            line(4, "first", &["aaaa-1", "cccc-2"], "a"),
            line(3, "first", &["aaaa-9"], "b"),
            line(2, "first", &["aaaa-1", "cccc-2"], "a"),
            line(1, "first", &["bbbb-1", "bbbb-2"], "b"),
        ];
        for (id, expected) in [("CCCC-2", vec![5, 4]), ("cccc", vec![5, 4]), ("aaaa-1", vec![4]), ("bbbb", vec![1])] {
            assert_eq!(numbers(by_id("iot", &lines, id)), expected, "{id}");
        }
        for (id, words) in [
            ("aaaa", "several alerts begin with `aaaa`: aaaa-1, aaaa-9"),
            ("aaa", "`aaa` is too short for an id"),
            (
                "dddd",
                "no alert `dddd` is known in the state of `iot`\n  = the oldest that is kept is of 2025-07-20T08:19:17Z",
            ),
        ] {
            let error = by_id("iot", &lines, id).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_series_is_named_by_its_whole_key_or_by_columns() {
        let lines = [line(2, "spikes", &["aaaa-1"], "a"), line(1, "spikes", &["bbbb-1"], "b")];
        for (series, at, expected) in [
            ("a,temperature", None, vec![2]),
            ("sensor_id=b", None, vec![1]),
            ("metric_type=temperature", None, vec![2, 1]),
            ("metric_type=temperature,sensor_id=a", Some("2025-07-20 08:19"), vec![2]),
            ("metric_type=temperature", Some("2025-07-20T08:19:16.000001Z"), vec![1]),
        ] {
            assert_eq!(numbers(by_series(&lines, series, at)), expected, "{series} {at:?}");
        }
        for (series, at, words) in [
            ("a", None, "no alert of a series `a` is known; the newest alert is of `a,temperature`"),
            (
                "a,temperature",
                Some("2024"),
                "the series `a,temperature` has 1 alerts, but none whose time begins with `2024`",
            ),
        ] {
            let error = by_series(&lines, series, at).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
