"""Answers the engine, one request at a time."""

from __future__ import annotations

import os
import select
import threading
import time
from array import array
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import logs
from .batch import BatchRunner
from .detector import SeriesRunner
from .errors import described
from .plugin import Plugin
from .sink import OutboxRunner, SinkRunner
from .source import SourceRunner
from .stage import Context, Stage
from .transform import TransformRunner
from .wire import Wire, view_of

#: Raised when a frame means something else than before.
PROTOCOL = 1
#: How long a call may go on when the engine is gone: long enough to end in the ordinary way.
_END_WITHIN_SECONDS = 2.0

_Reply = Tuple[Dict[str, Any], Sequence[Any]]


class Server:
    """One plugin, and at most one stage of it."""

    def __init__(self, wire: Wire, path: str, sha256: Optional[str]) -> None:
        self._wire = wire
        self._path = path
        self._sha256 = sha256
        self._plugin: Optional[Plugin] = None
        self._runner: Any = None

    def run(self) -> None:
        """Until the engine closes its end."""
        threading.Thread(target=_end_with, args=(self._wire.input,), daemon=True, name="engine").start()
        self._wire.send({"protocol": PROTOCOL})
        while True:
            request = self._wire.receive()
            if request is None:
                return
            header, bodies = request
            op = header["op"]
            try:
                # Sources and sinks answer for themselves.
                answer = getattr(self, "_" + op, None) or getattr(self._runner, "on_" + op)
                reply = answer(header, bodies)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the engine is told
                kind = "config" if op in ("describe", "build") else "fatal"
                reply = {"error": _with_hint(described(error, kind), error)}, ()
            self._wire.send(*reply)

    def _describe(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        return {"stages": self._loaded().describe()}, ()

    def _loaded(self) -> Plugin:
        if self._plugin is None:
            self._plugin = Plugin(self._path, self._sha256)
        return self._plugin

    def _build(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        logs.start(header["level"])
        kind = self._loaded().stage(header["kind"], header["stage"])
        # Before its options are set, because `setup` may want to know.
        stage: Stage = kind.__new__(kind)
        stage.context = Context(**header["context"])
        stage.__init__(**header["options"])  # type: ignore[misc]
        if kind.form == "source":
            self._runner = SourceRunner(stage)  # type: ignore[arg-type]
            return self._runner.about, [self._runner.schema.serialize()]
        if kind.form in ("sink", "outbox"):
            self._runner = (SinkRunner if kind.form == "sink" else OutboxRunner)(stage, bodies[0])  # type: ignore[arg-type]
            return self._runner.about, ()
        if kind.form == "transform":
            self._runner = TransformRunner(stage, bodies)  # type: ignore[arg-type]
            return {"has": self._runner.has}, [self._runner.schema.serialize()]
        self._runner = (SeriesRunner if kind.form == "series" else BatchRunner)(stage)  # type: ignore[arg-type]
        return {"looks_back": stage.looks_back}, ()  # type: ignore[attr-defined]

    def _load(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        numbers, lengths, whole = bodies
        self._runner.load(view_of(numbers, "I"), _cut(whole, lengths))
        return {}, ()

    def _observe(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        forgotten, numbers, values = bodies[:3]
        at = view_of(bodies[3], "q") if header["has_times"] else None
        columns, is_anomaly = self._runner.observe(
            view_of(forgotten, "I"), view_of(numbers, "I"), view_of(values, "d"), at
        )
        return {}, [*columns, is_anomaly]

    def _save(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        return {}, _joined(self._runner.save(view_of(bodies[0], "I")))

    def _process(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        return self._runner.process(header["input"], bodies[0])

    def _tick(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        return self._runner.tick(header["now"], header["watermark"])

    def _load_all(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        keys, values = (_cut(bodies[part + 1], bodies[part]) for part in (0, 2))
        self._runner.load([bytes(key) for key in keys], [bytes(value) for value in values])
        return {}, ()

    def _save_all(self, header: Dict[str, Any], bodies: List[bytearray]) -> _Reply:
        keys, values, are_puts = self._runner.save()
        return {}, [*_joined(keys), *_joined(values), bytes(are_puts)]


def _cut(whole: bytearray, lengths: bytearray) -> List[memoryview]:
    view, parts, start = memoryview(whole), [], 0
    for length in view_of(lengths, "I").tolist():
        parts.append(view[start : start + length])
        start += length
    return parts


def _joined(parts: Sequence[bytes]) -> List[bytes]:
    return [array("I", map(len, parts)).tobytes(), b"".join(parts)]


def _with_hint(error: Dict[str, Any], cause: BaseException) -> Dict[str, Any]:
    """What to install when a module is missing."""
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        import sys

        package = cause.name.split(".")[0]
        error["message"] += f"; if it is a package: {sys.executable} -m pip install {package}"
    return error


def _end_with(pipe: int) -> None:
    """Ends this process with the engine, also when a call does not come back and the engine was killed."""
    poll = select.poll()
    poll.register(pipe, 0)
    poll.poll()
    time.sleep(_END_WITHIN_SECONDS)
    os._exit(1)
