"""Sources: where rows come from."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from .errors import FatalError
from .stage import Stage

if TYPE_CHECKING:
    import pyarrow as pa

#: What the engine takes at once.
_MAX_ROWS = 8_192

_Reply = Tuple[Dict[str, Any], Sequence[Any]]


@dataclass
class Rows:
    """Rows that were read, in order."""

    #: A ``pyarrow.RecordBatch`` of the source's schema, or a list of dicts with its columns.
    rows: "Union[pa.RecordBatch, List[Dict[str, Any]]]"
    #: For each row a number that rises: a line, a byte in a file, an id. After a restart reading goes on with the first
    #: row whose offset is at least what the engine says.
    offsets: Sequence[int]


class Source(Stage):
    """Gives rows. Derive from it, and write ``schema`` and ``read``.

    One process serves all partitions, one call at a time.
    """

    kind = "source"
    form = "source"
    #: Whether the same rows can be read again from any offset, which recovery needs. Of a source that cannot, the
    #: engine keeps the rows until they are in a checkpoint; ``logged`` says when they are safe.
    is_replayable: bool = True

    def schema(self) -> "pa.Schema":
        """The columns it gives: ``string``, ``int64``, ``float64``, ``bool_`` or ``timestamp("us", "UTC")``. No I/O."""
        raise NotImplementedError(f"{type(self).__name__} has no `schema`")

    def partitions(self) -> List[str]:
        """The names of its partitions, always the same and in the same order; each is read by a task of its own.

        A source that does not write this method has one stream, which the engine spreads over ``tasks:``.
        """
        return ["0"]

    def read(self, partition: str, offset: Optional[int]) -> "Iterator[Optional[Rows]]":
        """Reads a partition: a generator that gives ``Rows`` from ``offset`` on, ``None`` at the first start.

        It yields ``None`` when there is nothing for now, so that others have their turn; it must not wait for longer
        than some 50 ms by itself. When it ends, the stream is over: of a source that goes on for ever only with
        ``self.context.once``, where its end was when it was opened.

        It is closed (``GeneratorExit``) when the task ends. After an exception it is made anew.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `read`")

    def logged(self, partition: str, offset: int) -> None:
        """All rows before ``offset`` are on the engine's disk: they may be acknowledged."""

    def forget(self, partition: str, offset: int) -> None:
        """All rows before ``offset`` are in a checkpoint: they are never read again."""

    def check(self) -> List[str]:
        """Looks, for ``validate --connect``, whether what the options name is there; each problem in words."""
        return []


class _Reader:
    """A partition that is being read: cuts what the generator gives to what the engine asks for."""

    def __init__(self, rows: "Iterator[Optional[Rows]]", offset: int) -> None:
        self._rows = rows
        self._batch: Any = None
        self._offsets: List[int] = []
        #: Where it stands.
        self.offset = offset
        self._is_over = False

    def next(self, schema: "pa.Schema", until: Optional[int]) -> Tuple[Any, List[int], bool]:
        """A batch with its offsets, or none; and whether nothing will come below ``until``."""
        if not self._offsets and not self._is_over:
            self._fetch(schema)
        if not self._offsets:
            return None, [], self._is_over
        count = min(len(self._offsets), _MAX_ROWS)
        if until is not None:
            count = sum(offset < until for offset in self._offsets[:count])
        if count == 0 and until is not None:
            self.offset = max(self.offset, until)
            return None, [], True
        batch, offsets = self._batch.slice(0, count), self._offsets[:count]
        self._batch, self._offsets = self._batch.slice(count), self._offsets[count:]
        self.offset = offsets[-1] + 1
        is_done = self._is_over and not self._offsets
        if until is not None and (until <= self.offset or bool(self._offsets) and until <= self._offsets[0]):
            # Nothing lies between the last row and the limit.
            self.offset, is_done = max(self.offset, until), True
        return batch, offsets, is_done

    def _fetch(self, schema: "pa.Schema") -> None:
        import pyarrow as pa

        try:
            found = next(self._rows)
        except StopIteration:
            self._is_over = True
            return
        if found is None:
            return
        if not isinstance(found, Rows):
            raise FatalError(f"`read` gave {type(found).__name__}; it must give `Rows` or None")
        batch = found.rows if isinstance(found.rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(found.rows, schema)
        if not batch.schema.equals(schema):
            raise FatalError(f"`read` gave the columns {batch.schema.names}, `schema` says {schema.names}")
        offsets = [int(offset) for offset in found.offsets]
        if len(offsets) != batch.num_rows:
            raise FatalError(f"`read` gave {batch.num_rows} rows with {len(offsets)} offsets")
        batch.validate(full=True)
        self._batch, self._offsets = batch, offsets

    def close(self) -> None:
        """Ends the generator."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()


class SourceRunner:
    """Runs a source for the engine."""

    def __init__(self, source: Source) -> None:
        import pyarrow as pa

        self._source = source
        self.schema = source.schema()
        if not isinstance(self.schema, pa.Schema):
            raise FatalError(f"`schema` gave {type(self.schema).__name__}, it must give a pyarrow.Schema")
        has_partitions = type(source).partitions is not Source.partitions
        self.about = {"is_replayable": bool(source.is_replayable), "has_partitions": has_partitions}
        self._readers: Dict[int, _Reader] = {}
        self._n_opened = 0

    def on_partitions(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """The names of the partitions."""
        return {"partitions": [str(name) for name in self._source.partitions()]}, ()

    def on_open(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Opens a partition."""
        offset = header["offset"]
        self._n_opened += 1
        self._readers[self._n_opened] = _Reader(self._source.read(header["partition"], offset), offset or 0)
        return {"reader": self._n_opened, "offset": offset or 0}, [self.schema.serialize()]

    def on_read(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """The next rows of a partition."""
        reader, started = self._readers[header["reader"]], time.monotonic()
        batch, offsets, is_over = reader.next(self.schema, header["until"])
        if batch is None and not is_over:
            # Each reader has its part of the time, so that one that is idle does not keep the others.
            left = header["wait"] / len(self._readers) - (time.monotonic() - started)
            time.sleep(max(left, 0.0))
        reply = {"is_over": is_over, "offset": reader.offset}
        return reply, () if batch is None else [batch.serialize(), array("Q", offsets).tobytes()]

    def on_close(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """A task has ended."""
        self._readers.pop(header["reader"]).close()
        return {}, ()

    def on_logged(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Rows are safe."""
        self._source.logged(header["partition"], header["offset"])
        return {}, ()

    def on_forget(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Rows are never read again."""
        self._source.forget(header["partition"], header["offset"])
        return {}, ()

    def on_check(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """What is wrong with what the options name."""
        return {"problems": [str(problem) for problem in self._source.check()]}, ()
