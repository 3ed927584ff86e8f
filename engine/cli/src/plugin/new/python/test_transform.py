"""Tests of heartbeat.py: `python -m unittest`."""

import sys
import unittest

import pyarrow as pa

from heartbeat import Heartbeat
from pipeline_plugin import ConfigError


class Given:
    """Keeps what is emitted."""

    def emit(self, batch, origins=None):
        self.batch, self.origins = batch, origins


class Units(unittest.TestCase):
    def setUp(self):
        self.columns = pa.schema([pa.field("name", pa.string()), pa.field("value", pa.float64())])

    def test_values_are_converted_and_nulls_stay(self):
        stage = Heartbeat(column="value", factor=1.8, offset=32)
        stage.schema([self.columns])
        names, values = ["a", "b", "c", "d"], [0.0, None, 100.0, sys.float_info.max]
        given = Given()
        stage.process(0, pa.record_batch([names, values], schema=self.columns), given)
        self.assertEqual(given.batch.column(1).to_pylist(), [32.0, None, 212.0, None])
        self.assertIsNone(given.origins)

    def test_columns_that_do_not_fit_are_refused(self):
        for column in ("valeu", "name"):
            with self.assertRaises(ConfigError):
                Heartbeat(column=column).schema([self.columns])


if __name__ == "__main__":
    unittest.main()
