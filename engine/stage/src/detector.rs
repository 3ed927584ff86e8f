//! A detector is a model of one series.
//!
//! Keying, nulls, state, limits on the number of keys, expiry, output columns, snapshots and lookup are written
//! once, around it, in [`Keyed`](crate::keyed::Keyed).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::options::StageOptions;
use crate::position::Timestamp;

/// Options that make a detector.
pub trait DetectorOptions: StageOptions {
    /// What they make.
    type Detector: Detector;

    /// Checks the options and makes the detector. The error is of kind `Config`.
    fn build(self) -> Result<Self::Detector>;
}

/// Scores one series. It holds the options; what it remembers of a series is in `Series`.
pub trait Detector: Send + 'static {
    /// Raised when `Series` changes so that older state cannot be read.
    const STATE_VERSION: u16;

    /// The column of the method's own statistic: `z_score`.
    const STATISTIC: &'static str;

    /// What is remembered of one series. Only finite numbers may get into it.
    ///
    /// It may have been saved under other options (a larger window): `adopt` fits it to these, or `remember` copes.
    type Series: Serialize + DeserializeOwned + Send;

    /// The version that saved state must have. Another than the constant only where it is known at run time.
    fn state_version(&self) -> u16 {
        Self::STATE_VERSION
    }

    /// The column of the method's own statistic. Another than the constant only where it is known at run time.
    fn statistic(&self) -> &str {
        Self::STATISTIC
    }

    /// A series of which nothing was read yet.
    fn start(&self) -> Self::Series;

    /// Takes a series that was saved, perhaps under other options. Called once for each at a restart, before all else.
    ///
    /// # Errors
    /// When it cannot be read: the pipeline does not start.
    fn adopt(&self, saved: Self::Series) -> Result<Self::Series> {
        Ok(saved)
    }

    /// Scores a reading against what came before it in its series. `None`: too early to say.
    ///
    /// The same series and the same reading give the same score, to the last bit: `explain` computes it again.
    fn score(&self, series: &Self::Series, reading: &Reading) -> Option<Score>;

    /// Remembers a reading, with what was said of it. Called once for each reading, in the order of the partition.
    fn remember(&self, series: &mut Self::Series, reading: &Reading, score: Option<&Score>);

    /// Scores the next reading of a series, then remembers it. Another than this one only where both are one step.
    fn observe(&self, series: &mut Self::Series, reading: &Reading) -> Option<Score> {
        let score = self.score(series, reading);
        self.remember(series, reading, score.as_ref());
        score
    }

    /// As `observe`, and shows `keep` what the series was before the reading when that is an anomaly.
    fn observe_anomaly(
        &self,
        series: &mut Self::Series,
        reading: &Reading,
        keep: impl FnOnce(&Self::Series),
    ) -> Option<Score> {
        let score = self.score(series, reading);
        if score.is_some_and(|score| score.is_anomaly) {
            keep(series);
        }
        self.remember(series, reading, score.as_ref());
        score
    }

    /// Asks for what a series has elsewhere in memory, with [`prefetch`](crate::prefetch): it is scored a little later.
    fn prefetch(&self, _series: &Self::Series) {}

    /// Prepares what the next score of a series needs of its past alone, to be kept in the series. Many series are prepared
    /// one after the other, with little else in between, so that the processor can work on several at once. Scores must
    /// be the same without it.
    fn foresee(&self, _series: &mut Self::Series) {}

    /// Why it keeps no evidence, in words for people: then `observe_anomaly` is never called. None: it does.
    fn no_evidence(&self) -> Option<String> {
        None
    }

    /// The readings that a series remembers, the oldest first, for people; none when it keeps figures instead.
    fn window(&self, _series: &Self::Series) -> Option<Vec<f64>> {
        None
    }

    /// How many readings before one suffice to score it: a series that begins so many readings earlier, or any number more,
    /// gives the same score as one that has seen everything. None: not known, or it depends on all of them.
    fn looks_back(&self) -> Option<u64> {
        None
    }

    /// What went wrong in the calls above that have no way to say so. Called after each batch; an error ends the run at
    /// the last commit.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Roughly what a series costs in memory, in bytes, for `validate` to tell.
    fn bytes_per_series(&self) -> usize {
        size_of::<Self::Series>()
    }
}

/// One reading of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Its event time, if the detector was given a time column.
    pub at: Option<Timestamp>,
    /// Its value; always finite.
    pub value: f64,
}

/// What a detector says of a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// 1.0 is the threshold, whatever the method.
    pub score: f64,
    /// Above the threshold.
    pub is_anomaly: bool,
    /// The value that would have been least surprising.
    pub expected: f64,
    /// Below this the reading would have been an anomaly; minus infinity when nothing is too low.
    pub lower: f64,
    /// Above this the reading would have been an anomaly; infinity when nothing is too high.
    pub upper: f64,
    /// The method's own figure, for the column [`Detector::STATISTIC`].
    pub statistic: f64,
}
