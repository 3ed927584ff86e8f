"""Rolling z-score, as two detectors: of one series in plain Python, and of whole batches with NumPy.

Both give the same bytes as the engine's own `zscore`, because what they add up is rounded once, and so does not depend on
how it was added up. For a detector of your own `numpy.mean` or `statistics.fmean` will do.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pipeline_plugin import BatchDetector, ConfigError, Detector, Score, Scores, group, option

GREATEST = sys.float_info.max
#: Sums run in this many lanes, side by side.
LANES = 4
#: Readings and what is computed of them stay in the processor's cache.
ELEMENTS_AT_ONCE = 1 << 16


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
        if values.count(values[0]) == len(values):
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
    detector.looks_back = window
    if window < samples:
        raise ConfigError(f"`min_samples` is {samples}, it must be at most `window`, {window}", "min_samples")


def mean_and_deviation(values):
    """Mean and population standard deviation; None if there is none that a float can hold."""
    mean = exact_sum(values) / len(values)
    if not abs(mean) < math.inf:
        return None
    try:
        deviation = math.sqrt(exact_spread(values) / len(values))
    except OverflowError:
        return None
    return (mean, deviation) if 0.0 < deviation else None


def exact_spread(values):
    """The sum of the squared distances from the mean, rounded once: floats are fractions, and Python divides whole numbers
    of any size without rounding before the end."""
    fractions = [value.as_integer_ratio() for value in values]
    count, below = len(values), max(below for _, below in fractions)
    wholes = [above * (below // own) for above, own in fractions]
    total = sum(wholes)
    return (count * sum(whole * whole for whole in wholes) - total * total) / (count * below * below)


def exact_sum(values):
    """The sum, rounded once, as the engine's detector has it."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.nan


class ZscoreNp(BatchDetector):
    """Scores a reading by how many standard deviations it is away from the mean of the readings before it.

    Whole batches at once, with NumPy.
    """

    statistic = "z_score"

    window: int = option(30, "How many readings before this one are looked at.", minimum=2, maximum=1_000)
    min_samples: int = option(2, "How many there must be before anything is said.", minimum=2)
    threshold: float = option(3.0, "How many standard deviations make an anomaly.", above=0)

    def setup(self):
        check_samples(self)
        #: The latest readings of a series, the newest at the end.
        self.latest = self.state("latest", (self.window,))
        #: How many readings it has had.
        self.seen = self.state("seen", (), "int64")

    def observe(self, series, values, at):
        groups = group(series)
        n_new, n_series = len(values), len(groups.numbers)
        # Of each series its latest readings and behind them those of the batch, one series after the other: then the
        # window of a reading is what stands before it, whether it was read now or earlier.
        pool = np.empty(n_series * self.window + n_new)
        windows = sliding_window_view(pool, self.window, writeable=True)
        begins = np.arange(n_series) * self.window + groups.starts
        windows[begins] = self.latest[groups.numbers]
        first = begins[groups.indices] + groups.positions
        by_series = values[groups.order]
        pool[first + self.window] = by_series

        seen = self.seen[groups.numbers]
        before = seen[groups.indices] + groups.positions
        found = np.full((6, n_new), np.nan)
        for rows, past in self.pasts(windows, first, before):
            found[:, groups.order[rows]] = self.scored(past, by_series[rows])

        self.latest[groups.numbers] = windows[begins + groups.counts]
        self.seen[groups.numbers] = seen + groups.counts
        score, is_anomaly, expected, lower, upper, z = found
        return Scores(score, expected, lower, upper, z, is_anomaly == 1.0)

    def pasts(self, windows, first, before):
        """Some rows at a time, with the readings before each: one column for each row, in the order in which a ring
        holds them, where reading number n stands at n % window."""
        at_once = max(ELEMENTS_AT_ONCE // self.window, 1)
        for count in range(self.min_samples, self.window):
            rows = np.flatnonzero(before == count) if self.is_filling(before) else ()
            for part in parts(rows, at_once):
                yield part, windows[first[part], self.window - count :].T
        rows = np.flatnonzero(self.window <= before)
        oldest = (before[rows] % self.window).astype(np.uint16)
        rows = rows[np.argsort(oldest, kind="stable")]
        for part in parts(rows, at_once):
            yield part, self.ring(windows[first[part]], before[part] % self.window)

    def is_filling(self, before):
        return len(before) and before.min() < self.window

    def ring(self, windows, oldest):
        """Windows, the oldest reading first, as rings; those that begin at the same place stand side by side."""
        past = np.empty(windows.shape[::-1])
        bounds = np.flatnonzero(np.diff(oldest, prepend=-1, append=-1))
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist()):
            begin = int(oldest[start])
            past[begin:, start:end] = windows[start:end, : self.window - begin].T
            past[:begin, start:end] = windows[start:end, self.window - begin :].T
        return past

    def scored(self, past, value):
        count = len(past)
        mean = exact_sums(past) / count
        deviation = np.sqrt(sums_of_squares(past, mean) / count)
        # Asked of the values, not of the deviation: rounding in the mean must not make a spread where there is none.
        has_spread = (past.min(axis=0) != past.max(axis=0)) & (0.0 < deviation) & (deviation < np.inf)
        # A spread that is next to nothing must not make an infinity of a finite reading.
        z = np.minimum(np.abs(value - mean) / deviation, GREATEST)
        margin = self.threshold * deviation
        score = np.minimum(z / self.threshold, GREATEST)
        columns = np.stack((score, self.threshold < z, mean, mean - margin, mean + margin, z))
        columns[:, ~(has_spread & np.isfinite(mean))] = np.nan
        return columns

    def adopt(self, saved):
        """Saved under another window: the newest readings are kept, and counted anew."""
        latest, seen = saved["latest"], saved["seen"]
        kept = np.zeros((len(seen), self.window))
        width = min(self.window, latest.shape[1])
        kept[:, self.window - width :] = latest[:, latest.shape[1] - width :]
        return {"latest": kept, "seen": np.minimum(seen, width)}


def parts(rows, at_once):
    """Rows in parts that the processor can hold."""
    return [rows[start : start + at_once] for start in range(0, len(rows), at_once)]


def two_sum(a, b):
    """The rounded sum and exactly what was rounded away (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def exact_sums(past):
    """The sum of each column, rounded once."""
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


def halves(values):
    """Each as two of half as many digits."""
    scaled = values * 134217729.0
    high = scaled - (scaled - values)
    return high, values - high


def product(a, b):
    """The rounded product and exactly what was rounded away (Dekker)."""
    (a_high, a_low), (b_high, b_low), rounded = halves(a), halves(b), a * b
    return rounded, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def square_by(values, rests, by):
    """The squares of numbers in two floats, by a number."""
    square, square_rest = product(values, values)
    part = square / by
    back, back_rest = product(part, by)
    return part, (((square - back) - back_rest) + (square_rest + 2.0 * values * rests)) / by


def sums_of_squares(past, mean):
    """The sum of the squared distances from the mean, of each column, rounded once."""
    count, width = past.shape
    squares, distances = Doubles(width), Doubles(width)
    for start in range(0, count, LANES):
        distance, rest = two_sum(past[start : start + LANES], -mean)
        of_distance, of_rest = product(distance, distance)
        squares.add(of_distance, of_rest + 2.0 * distance * rest)
        distances.add(distance, rest)
    total, rest = squares.total()
    # The mean was rounded, so the distances do not add up to nothing.
    off, off_rest = square_by(*distances.total(), float(count))
    total, lost = two_sum(total, -off)
    return total + (lost + (rest - off_rest))


class Doubles:
    """Sums in two floats each, with twice their digits; in lanes, of which the last step may fill only some."""

    def __init__(self, width):
        self.sums, self.rests = np.zeros((LANES, width)), np.zeros((LANES, width))

    def add(self, values, rests):
        some = slice(len(values))
        sums, lost = two_sum(self.sums[some], values)
        self.sums[some], self.rests[some] = two_sum(sums, self.rests[some] + (lost + rests))

    def total(self):
        total, rest = self.sums[0], self.rests[0]
        for lane in range(1, LANES):
            total, lost = two_sum(total, self.sums[lane])
            total, rest = two_sum(total, rest + (lost + self.rests[lane]))
        return total, rest
