"""Tests of heartbeat.py: `python -m unittest`."""

import glob
import os
import tempfile
import unittest

import pyarrow as pa

from heartbeat import Heartbeat
from pipeline_plugin import Epoch, Mark, Owner


class Files(unittest.TestCase):
    def test_what_no_mark_has_is_cut_off(self):
        with tempfile.TemporaryDirectory() as folder:
            sink = Heartbeat(path=os.path.join(folder, "rows"))
            rows = pa.record_batch({"value": [1.5, 2.5]})

            def mark(epoch, detail=None):
                return Mark("test", "archive", "0", "0123456789", 1, epoch, detail=detail)

            sink.claim(Owner("test", "archive", "0", "0123456789", 1))
            (length,) = sink.commit([Epoch(mark(1), [rows])])
            sink.commit([Epoch(mark(2), [rows])])
            sink.claim(Owner("test", "archive", "0", "0123456789", 2, stored=mark(1, length)))
            (path,) = glob.glob(os.path.join(folder, "rows.0.01234567.jsonl"))
            with open(path) as file:
                self.assertEqual(file.read(), '{"value": 1.5}\n{"value": 2.5}\n')


if __name__ == "__main__":
    unittest.main()
