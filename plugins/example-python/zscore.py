"""Rolling z-score, as two detectors: of one series in plain Python, and of whole batches with NumPy.

Both give the same bytes as the engine's own `zscore`, because they do the same arithmetic in the same order. For a
detector of your own `numpy.mean` or `statistics.fmean` will do.
"""

from __future__ import annotations

import math
import sys
from functools import reduce
from operator import add

from pipeline_plugin import BatchDetector, ConfigError, Detector, Score, Scores, group, option

GREATEST = sys.float_info.max
#: Sums run in this many lanes, as those of the engine's detector do.
LANES = 4


class ZscorePy(Detector):
    """Scores a reading by how many standard deviations it is away from the mean of the readings before it.

    One series at a time, in plain Python.
    """

    statistic = "z_score"

    window: int = option(30, "How many readings before this one are looked at.", minimum=2, maximum=100_000)
    min_samples: int = option(2, "How many there must be before anything is said.", minimum=2)
    threshold: float = option(3.0, "How many standard deviations make an anomaly.", above=0)

    def setup(self):
        check_samples(self)

    def start(self):
        # A ring: once it is full, the next reading takes the place of the oldest, which is at `next`.
        return {"values": [], "next": 0}

    def observe(self, series, reading):
        values, value = series["values"], reading.value
        score = self.score(values, value) if self.min_samples <= len(values) else None
        if len(values) < self.window:
            values.append(value)
        else:
            values[series["next"]] = value
            series["next"] = (series["next"] + 1) % self.window
        return score

    def score(self, values, value):
        if min(values) == max(values):
            return None  # A constant window has no spread to measure with.
        found = mean_and_deviation(values)
        if found is None:
            return None
        mean, deviation = found
        # A spread that is next to nothing must not make an infinity of a finite reading.
        z = min(abs(value - mean) / deviation, GREATEST)
        margin = self.threshold * deviation
        return Score(min(z / self.threshold, GREATEST), mean, mean - margin, mean + margin, z, self.threshold < z)

    def adopt(self, saved):
        values, oldest = saved["values"], saved["next"]
        if len(values) == self.window or (len(values) < self.window and oldest == 0):
            return saved
        # Saved under another window: laid out anew, oldest first; the newest are kept.
        values = values[oldest:] + values[:oldest]
        return {"values": values[max(len(values) - self.window, 0) :], "next": 0}


def check_samples(detector):
    samples, window = detector.min_samples, detector.window
    if window < samples:
        raise ConfigError(f"`min_samples` is {samples}, it must be at most `window`, {window}", "min_samples")


def mean_and_deviation(values):
    """Mean and population standard deviation; None if there is none that a float can hold."""
    count = len(values)
    mean = exact_sum(values) / count
    distances = [value - mean for value in values]
    squares = [distance * distance for distance in distances]
    whole = count - count % LANES
    # Not `sum`: from Python 3.12 on it is more exact than the engine's sum of squares.
    lanes = [reduce(add, squares[lane:whole:LANES], 0.0) for lane in range(LANES)]
    variance = (reduce(add, lanes) + reduce(add, squares[whole:], 0.0)) / count
    if not variance < math.inf or not abs(mean) < math.inf:
        return None
    deviation = math.sqrt(variance)
    return (mean, deviation) if 0.0 < deviation else None


def exact_sum(values):
    """The sum, rounded once: the engine's detector adds up beside the sum what each addition rounds away, which gives
    the same for readings of one sensor."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.nan


class ZscoreNp(BatchDetector):
    """Scores a reading by how many standard deviations it is away from the mean of the readings before it.

    Whole batches at once, with NumPy.
    """

    statistic = "z_score"

    window: int = option(30, "How many readings before this one are looked at.", minimum=2, maximum=100_000)
    min_samples: int = option(2, "How many there must be before anything is said.", minimum=2)
    threshold: float = option(3.0, "How many standard deviations make an anomaly.", above=0)

    def setup(self):
        check_samples(self)
        #: A ring for each series: reading number n stands at n % window.
        self.values = self.state("values", (self.window,))
        #: How many readings a series has had.
        self.seen = self.state("seen", (), "int64")

    def observe(self, series, values, at):
        import numpy as np

        groups = group(series)
        rings = self.values[groups.numbers]
        seen = self.seen[groups.numbers]
        by_series = values[groups.order]
        # How many readings of its series come before each row, and where the ring of its series begins.
        before = seen[groups.indices] + groups.positions
        found = np.full((6, len(values)), np.nan)
        # All values there are: the rings of before, then the batch by series.
        pool = np.concatenate((rings.ravel(), by_series))
        n_past = np.minimum(before, self.window)
        for count in np.unique(n_past[self.min_samples <= n_past]):
            rows = np.flatnonzero(n_past == count)
            for part in np.array_split(rows, -(-len(rows) // 2048)):
                past = pool[self.places(groups, seen, before, part, int(count), rings.size)]
                found[:, part] = self.scored(past, by_series[part])
        self.remember(groups, seen, by_series)
        score, is_anomaly, *rest = unsorted(found, groups.order)
        return Scores(score, *rest, is_anomaly=is_anomaly == 1.0)

    def places(self, groups, seen, before, rows, count, n_ringed):
        """Where in the pool the readings before each row stand, in the order of the ring: one column for each row."""
        import numpy as np

        window, of = self.window, groups.indices[rows]
        earlier = before[rows]
        slot = earlier % window
        # A reading of this batch stands behind the rings, in the order of its series.
        new = n_ringed + groups.starts[of] - seen[of] + earlier - slot
        ring = of * window
        oldest_new = seen[of]
        places = np.empty((count, len(rows)), np.int64)
        for j in range(count):
            # Slot j holds the latest reading whose number is j modulo the window.
            number = earlier - slot + j - np.where(slot <= j, window, 0)
            is_new = oldest_new <= number
            places[j] = np.where(is_new, new + j - np.where(slot <= j, window, 0), ring + j)
        return places

    def scored(self, past, value):
        import numpy as np

        count = len(past)
        least, greatest = past.min(axis=0), past.max(axis=0)
        mean = exact_sums(past) / count
        deviation = np.sqrt(sums_of_squares(past, mean) / count)
        has_spread = (least != greatest) & np.isfinite(mean) & np.isfinite(deviation) & (0.0 < deviation)
        z = np.minimum(np.abs(value - mean) / deviation, GREATEST)
        margin = self.threshold * deviation
        score = np.minimum(z / self.threshold, GREATEST)
        columns = np.stack((score, self.threshold < z, mean, mean - margin, mean + margin, z))
        columns[:, ~has_spread] = np.nan
        return columns

    def remember(self, groups, seen, by_series):
        # Of more readings than a ring has room for, only the last ones.
        is_kept = groups.counts[groups.indices] - self.window <= groups.positions
        slots = (seen[groups.indices] + groups.positions) % self.window
        of = groups.numbers[groups.indices]
        self.values[of[is_kept], slots[is_kept]] = by_series[is_kept]
        self.seen[groups.numbers] = seen + groups.counts

    def adopt(self, saved):
        """Saved under another window: laid out anew, oldest first; the newest are kept."""
        import numpy as np

        rings, seen = saved["values"], saved["seen"]
        n_series, was = rings.shape
        n_past = np.minimum(seen, was)
        n_kept = np.minimum(n_past, self.window)
        j = np.arange(self.window)
        # Reading j of those that are kept has this number.
        numbers = (seen - n_kept)[:, None] + j
        values = np.where(j < n_kept[:, None], rings[np.arange(n_series)[:, None], numbers % was], 0.0)
        return {"values": values, "seen": n_kept}


def unsorted(columns, order):
    """Columns in the order of the batch."""
    import numpy as np

    found = np.empty_like(columns)
    found[:, order] = columns
    return found


def two_sum(a, b):
    """The rounded sum and exactly what was rounded away (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def exact_sums(past):
    """The sum of each column, rounded once."""
    import numpy as np

    count, width = past.shape
    whole = count - count % LANES
    sums, errors = np.zeros((LANES, width)), np.zeros((LANES, width))
    for start in range(0, whole, LANES):
        sums, error = two_sum(sums, past[start : start + LANES])
        errors += error
    total, error_total = np.zeros(width), errors[0] + errors[1] + errors[2] + errors[3]
    for values in (*sums, *past[whole:]):
        total, error = two_sum(total, values)
        error_total += error
    return total + error_total


def sums_of_squares(past, mean):
    """The sum of the squared distances from the mean, of each column."""
    import numpy as np

    count, width = past.shape
    whole = count - count % LANES
    lanes, rest = np.zeros((LANES, width)), np.zeros(width)
    for start in range(0, whole, LANES):
        distances = past[start : start + LANES] - mean
        lanes += distances * distances
    for values in past[whole:]:
        distances = values - mean
        rest += distances * distances
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] + rest
