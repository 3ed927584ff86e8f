"""Detectors as their authors test them, and as the engine runs them."""

import unittest
from array import array

import numpy as np

from pipeline_plugin import BatchDetector, Detector, Reading, Score, Scores, group
from pipeline_plugin.batch import BatchRunner
from pipeline_plugin.detector import NO_TIME, SeriesRunner


class Count(Detector):
    """Counts the readings of a series."""

    def start(self):
        return {"n": 0}

    def observe(self, series, reading):
        series["n"] += 1
        return None if series["n"] == 1 else Score(series["n"], reading.value, statistic=reading.at or -1)


class CountAll(BatchDetector):
    """The same for all series at once."""

    def setup(self):
        self.n = self.state("n", (), "int64")

    def observe(self, series, values, at):
        score = np.full(len(series), np.nan)
        for rows in group(series).rounds():
            self.n[series[rows]] += 1
            score[rows] = self.n[series[rows]]
        score[score == 1] = np.nan
        return Scores(score, np.where(np.isnan(score), np.nan, values))


def view(code, items):
    return memoryview(array(code, items))


def observe(runner, series, values, forgotten=(), at=None):
    times = None if at is None else view("q", at)
    columns, is_anomaly = runner.observe(view("I", forgotten), view("I", series), view("d", values), times)
    return [np.frombuffer(column, np.float64).tolist() for column in columns], list(bytes(is_anomaly))


class Detectors(unittest.TestCase):
    def test_an_author_calls_a_detector_as_the_engine_does(self):
        detector = Count()
        series = detector.start()
        self.assertIsNone(detector.observe(series, Reading(1.0)))
        self.assertEqual(detector.observe(series, Reading(5.0, at=7)).score, 2)

    def test_series_are_apart_and_begin_anew_when_they_are_forgotten(self):
        for runner in (SeriesRunner(Count()), BatchRunner(CountAll())):
            columns, flags = observe(runner, [0, 7, 0, 0], [1.0, 2.0, 3.0, 4.0])
            np.testing.assert_equal(columns[0], [np.nan, np.nan, 2, 3])
            np.testing.assert_equal(columns[1], [np.nan, np.nan, 3, 4])
            self.assertEqual(flags, [0, 0, 1, 1])
            columns, _ = observe(runner, [0, 7], [1.0, 2.0], forgotten=[0])
            np.testing.assert_equal(columns[0], [np.nan, 2])

    def test_a_batch_without_readings_is_none(self):
        for runner in (SeriesRunner(Count()), BatchRunner(CountAll())):
            self.assertEqual(observe(runner, [], [], forgotten=[300]), ([[]] * 5, []))

    def test_a_time_that_is_missing_is_none(self):
        columns, _ = observe(SeriesRunner(Count()), [0, 0, 0], [1.0] * 3, at=[5, NO_TIME, 9])
        self.assertEqual(columns[4][1:], [-1, 9])

    def test_what_is_saved_is_loaded(self):
        for make in (lambda: SeriesRunner(Count()), lambda: BatchRunner(CountAll())):
            runner, other = make(), make()
            observe(runner, [0, 1, 1], [1.0, 2.0, 3.0])
            saved = runner.save(view("I", [1, 0]))
            other.load(view("I", [5, 2]), [memoryview(series) for series in saved])
            columns, _ = observe(other, [5, 2], [1.0, 1.0])
            self.assertEqual(columns[0], [3, 2])


class Grouping(unittest.TestCase):
    def test_rows_are_grouped_in_their_order(self):
        groups = group(np.array([5, 2, 5, 5, 9, 2]))
        self.assertEqual(groups.numbers.tolist(), [2, 5, 9])
        self.assertEqual(groups.order.tolist(), [1, 5, 0, 2, 3, 4])
        self.assertEqual(groups.counts.tolist(), [2, 3, 1])
        self.assertEqual(groups.positions.tolist(), [0, 1, 0, 1, 2, 0])
        self.assertEqual([sorted(rows.tolist()) for rows in groups.rounds()], [[0, 1, 4], [2, 5], [3]])

    def test_large_numbers_are_sorted_as_well(self):
        series = np.random.default_rng(7).integers(0, 200, 5_000) * 21_474_836
        self.assertEqual(group(series).order.tolist(), np.argsort(series, kind="stable").tolist())

    def test_nothing_has_no_groups(self):
        groups = group(np.array([], np.int64))
        self.assertEqual((groups.numbers.tolist(), list(groups.rounds())), ([], []))


if __name__ == "__main__":
    unittest.main()
