"""Sinks: where rows go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from .errors import FatalError
from .stage import Stage

if TYPE_CHECKING:
    import pyarrow as pa

_Reply = Tuple[Dict[str, Any], Sequence[Any]]


@dataclass(frozen=True)
class Mark:
    """How far the output of a task has got. A transactional sink keeps it with the rows."""

    pipeline: str
    sink: str
    task: str
    #: Tells one life of the state from another.
    state_id: str
    #: Which owner of the task wrote it.
    generation: int
    #: The last epoch whose rows are there.
    epoch: int
    #: Where that epoch ended, for people.
    positions: str = ""
    #: What ``commit`` gave for it, such as the length of a file.
    detail: Optional[str] = None


@dataclass(frozen=True)
class Owner:
    """Who writes from now on: one task of one run of a pipeline."""

    pipeline: str
    sink: str
    task: str
    state_id: str
    #: Rises with each owner of the task.
    generation: int
    #: The last mark that the engine has kept; a sink that is not transactional cuts back to it.
    stored: Optional[Mark] = None
    #: A mark of another state id is taken over, its epoch is kept.
    takes_over: bool = False


class Epoch:
    """The rows of one epoch of a task."""

    def __init__(self, mark: Mark, batches: "List[pa.RecordBatch]") -> None:
        #: What the mark says once the rows are written.
        self.mark = mark
        #: The rows, in order; may be none.
        self.batches = batches
        self._refused: List[Tuple[int, int, str]] = []

    def refuse(self, batch: int, row: int, why: str) -> None:
        """Says that a row can never be taken: it becomes a dead letter. **Write nothing then**, refuse all such rows of
        all epochs and return: ``commit`` is called again without them."""
        if not (0 <= batch < len(self.batches) and 0 <= row < self.batches[batch].num_rows):
            raise FatalError(f"row {row} of batch {batch} was refused, which there is not")
        self._refused.append((batch, row, str(why)))


class Sink(Stage):
    """Takes the rows of whole epochs. Derive from it, and write ``commit``.

    One process serves all tasks, one call at a time. ``TransientError`` is for what may work later: the engine claims
    again and sends what is missing.
    """

    kind = "sink"
    form = "sink"
    #: What it promises: ``transactional`` when rows and mark are written together and ``claim`` reads the mark;
    #: ``truncating`` when ``claim`` cuts back to ``owner.stored.detail``; else ``at_least_once``: after a crash the
    #: last epoch may be repeated.
    delivery: str = "at_least_once"

    def schema(self, rows: "pa.Schema") -> None:
        """The columns that it is going to get, before any I/O. Raise ``ConfigError`` when the options do not fit."""

    def claim(self, owner: Owner) -> Optional[Mark]:
        """Becomes the owner of a task's output, before its first commit and after each ``TransientError``.

        A transactional sink raises the generation of its mark, shuts earlier owners out, and gives the mark as it was;
        ``None`` when there is none. A mark of this state with a higher generation is a ``LostError``: a later owner
        has the task. What sinks give that are not transactional is not looked at.
        """
        return owner.stored

    def commit(self, epochs: List[Epoch]) -> Optional[List[Optional[str]]]:
        """Writes the rows of these epochs, with their marks if it is transactional, and returns once they are durable.

        A transactional sink updates the mark last, where the generation is that of the mark and the epoch is smaller;
        when there is no such mark it writes nothing and raises ``LostError``.

        May give a text for each epoch, the ``detail`` of its mark (the length of a file).
        """
        raise NotImplementedError(f"{type(self).__name__} has no `commit`")

    def check(self) -> List[str]:
        """Looks, for ``validate --connect``, whether what the options name is there and fits; each problem in words."""
        return []


class Outbox(Stage):
    """Takes single rows to a slow or failing other side. Derive from it, and write ``deliver``.

    The engine keeps the rows, in order, and tries again what has failed.
    """

    kind = "sink"
    form = "outbox"
    #: The least time between two deliveries, in seconds.
    at_most_every: float = 0.0
    #: The longest that a delivery may take, in seconds.
    timeout: float = 30.0
    #: How many rows may wait.
    max_pending: int = 10_000
    #: What becomes of more: ``digest`` makes one of them that counts the others, ``wait`` makes the pipeline wait.
    when_full: str = "digest"

    def schema(self, rows: "pa.Schema") -> None:
        """The columns that it is going to get, before any I/O. Raise ``ConfigError`` when the options do not fit."""

    def deliver(self, id: str, row: Dict[str, Any], digest_of: Optional[int]) -> None:
        """Delivers a row and returns once the other side has it. ``id`` is the same at every delivery of the same row.

        ``TransientError`` is tried again for ever, after ``retry_after`` if given; ``DataError`` makes a dead letter of
        the row. Times are text (RFC 3339). ``digest_of`` says for how many rows this one stands, if it is a digest.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `deliver`")

    def check(self) -> List[str]:
        """Looks, for ``validate --connect``, whether what the options name is well formed; each problem in words."""
        return []


def _mark(found: Optional[Dict[str, Any]]) -> Optional[Mark]:
    return None if found is None else Mark(**found)


class SinkRunner:
    """Runs a sink for the engine."""

    def __init__(self, sink: Sink, schema: bytearray) -> None:
        import pyarrow as pa

        self._pa = pa
        self._sink = sink
        self._schema = pa.ipc.read_schema(pa.py_buffer(schema))
        sink.schema(self._schema)
        self.about = {"delivery": sink.delivery, "has_claim": type(sink).claim is not Sink.claim}

    def on_claim(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Becomes the owner of a task's output."""
        owner = header["owner"]
        found = self._sink.claim(Owner(**{**owner, "stored": _mark(owner["stored"])}))
        if not isinstance(found, (Mark, type(None))):
            raise FatalError(f"`claim` gave {type(found).__name__}; it must give a `Mark` or None")
        return {"mark": None if found is None else asdict(found)}, ()

    def on_commit(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Writes epochs."""
        messages, epochs = iter(bodies), []
        for about in header["epochs"]:
            batches = [self._read(next(messages)) for _ in range(about["n_batches"])]
            epochs.append(Epoch(Mark(**about["mark"]), batches))
        details = self._sink.commit(epochs)
        refused = [[number, *row] for number, epoch in enumerate(epochs) for row in epoch._refused]
        return {"details": details or [], "refused": refused}, ()

    def _read(self, message: bytearray) -> "pa.RecordBatch":
        return self._pa.ipc.read_record_batch(self._pa.py_buffer(message), self._schema)

    def on_check(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """What is wrong with what the options name."""
        return {"problems": [str(problem) for problem in self._sink.check()]}, ()


class OutboxRunner:
    """Runs an outbox for the engine."""

    def __init__(self, outbox: Outbox, schema: bytearray) -> None:
        import pyarrow as pa

        self._outbox = outbox
        outbox.schema(pa.ipc.read_schema(pa.py_buffer(schema)))
        paces = ("at_most_every", "timeout", "max_pending", "when_full")
        self.about: Dict[str, Any] = {"delivery": "outbox", **{pace: getattr(outbox, pace) for pace in paces}}

    def on_deliver(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """Delivers a row."""
        self._outbox.deliver(header["id"], header["row"], header["digest_of"])
        return {}, ()

    def on_check(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        """What is wrong with what the options name."""
        return {"problems": [str(problem) for problem in self._outbox.check()]}, ()
