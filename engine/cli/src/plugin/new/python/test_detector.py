"""Tests of heartbeat.py: `python -m unittest`."""

import math
import sys
import unittest

from heartbeat import MIN_STEPS, Heartbeat
from pipeline_plugin import ConfigError, Reading


def scores(detector, series, values):
    return [detector.observe(series, Reading(value)) for value in values]


def steady(readings):
    """A series that moves by 1, up and down."""
    return [20.0 + number % 2 for number in range(readings)]


class Jumps(unittest.TestCase):
    def setUp(self):
        self.detector = Heartbeat()
        self.series = self.detector.start()

    def test_it_says_nothing_before_it_has_seen_some_steps(self):
        first = [score is not None for score in scores(self.detector, self.series, steady(20))].index(True)
        self.assertEqual(first, MIN_STEPS + 1)

    def test_a_jump_is_an_anomaly_and_a_usual_step_is_none(self):
        scores(self.detector, self.series, steady(20))
        jump, usual = scores(self.detector, self.series, [31.0, 30.0])
        self.assertEqual((jump.is_anomaly, jump.statistic, jump.score), (True, 10.0, 2.5))
        self.assertEqual((jump.expected, jump.lower, jump.upper), (21.0, 17.0, 25.0))
        self.assertFalse(usual.is_anomaly)

    def test_an_outlier_does_not_become_the_norm(self):
        scores(self.detector, self.series, steady(50) + [1e9])
        self.assertLess(self.series.usual_step, 1.2)

    def test_a_series_that_stands_still_has_no_scores_until_it_moves(self):
        self.assertTrue(all(score is None for score in scores(self.detector, self.series, [7.0] * 50)))
        self.assertTrue(any(scores(self.detector, self.series, steady(3))))

    def test_only_finite_numbers_are_remembered(self):
        largest = sys.float_info.max
        scores(self.detector, self.series, [largest, -largest, largest, -largest])
        self.assertTrue(math.isfinite(self.series.usual_step))

    def test_bad_options_are_refused(self):
        for options in ({"threshold": 1.0}, {"memory": 1}, {"treshold": 2.0}):
            with self.assertRaises(ConfigError):
                Heartbeat(**options)


if __name__ == "__main__":
    unittest.main()
