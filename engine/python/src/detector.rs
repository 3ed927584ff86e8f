//! A detector in Python: numbered series, values and times go over, scores come back.

use pipeline_stage::keyed::{BatchDetector, Readings};
use pipeline_stage::{ErrorKind, Result, Score, StageContext, StageError};
use serde_json::{Value, json};

use crate::frame::{Frame, header};
use crate::plugin::Launch;
use crate::process::Process;
use crate::stage_type::build_header;

/// See the module.
pub struct PythonDetector {
    process: Process,
    has_times: bool,
    looks_back: Option<u64>,
}

/// The columns of an answer: five of numbers, and one of flags.
const COLUMNS: usize = 6;

impl PythonDetector {
    /// Starts a process for it and lets it make the detector.
    pub fn build(launch: &Launch, stage: &str, options: Value, context: &StageContext) -> Result<Self> {
        let mut process = launch.start(&context.id)?;
        let built = process.call(build_header("detector", stage, options, context), &[])?;
        let looks_back = match built.header.get("looks_back") {
            None | Some(Value::Null) => None,
            Some(readings) => Some(readings.as_u64().ok_or_else(|| {
                StageError::fatal(format!("`looks_back` is {readings}, it must be a number of readings, or None"))
            })?),
        };
        Ok(PythonDetector { process, has_times: false, looks_back })
    }
}

impl BatchDetector for PythonDetector {
    fn load(&mut self, saved: Vec<(u32, Vec<u8>)>) -> Result<()> {
        let numbers = bytes_of(saved.iter().map(|(number, _)| number.to_le_bytes()));
        let (lengths, whole) = joined(saved.iter().map(|(_, series)| series.as_slice()))?;
        self.process.call(header("load", json!({})), &[&numbers, &lengths, &whole])?;
        Ok(())
    }

    fn observe(&mut self, readings: &Readings) -> Result<Vec<Score>> {
        let numbers = |numbers: &[u32]| bytes_of(numbers.iter().map(|number| number.to_le_bytes()));
        let (forgotten, series) = (numbers(&readings.forgotten), numbers(&readings.series));
        let values = bytes_of(readings.values.iter().map(|value| value.to_le_bytes()));
        let at = bytes_of(readings.at.iter().map(|at| at.to_le_bytes()));
        self.has_times |= !readings.at.is_empty();
        let question = header("observe", json!({"has_times": self.has_times}));
        let answer = self.process.call(question, &[&forgotten, &series, &values, &at]);
        // Half of a batch may be remembered already: neither another try nor going on without it would be exact.
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::Data | ErrorKind::Transient => StageError::fatal(error.chain()),
            _ => error,
        })?;
        scores(&answer, readings.series.len())
    }

    fn looks_back(&self) -> Option<u64> {
        self.looks_back
    }

    fn save(&mut self, series: &[u32]) -> Result<Vec<Vec<u8>>> {
        let numbers = bytes_of(series.iter().map(|number| number.to_le_bytes()));
        let answer = self.process.call(header("save", json!({})), &[&numbers])?;
        match answer.bodies.as_slice() {
            [lengths, whole] => cut(lengths, whole),
            bodies => Err(StageError::fatal(format!("the Python process saved {} bodies, not 2", bodies.len()))),
        }
    }
}

fn scores(answer: &Frame, n_readings: usize) -> Result<Vec<Score>> {
    let sizes: Vec<usize> = answer.bodies.iter().map(Vec::len).collect();
    let mut expected = vec![n_readings * size_of::<f64>(); COLUMNS - 1];
    expected.push(n_readings);
    if sizes != expected {
        return Err(StageError::fatal(format!(
            "the Python process gave columns of {sizes:?} bytes for {n_readings} readings, it must be {expected:?}"
        )));
    }
    let column = |number: usize| answer.bodies[number].as_chunks().0;
    let (score, expected, lower, upper, statistic) = (column(0), column(1), column(2), column(3), column(4));
    let scores = (0..n_readings).map(|row| Score {
        score: f64::from_le_bytes(score[row]),
        is_anomaly: answer.bodies[COLUMNS - 1][row] != 0,
        expected: f64::from_le_bytes(expected[row]),
        lower: f64::from_le_bytes(lower[row]),
        upper: f64::from_le_bytes(upper[row]),
        statistic: f64::from_le_bytes(statistic[row]),
    });
    Ok(scores.collect())
}

/// Numbers one after the other.
fn bytes_of<const SIZE: usize>(numbers: impl Iterator<Item = [u8; SIZE]>) -> Vec<u8> {
    numbers.collect::<Vec<_>>().into_flattened()
}

/// Parts of bytes as their lengths and all of them one after the other.
pub fn joined<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut lengths, mut whole) = (Vec::new(), Vec::new());
    for part in parts {
        let length = u32::try_from(part.len()).map_err(|_| StageError::fatal("a value of state has more than 4 GB"))?;
        lengths.extend_from_slice(&length.to_le_bytes());
        whole.extend_from_slice(part);
    }
    Ok((lengths, whole))
}

/// The reverse of [`joined`].
pub fn cut(lengths: &[u8], whole: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (mut rest, mut parts) = (whole, Vec::new());
    let (chunks, left_over) = lengths.as_chunks();
    for length in chunks {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((part, after)) = rest.split_at_checked(length) else {
            return Err(StageError::fatal("the Python process saved lengths that do not fit its bytes"));
        };
        parts.push(part.to_vec());
        rest = after;
    }
    match rest.is_empty() && left_over.is_empty() {
        true => Ok(parts),
        false => Err(StageError::fatal("the Python process saved lengths that do not fit its bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were() {
        let parts = [b"abc".to_vec(), Vec::new(), b"d".to_vec()];
        let (lengths, whole) = joined(parts.iter().map(Vec::as_slice)).expect("they are short");
        assert_eq!(cut(&lengths, &whole).expect("they fit"), parts);
        for (lengths, whole) in [(&lengths[..4], &whole[..]), (&lengths[..], &whole[1..]), (&lengths[..11], &whole[..])]
        {
            assert!(cut(lengths, whole).is_err());
        }
    }

    #[test]
    fn columns_of_another_length_are_refused() {
        let frame = |sizes: [usize; 6]| Frame {
            header: serde_json::Map::new(),
            bodies: sizes.iter().map(|size| vec![0; *size]).collect(),
        };
        assert_eq!(scores(&frame([16, 16, 16, 16, 16, 2]), 2).expect("two scores").len(), 2);
        for wrong in [[16, 16, 16, 16, 16, 1], [8, 16, 16, 16, 16, 2], [16, 16, 16, 16, 24, 2]] {
            assert!(scores(&frame(wrong), 2).is_err(), "{wrong:?}");
        }
        assert!(scores(&Frame { header: serde_json::Map::new(), bodies: Vec::new() }, 0).is_err());
    }
}
