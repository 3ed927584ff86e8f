//! A detector of one series that stands in a library; keys, lookup and state are the engine's.

use std::cell::RefCell;

use arrow_schema::SchemaRef;
use pipeline_stage::{Detector, Reading, Result, Score, StageContext, StageError};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::build::{BuildCall, Handle, build};
use super::call::threw;
use super::guard::guarded;
use super::stage_type::Descriptor;
use crate::raw::{NO_TIME, RawReading, RawScore};

/// The most memory of one series: more would be a mistake, or too much for a plant of sensors.
const MAX_SERIES_SIZE: usize = 16 << 20;

/// The most memory of one series that is copied before each reading, so that an anomaly has its evidence: some
/// nanoseconds, less than the call. A window of a hundred readings has room.
const MAX_COPIED_SIZE: usize = 1 << 10;

/// See the module.
pub struct LoadedDetector {
    handle: Handle,
    statistic: String,
    series_size: usize,
    bytes_per_series: usize,
    looks_back: Option<u64>,
    /// What was thrown where nothing can fail.
    thrown: RefCell<Option<String>>,
    /// The memory of a series before the reading that is being scored.
    before: RefCell<Series>,
}

/// The memory of a series, which only the library understands.
pub struct Series {
    /// In units of 16 bytes, so that it is aligned.
    words: Box<[u128]>,
    size: usize,
}

impl LoadedDetector {
    /// Lets the library make the detector.
    pub fn build(
        descriptor: Descriptor,
        options: Value,
        context: &StageContext,
        inputs: &[SchemaRef],
        statistic: &str,
    ) -> Result<Self> {
        let (handle, built) = build(descriptor, &BuildCall::new(&options, context, inputs))?;
        if built.series_size == 0 || MAX_SERIES_SIZE < built.series_size {
            return Err(StageError::fatal(format!(
                "the plugin wants {} bytes of memory for a series, it may be 1 to {MAX_SERIES_SIZE}",
                built.series_size
            )));
        }
        let bytes_per_series = (built.bytes_per_series as usize).max(built.series_size);
        let (statistic, series_size) = (statistic.to_owned(), built.series_size);
        let before = RefCell::new(Series::of(series_size));
        let looks_back = Some(built.looks_back).filter(|readings| 0 < *readings);
        let thrown = RefCell::default();
        Ok(LoadedDetector { handle, statistic, series_size, bytes_per_series, looks_back, thrown, before })
    }

    /// A call that cannot fail; what it throws is told by `check`.
    fn run<R: Default>(&self, body: impl FnOnce() -> R) -> R {
        match self.handle.calls().watch(|| guarded(body)) {
            Ok(result) => result,
            Err(words) => {
                self.thrown.borrow_mut().get_or_insert(words);
                R::default()
            }
        }
    }

    fn load(&self, saved: &Series, series: &mut Series) -> Result<()> {
        let Some(load) = self.handle.raw().load else {
            return Err(StageError::fatal(format!(
                "a series was saved with {} bytes of memory, these options need {}, and the plugin cannot turn one into the other",
                saved.size, self.series_size
            )));
        };
        let to = series.words.as_mut_ptr().cast();
        // SAFETY: both have the sizes that are said.
        self.handle
            .call(|error| unsafe { load(self.handle.stage(), saved.words.as_ptr().cast(), saved.size, to, error) })
    }
}

impl Detector for LoadedDetector {
    const STATE_VERSION: u16 = 0;
    const STATISTIC: &'static str = "";
    type Series = Series;

    fn state_version(&self) -> u16 {
        self.handle.raw().state_version
    }

    fn statistic(&self) -> &str {
        &self.statistic
    }

    fn start(&self) -> Series {
        let mut series = Series::of(self.series_size);
        if let Some(start) = self.handle.raw().start {
            // SAFETY: the memory has the size that the library has asked for.
            self.run(|| unsafe { start(self.handle.stage(), series.words.as_mut_ptr().cast()) });
        }
        series
    }

    fn adopt(&self, saved: Series) -> Result<Series> {
        if saved.size == self.series_size && self.handle.raw().load.is_none() {
            return Ok(saved);
        }
        let mut series = self.start();
        self.load(&saved, &mut series)?;
        Ok(series)
    }

    /// The library scores and remembers in one step: it is given a copy of the memory.
    fn score(&self, series: &Series, reading: &Reading) -> Option<Score> {
        self.observe(&mut series.copy(), reading)
    }

    fn remember(&self, series: &mut Series, reading: &Reading, _score: Option<&Score>) {
        self.observe(series, reading);
    }

    fn observe(&self, series: &mut Series, reading: &Reading) -> Option<Score> {
        let observe = self.handle.raw().observe?;
        let raw = RawReading { at: reading.at.map_or(NO_TIME, |at| at.0), value: reading.value };
        let mut score = RawScore::default();
        let memory = series.words.as_mut_ptr().cast();
        // SAFETY: the memory has the size that the library has asked for; one call at a time (rule 4).
        let has_score = self.run(|| unsafe { observe(self.handle.stage(), memory, &raw, &mut score) });
        let RawScore { score, expected, lower, upper, statistic, is_anomaly } = score;
        (has_score == 1).then_some(Score { score, expected, lower, upper, statistic, is_anomaly: is_anomaly != 0 })
    }

    /// One step: what was before is known only from a copy, made for every reading.
    fn observe_anomaly(&self, series: &mut Series, reading: &Reading, keep: impl FnOnce(&Series)) -> Option<Score> {
        let mut before = self.before.borrow_mut();
        before.words.copy_from_slice(&series.words);
        let score = self.observe(series, reading);
        if score.is_some_and(|score| score.is_anomaly) {
            keep(&before);
        }
        score
    }

    fn no_evidence(&self) -> Option<String> {
        (MAX_COPIED_SIZE < self.series_size).then(|| {
            format!(
                "the library scores and remembers in one step, and its {} bytes of memory for a series are too many to \
                 be copied before every reading; up to {MAX_COPIED_SIZE} are",
                self.series_size
            )
        })
    }

    fn check(&self) -> Result<()> {
        self.thrown.take().map_or(Ok(()), |words| Err(threw(&words)))
    }

    fn bytes_per_series(&self) -> usize {
        self.bytes_per_series
    }

    fn looks_back(&self) -> Option<u64> {
        self.looks_back
    }
}

impl Series {
    fn of(size: usize) -> Self {
        Series { words: vec![0; size.div_ceil(size_of::<u128>())].into(), size }
    }

    fn copy(&self) -> Self {
        Series { words: self.words.clone(), size: self.size }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the words have at least `size` bytes, and bytes may be anything.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.size) }
    }

    fn read(saved: &[u8]) -> Self {
        let mut series = Series::of(saved.len());
        for (word, bytes) in series.words.iter_mut().zip(saved.chunks(size_of::<u128>())) {
            let mut whole = [0; size_of::<u128>()];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u128::from_ne_bytes(whole);
        }
        series
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Series;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of a series")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Series, E> {
                Ok(Series::read(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
