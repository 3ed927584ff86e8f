"""Transforms: rows into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .errors import FatalError
from .stage import Stage

if TYPE_CHECKING:
    import pyarrow as pa


class Output:
    """What a transform says about the rows it was given. Each must be emitted, rejected, late, filtered or held."""

    def __init__(self, schema: "pa.Schema", n_rows: Optional[int]) -> None:
        self._schema = schema
        self._n_rows = n_rows
        self._header: Dict[str, Any] = {"emitted": [], "rejected": [], "late": [], "filtered": 0, "created": 0}
        self._bodies: List[Any] = []

    def emit(self, batch: "pa.RecordBatch", origins: "Optional[Iterable[int]]" = None) -> None:
        """Gives rows to the stages below.

        ``origins`` says from which row of the batch that was given each row came: ids of alerts, dead letters and
        ``explain`` need it. Without it row *i* came from row *i*, and there must be as many.
        """
        if self._n_rows is None:
            raise FatalError("there is no batch that rows could come from here: use `emit_created`")
        if origins is None:
            if batch.num_rows != self._n_rows:
                raise FatalError(
                    f"{batch.num_rows} rows were emitted for {self._n_rows} without saying which came from which; "
                    "give `origins`"
                )
            self._emit("same", batch)
            return
        import array

        rows = array.array("I", [self._row(row) for row in _plain(origins)])
        if len(rows) != batch.num_rows:
            raise FatalError(f"{batch.num_rows} rows were emitted with {len(rows)} origins")
        self._emit("rows", batch)
        self._bodies.append(rows.tobytes())

    def emit_created(self, batch: "pa.RecordBatch") -> None:
        """Gives rows that were made in ``tick``, or of rows that were taken earlier and held. Rows that never came in
        must be counted with ``created``, too."""
        self._emit("created", batch)

    def reject(self, row: int, why: str) -> None:
        """Makes a dead letter of a row of the batch that was given, with the reason in words."""
        self._header["rejected"].append([self._row(row), str(why)])

    def late(self, row: int) -> None:
        """Drops a row of the batch that was given because the watermark has passed it."""
        self._header["late"].append(self._row(row))

    def filtered(self, rows: int) -> None:
        """Counts rows that were left out on purpose."""
        self._header["filtered"] += _count(rows)

    def created(self, rows: int) -> None:
        """Counts rows that are given without having come in."""
        self._header["created"] += _count(rows)

    def _emit(self, origin: str, batch: "pa.RecordBatch") -> None:
        if not batch.schema.equals(self._schema):
            raise FatalError(f"a batch has the columns {_shown(batch.schema)}, `schema` says {_shown(self._schema)}")
        batch.validate(full=True)
        self._header["emitted"].append(origin)
        self._bodies.append(batch.serialize())

    def _row(self, row: Any) -> int:
        number = int(row)
        if not 0 <= number < (self._n_rows or 0):
            raise FatalError(f"row {number} was named, the batch has {self._n_rows or 0} rows")
        return number

    def _taken(self) -> Tuple[Dict[str, Any], Sequence[Any]]:
        return self._header, self._bodies


class Transform(Stage):
    """Turns rows into rows. Derive from it, and write ``schema`` and ``process``.

    It is pure: no I/O, clock or randomness; how rows are cut into batches must not matter.
    """

    kind = "transform"
    form = "transform"

    def schema(self, inputs: "List[pa.Schema]") -> "pa.Schema":
        """The columns it gives, made of those of each input, in the order of ``inputs:``. Called once, after ``setup``.

        Columns are ``string``, ``int64``, ``float64``, ``bool_`` or ``timestamp("us", "UTC")``. Raise ``ConfigError``
        when the options do not fit the columns.
        """
        return inputs[0]

    def process(self, input: int, batch: "pa.RecordBatch", out: Output) -> None:
        """Takes the next rows. ``input`` numbers the edge they come by, in the order of ``inputs:``.

        What it gives, rejects or drops it says to ``out``; rows that it keeps for later count in ``held``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `process`")

    def tick(self, now: int, watermark: Optional[int], out: Output) -> None:
        """The end of an epoch: its recorded time, and the latest event time seen, if there was one; both in
        microseconds since 1970. Time does not move otherwise."""

    def save(self) -> Dict[bytes, Optional[bytes]]:
        """What has changed in its state since the last call: bytes by key, ``None`` for a key that is no more."""
        return {}

    def load(self, saved: Dict[bytes, bytes]) -> None:
        """Takes the state as it was saved, all keys; called once after ``schema``, if there is any. The options may be
        others than they were; raise ``FatalError`` for what cannot be used."""
        raise FatalError("there is saved state, and the stage has no `load`")

    @property
    def held(self) -> int:
        """Rows that it has taken and neither given, rejected nor dropped yet."""
        return 0


def _plain(origins: Any) -> Iterable[Any]:
    for method in ("to_pylist", "tolist"):
        if hasattr(origins, method):
            return getattr(origins, method)()
    return origins


def _count(rows: Any) -> int:
    number = int(rows)
    if number < 0:
        raise FatalError(f"{number} rows were counted")
    return number


def _shown(schema: "pa.Schema") -> str:
    return ", ".join(f"{part.name} {part.type}" for part in schema) or "(none)"


class TransformRunner:
    """Runs a transform for the engine."""

    def __init__(self, transform: Transform, inputs: Sequence[Any]) -> None:
        import pyarrow as pa

        self._pa = pa
        self._transform = transform
        self._inputs = [pa.ipc.read_schema(pa.py_buffer(schema)) for schema in inputs]
        self.schema = transform.schema(list(self._inputs))
        if not isinstance(self.schema, pa.Schema):
            raise FatalError(f"`schema` gave {type(self.schema).__name__}, it must give a pyarrow.Schema")
        #: What need not be asked for, because the class has none of it.
        kind = type(transform)
        self.has = [name for name in ("tick", "save") if getattr(kind, name) is not getattr(Transform, name)]

    def process(self, input: int, message: Any) -> Tuple[Dict[str, Any], Sequence[Any]]:
        """Takes the next rows."""
        batch = self._pa.ipc.read_record_batch(self._pa.py_buffer(message), self._inputs[input])
        out = Output(self.schema, batch.num_rows)
        self._transform.process(input, batch, out)
        return self._told(out)

    def tick(self, now: int, watermark: Optional[int]) -> Tuple[Dict[str, Any], Sequence[Any]]:
        """The end of an epoch."""
        out = Output(self.schema, None)
        self._transform.tick(now, watermark, out)
        return self._told(out)

    def _told(self, out: Output) -> Tuple[Dict[str, Any], Sequence[Any]]:
        header, bodies = out._taken()
        header["held"] = _count(self._transform.held)
        return header, bodies

    def load(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Takes the state as it was saved."""
        self._transform.load(dict(zip(keys, values)))

    def save(self) -> Tuple[List[bytes], List[bytes], List[bool]]:
        """Keys, values, and which of them are puts."""
        changes = self._transform.save()
        for key, value in changes.items():
            if not isinstance(key, bytes) or not isinstance(value, (bytes, type(None))):
                raise FatalError(f"`save` gave {key!r}: {type(value).__name__}; keys and values are bytes")
        return list(changes), [value or b"" for value in changes.values()], [v is not None for v in changes.values()]
