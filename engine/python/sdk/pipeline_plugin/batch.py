"""Detectors of whole batches, with NumPy: the fast form."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from .errors import FatalError
from .stage import Stage

if TYPE_CHECKING:
    import numpy as np

_NAN = float("nan")
_INFINITY = float("inf")
#: Fewer would be grown too often, more would be wasted on small plants.
_FIRST_ROOM = 256


@dataclass
class Scores:
    """What a detector says of the readings of a batch: arrays with one entry for each reading, or one value for all.

    What is not finite is null in the column; NaN everywhere says that it is too early to say.
    """

    #: 1.0 is the threshold, whatever the method.
    score: "np.ndarray"
    #: The values that would have been least surprising.
    expected: "Union[np.ndarray, float]" = _NAN
    #: Below these the readings would have been anomalies.
    lower: "Union[np.ndarray, float]" = -_INFINITY
    #: Above these the readings would have been anomalies.
    upper: "Union[np.ndarray, float]" = _INFINITY
    #: The method's own figures, for the column that ``statistic`` names.
    statistic: "Union[np.ndarray, float]" = _NAN
    #: Default: where ``score`` is above 1.0.
    is_anomaly: "Optional[np.ndarray]" = None


class State:
    """What is remembered of all series, one entry for each: ``state[series]`` reads and writes the entries of an array
    of series numbers."""

    def __init__(self, shape: Tuple[int, ...], dtype: Any, fill: Any) -> None:
        import numpy as np

        self._fill = fill
        #: All entries; row *n* is the one of series *n*. It is another array after the engine has seen new series, so
        #: take it from here in each call of ``observe``.
        self.array: "np.ndarray" = np.full((0, *shape), fill, dtype)
        if self.array.dtype.kind not in "biuf":
            raise FatalError(f"state of type {self.array.dtype} cannot be saved; it must be of numbers or booleans")

    def __getitem__(self, index: Any) -> Any:
        # Of whole entries `take` copies each in one piece, which is several times as fast.
        is_of_series = getattr(index, "ndim", 0) == 1 and index.dtype.kind in "iu"
        return self.array.take(index, axis=0) if is_of_series else self.array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[index] = value

    def _room_for(self, count: int) -> None:
        import numpy as np

        room = len(self.array)
        if room < count:
            more = np.full((max(count, 2 * room, _FIRST_ROOM) - room, *self.array.shape[1:]), self._fill, self.array.dtype)
            self.array = np.concatenate((self.array, more))

    def _reset(self, numbers: "np.ndarray") -> None:
        self.array[numbers] = self._fill


class BatchDetector(Stage):
    """Scores the readings of many series at once. Derive from it, declare ``state`` in ``setup``, write ``observe``.

    It needs NumPy: ``pip install numpy``.

    A series is a number here, from 0 on, without holes that matter; numbers of series that are forgotten are used
    again, and their state is as at the beginning then. The engine makes the numbers, so they differ between runs:
    nothing of a score may depend on them.
    """

    kind = "detector"
    form = "batch"
    statistic: str = ""
    #: As of ``Detector``.
    looks_back: Optional[int] = None

    def state(self, name: str, shape: Tuple[int, ...] = (), dtype: Any = "float64", fill: Any = 0) -> State:
        """Declares what is remembered of each series: an entry of this shape and type, at first filled with ``fill``.

        Call it in ``setup``, and keep what it gives. Entries of series that had readings are saved with the next
        checkpoint, all others are not written.
        """
        states: Dict[str, State] = self.__dict__.setdefault("_states", {})
        if name in states:
            raise FatalError(f"there are two states called `{name}`")
        states[name] = State(tuple(shape), dtype, fill)
        return states[name]

    def observe(self, series: "np.ndarray", values: "np.ndarray", at: "Optional[np.ndarray]") -> Optional[Scores]:
        """Scores readings against what came before each in its series, then remembers them.

        ``series`` (int64) and ``values`` (float64, always finite) have one entry for each reading, in the order of the
        partition; so has ``at`` (datetime64[us], NaT where a row has no time), which is None if the stage was not
        given a ``time`` column. ``None`` says nothing of any.

        **Several readings may be of one series**, next to each other or not, and then the second one must be scored
        with the first one remembered. How the rows are cut into batches must not matter. ``group(series)`` helps: its
        ``rounds()`` give rows of which no two are of one series.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `observe`")

    def adopt(self, saved: "Dict[str, np.ndarray]") -> "Dict[str, np.ndarray]":
        """Takes series that were saved under other options, so that shapes, types or names of states are others.

        ``saved`` has one array for each state that there was, row *i* being one series; what is given back has one for
        each state that there is, with as many rows. Not called when nothing has changed. Without it such state is
        refused.
        """
        was = ", ".join(f"`{name}` {array.dtype}{list(array.shape[1:])}" for name, array in saved.items())
        now = ", ".join(f"`{name}` {s.array.dtype}{list(s.array.shape[1:])}" for name, s in _states(self).items())
        raise FatalError(f"the series were saved with the state {was}, these options need {now}: write `adopt`")


def _states(detector: BatchDetector) -> Dict[str, State]:
    return detector.__dict__.get("_states", {})


class Groups:
    """The rows of a batch by their series; see :func:`group`."""

    def __init__(self, series: "np.ndarray") -> None:
        import numpy as np

        n_rows = len(series)
        #: The rows, sorted by series; those of one series in their order.
        self.order: "np.ndarray" = _stable_order(series)
        by_series = series[self.order]
        is_first = np.ones(n_rows, dtype=bool)
        np.not_equal(by_series[1:], by_series[:-1], out=is_first[1:])
        #: Where in ``order`` each series begins.
        self.starts: "np.ndarray" = np.flatnonzero(is_first)
        #: The series there are, each once, rising.
        self.numbers: "np.ndarray" = by_series[self.starts]
        #: How many rows each series has.
        self.counts: "np.ndarray" = np.diff(self.starts, append=n_rows)
        #: For each entry of ``order``: which of ``numbers`` it belongs to.
        self.indices: "np.ndarray" = np.cumsum(is_first) - 1
        #: For each entry of ``order``: how many rows of its series come before it in the batch.
        self.positions: "np.ndarray" = np.arange(n_rows, dtype=np.int64) - self.starts[self.indices]

    def rounds(self) -> "Iterator[np.ndarray]":
        """Rows of the batch, in rounds: no two rows of a round are of one series, and those of a series come in their
        order. There are as many rounds as the most frequent series has rows."""
        for position in range(int(self.counts.max(initial=0))):
            has_one = position < self.counts
            yield self.order[self.starts[has_one] + position]


def group(series: "np.ndarray") -> Groups:
    """The rows of a batch by their series."""
    return Groups(series)


def _stable_order(series: "np.ndarray") -> "np.ndarray":
    import numpy as np

    # Numbers of 16 bits are sorted by their digits, which is ten times as fast as by comparing them.
    order = np.argsort((series & 0xFFFF).astype(np.uint16), kind="stable")
    if 0xFFFF < series.max(initial=0):
        order = order[np.argsort((series >> 16).astype(np.uint16)[order], kind="stable")]
    return order


class BatchRunner:
    """Runs a detector of batches for the engine."""

    def __init__(self, detector: BatchDetector) -> None:
        import numpy

        self._np = numpy
        self._detector = detector
        self._states = _states(detector)
        #: What stands before the bytes of each series: they could not be read without.
        layout = [[name, state.array.dtype.str, list(state.array.shape[1:])] for name, state in self._states.items()]
        self._head = json.dumps(layout, separators=(",", ":")).encode()

    def load(self, numbers: memoryview, saved: List[memoryview]) -> None:
        """Takes series that were saved."""
        np = self._np
        by_head: Dict[bytes, Tuple[List[int], List[memoryview]]] = {}
        for number, whole in zip(numbers.tolist(), saved):
            (length,) = struct.unpack_from("<H", whole) if 2 <= len(whole) else (0,)
            of_head = by_head.setdefault(bytes(whole[2 : 2 + length]), ([], []))
            of_head[0].append(number)
            of_head[1].append(whole[2 + length :])
        for head, (of_head_numbers, parts) in by_head.items():
            arrays = self._read(head, parts)
            if head != self._head:
                arrays = self._adopted(arrays, len(parts))
            at = np.array(of_head_numbers)
            self._room_for(at)
            for name, state in self._states.items():
                state.array[at] = arrays[name]

    def _read(self, head: bytes, parts: List[memoryview]) -> Dict[str, Any]:
        np = self._np
        try:
            layout = [(name, np.dtype(dtype), tuple(shape)) for name, dtype, shape in json.loads(head.decode())]
            whole = np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), -1)
            arrays, start = {}, 0
            for name, dtype, shape in layout:
                end = start + dtype.itemsize * int(np.prod(shape, dtype=int))
                arrays[name] = whole[:, start:end].copy().view(dtype).reshape(len(parts), *shape)
                start = end
            if start != whole.shape[1]:
                raise ValueError(f"{whole.shape[1]} bytes for a series, its layout has {start}")
        except (ValueError, TypeError) as error:
            raise FatalError("saved state cannot be read") from error
        return arrays

    def _adopted(self, saved: Dict[str, Any], n_series: int) -> Dict[str, Any]:
        arrays = self._detector.adopt(saved)
        for name, state in self._states.items():
            found = None if arrays.get(name) is None else self._np.shape(arrays[name])
            needed = (n_series, *state.array.shape[1:])
            if found != needed:
                raise FatalError(f"`adopt` gave {found} for the state `{name}`, it must be of shape {needed}")
        return arrays

    def observe(
        self, forgotten: memoryview, numbers: memoryview, values: memoryview, at: Optional[memoryview]
    ) -> Tuple[Sequence[Any], Any]:
        """Scores the readings of a batch: five columns of numbers, and which are anomalies."""
        np = self._np
        gone = np.frombuffer(forgotten, np.uint32)
        series = np.frombuffer(numbers, np.uint32).astype(np.int64)
        self._room_for(gone)
        self._room_for(series)
        for state in self._states.values():
            state._reset(gone)
        if len(series) == 0:
            return [b""] * 5, b""
        times = None if at is None else np.frombuffer(at, "datetime64[us]")
        with np.errstate(all="ignore"):
            scores = self._detector.observe(series, np.frombuffer(values, np.float64), times)
            return self._columns(Scores(np.full(len(series), _NAN)) if scores is None else scores, len(series))

    def _columns(self, scores: Scores, n_rows: int) -> Tuple[Sequence[Any], Any]:
        if not isinstance(scores, Scores):
            raise FatalError(f"`observe` gave {type(scores).__name__}; it must give `Scores` or None")
        names = ("score", "expected", "lower", "upper", "statistic")
        numbers = [self._column(name, getattr(scores, name), n_rows, self._np.float64) for name in names]
        flags = 1.0 < numbers[0] if scores.is_anomaly is None else scores.is_anomaly
        return numbers, self._column("is_anomaly", flags, n_rows, bool)

    def _column(self, name: str, found: Any, n_rows: int, dtype: Any) -> Any:
        array = self._np.asarray(found, dtype)
        if array.shape not in ((), (n_rows,)):
            raise FatalError(f"`{name}` has the shape {array.shape}, there are {n_rows} readings")
        return self._np.ascontiguousarray(self._np.broadcast_to(array, (n_rows,)))

    def save(self, numbers: memoryview) -> List[bytes]:
        """These series as bytes."""
        np = self._np
        at = np.frombuffer(numbers, np.uint32)
        n_series = len(at)
        parts = [state.array[at].reshape(n_series, -1).view(np.uint8) for state in self._states.values()]
        whole = np.concatenate(parts, axis=1).tobytes() if parts else b""
        head, size = struct.pack("<H", len(self._head)) + self._head, len(whole) // max(n_series, 1)
        return [head + whole[start : start + size] for start in range(0, size * n_series, size)] if size else [head] * n_series

    def _room_for(self, numbers: Any) -> None:
        count = int(numbers.max(initial=0)) + 1 if len(numbers) else 0
        for state in self._states.values():
            state._room_for(count)
