"""Detectors of one series: the simple form."""

from __future__ import annotations

import dataclasses
import json
from array import array
from itertools import repeat
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from .errors import FatalError
from .stage import Stage

_NAN = float("nan")
_INFINITY = float("inf")
#: The time of a reading that has none, in the engine's form.
NO_TIME = -(1 << 63)


class Reading:
    """One reading of a series."""

    __slots__ = ("value", "at")

    def __init__(self, value: float, at: Optional[int] = None) -> None:
        #: Its value; always finite.
        self.value = value
        #: Its event time in microseconds since 1970, if the stage was given a ``time`` column and the row has one.
        self.at = at

    def __repr__(self) -> str:
        return f"Reading({self.value!r}, at={self.at!r})"


class Score(NamedTuple):
    """What a detector says of a reading. What is not finite is null in the column."""

    #: 1.0 is the threshold, whatever the method.
    score: float
    #: The value that would have been least surprising.
    expected: float = _NAN
    #: Below this the reading would have been an anomaly; minus infinity when nothing is too low.
    lower: float = -_INFINITY
    #: Above this the reading would have been an anomaly; infinity when nothing is too high.
    upper: float = _INFINITY
    #: The method's own figure, for the column that ``statistic`` names.
    statistic: float = _NAN
    #: Default: ``score`` is above 1.0.
    is_anomaly: Optional[bool] = None


class Detector(Stage):
    """Scores one series at a time. Derive from it, and write ``start`` and ``observe``.

    What is remembered of a series is a plain Python value that ``start`` makes and ``observe`` changes; the engine
    finds it for each reading, saves it with every checkpoint and gives it back after a restart.

    ``statistic`` names the column of the method's own figure; default: the stage's name.

    ``looks_back`` says how many readings of a series before one suffice to score it as if all had been seen; set it in
    ``setup`` where options decide. By it the dashboard can show the expected band of the past. Default ``None``: not
    known, or it depends on all of them.
    """

    kind = "detector"
    form = "series"
    statistic: str = ""
    looks_back: Optional[int] = None

    def start(self) -> Any:
        """A series of which nothing was read yet: a list, a dict, or an instance of a dataclass.

        It is saved as JSON, so it is made of ``dict`` with text as keys, ``list``, ``str``, ``int``, ``float`` (also
        infinite or NaN), ``bool`` and ``None``; a tuple would come back as a list, and is refused.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `start`")

    def observe(self, series: Any, reading: Reading) -> Optional[Score]:
        """Scores the next reading of a series against what came before it, then remembers it, by changing ``series``.

        ``None``: too early to say. Called once for each reading, in the order of the partition; rows in which the
        value is null or not finite never get here.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `observe`")

    def adopt(self, saved: Any) -> Any:
        """Takes a series that was saved, perhaps under other options (a larger window). Called once for each at a
        restart; gives what ``observe`` shall get. Raise ``FatalError`` when it cannot be used."""
        return saved


class SeriesRunner:
    """Runs a detector of one series for the engine."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._series: List[Any] = []
        first = detector.start()
        self._dataclass = type(first) if dataclasses.is_dataclass(first) else None
        if self._dataclass is None and not isinstance(first, (dict, list)):
            raise FatalError(
                f"`start` gave {_a(first)}; it must give a list, a dict or an instance of a dataclass, "
                "which `observe` can change"
            )

    def load(self, numbers: memoryview, saved: List[memoryview]) -> None:
        """Takes series that were saved."""
        for number, text in zip(numbers.tolist(), saved):
            try:
                read = json.loads(bytes(text).decode())
                if self._dataclass is not None:
                    read = self._dataclass(**read)
            except (ValueError, TypeError) as error:
                raise FatalError("saved state cannot be read") from error
            self._room_for(number)
            self._series[number] = self._detector.adopt(read)

    def observe(
        self, forgotten: memoryview, numbers: memoryview, values: memoryview, at: Optional[memoryview]
    ) -> Tuple[Sequence[Any], bytes]:
        """Scores the readings of a batch: five columns of numbers, and which are anomalies."""
        known, observe, start = self._series, self._detector.observe, self._detector.start
        for number in forgotten.tolist():
            if number < len(known):
                known[number] = None
        series_of = numbers.tolist()
        self._room_for(max(series_of, default=-1))
        found: List[Optional[Score]] = []
        append = found.append
        for number, reading in zip(series_of, map(Reading, values.tolist(), _times(at))):
            series = known[number]
            if series is None:
                series = known[number] = start()
            append(observe(series, reading))
        return columns(found)

    def save(self, numbers: memoryview) -> List[bytes]:
        """These series as text."""
        return [self._text(self._series[number]) for number in numbers.tolist()]

    def _text(self, series: Any) -> bytes:
        if self._dataclass is not None:
            series = {part.name: getattr(series, part.name) for part in dataclasses.fields(self._dataclass)}
        _check_plain(series, "the series")
        return json.dumps(series, ensure_ascii=False, separators=(",", ":")).encode()

    def _room_for(self, number: int) -> None:
        missing = number + 1 - len(self._series)
        if 0 < missing:
            self._series.extend([None] * missing)


def _times(at: Optional[memoryview]) -> Any:
    if at is None:
        return repeat(None)
    return [None if time == NO_TIME else time for time in at.tolist()]


_NOTHING = Score(_NAN, _NAN, _NAN, _NAN, _NAN, False)
_ALLOWED = {Score, type(None)}


def columns(found: Sequence[Optional[Score]]) -> Tuple[Sequence[Any], bytes]:
    """Scores as five columns of numbers, and which are anomalies."""
    for kind in set(map(type, found)) - _ALLOWED:
        raise FatalError(f"`observe` gave {_article(kind.__name__)}; it must give a `Score` or None")
    if not found:
        return [b""] * 5, b""
    rows = [_NOTHING if score is None else score for score in found]
    score, expected, lower, upper, statistic, flags = zip(*rows)
    try:
        numbers = [array("d", column) for column in (score, expected, lower, upper, statistic)]
    except (TypeError, OverflowError):
        raise FatalError(f"`observe` gave {_first_wrong(rows)}; the parts of a `Score` are numbers") from None
    is_anomaly = bytes([(1.0 < above if flag is None else bool(flag)) for flag, above in zip(flags, numbers[0])])
    return numbers, is_anomaly


def _first_wrong(rows: Sequence[Score]) -> Any:
    for row in rows:
        try:
            array("d", row[:5])
        except (TypeError, OverflowError):
            return row
    return "a score that is none"


_PLAIN = {str, int, float, bool, type(None)}


def _check_plain(value: Any, where: str) -> None:
    kind = type(value)
    if kind is list:
        # Most are lists of numbers: one look at the types of all is enough.
        if not set(map(type, value)) <= _PLAIN:
            for number, item in enumerate(value):
                _check_plain(item, f"{where}[{number}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FatalError(f"{where} has the key {key!r}, which would come back as text; its keys must be text")
            if type(item) not in _PLAIN:
                _check_plain(item, f"{where}[{key!r}]")
    elif kind not in _PLAIN:
        raise FatalError(f"{where} is {_a(value)}, which cannot be saved; it must be a dict, list, text, number or None")


def _a(value: Any) -> str:
    return _article(type(value).__name__)


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "aeiouAEIOU" else f"a {name}"

