"""`heartbeat`: readings of a machine that is made up, a wave with a jump now and then.

To read something real, replace `row` and `due`. What must stay: rows have rising offsets, reading from an offset goes on
there, and the same rows come again when they are read again.
"""

import datetime
import math
import time

import pyarrow as pa

from pipeline_plugin import ConfigError, Rows, Source, option

_START = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
#: Rows given at once, at most: others have their turn in between.
_AT_ONCE = 1_000


class Heartbeat(Source):
    """Gives readings of a machine that is made up.

    Columns: `machine` (string), `value` (float, a wave around 20 that jumps once in 97 rows) and `timestamp`, from
    2025-01-01 on.
    """

    name = "heartbeat"
    example = """
        readings:
          type: heartbeat
          per_second: 200
    """

    per_second: float = option(200.0, "How many rows come in a second.", above=0, maximum=1_000_000)
    count: int = option(0, "After how many rows it ends; 0: never, a run with `--once` needs more.", minimum=0)

    def setup(self):
        if self.context.once and self.count == 0:
            raise ConfigError("a run with `--once` needs `count`: without it there is no last row", "count")

    def schema(self):
        return pa.schema(
            [
                pa.field("machine", pa.string(), nullable=False),
                pa.field("value", pa.float64(), nullable=False),
                pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
            ]
        )

    def read(self, partition, offset):
        first = offset or 0
        next_row, since = first, time.monotonic()
        while self.count == 0 or next_row < self.count:
            due = self.due(first, time.monotonic() - since)
            end = min(due, next_row + _AT_ONCE, self.count or due)
            if end <= next_row:
                time.sleep(0.005)
                yield None
                continue
            numbers = range(next_row, end)
            yield Rows([self.row(number) for number in numbers], numbers)
            next_row = end

    def due(self, first, seconds):
        """Before which row it should be, so long after it was opened at `first`."""
        return first + 1 + int(seconds * self.per_second)

    def row(self, number):
        """A row; always the same."""
        value = 20.0 + 2.0 * math.sin(number / 50.0) + 0.1 * (number % 7)
        return {
            "machine": "press" if number % 2 == 0 else "lathe",
            "value": value + (30.0 if number % 97 == 96 else 0.0),
            "timestamp": _START + datetime.timedelta(seconds=number / self.per_second),
        }
