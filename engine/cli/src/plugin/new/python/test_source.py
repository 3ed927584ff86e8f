"""Tests of heartbeat.py: `python -m unittest`."""

import unittest

from heartbeat import Heartbeat


def numbers(source, offset, enough):
    """The offsets that it gives from one on, up to so many."""
    found = []
    for rows in source.read("0", offset):
        if rows is not None:
            found.extend(rows.offsets)
        if enough <= len(found):
            break
    return found[:enough]


class Readings(unittest.TestCase):
    def test_it_goes_on_where_it_was_left(self):
        source = Heartbeat(per_second=1_000_000)
        self.assertEqual(numbers(source, None, 30), list(range(30)))
        self.assertEqual(numbers(source, 10, 20), list(range(10, 30)))

    def test_it_ends_after_count(self):
        self.assertEqual(numbers(Heartbeat(per_second=1_000_000, count=7), None, 100), list(range(7)))

    def test_a_row_is_always_the_same_and_one_in_97_jumps(self):
        source = Heartbeat()
        rows = [source.row(number) for number in range(200)]
        self.assertEqual(rows, [source.row(number) for number in range(200)])
        self.assertEqual([number for number, row in enumerate(rows) if 40 < row["value"]], [96, 193])


if __name__ == "__main__":
    unittest.main()
