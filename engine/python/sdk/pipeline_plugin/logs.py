"""``logging`` to the engine's log, by way of lines on standard error that carry their level."""

from __future__ import annotations

import json
import logging
import sys

#: Begins a line that has a level; the engine takes other lines as they are.
_MARK = "\x1e"


class _ToEngine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            sys.stderr.write(f"{_MARK}{_letter(record.levelno)}{json.dumps(text)}\n")
        except Exception:  # noqa: BLE001 - as `logging` itself does: a log line must not end the run
            self.handleError(record)


def _letter(level: int) -> str:
    for limit, letter in ((logging.ERROR, "E"), (logging.WARNING, "W"), (logging.INFO, "I"), (logging.DEBUG, "D")):
        if limit <= level:
            return letter
    return "T"


def start(level: str) -> None:
    """Sends what is logged to the engine, from this level on: ``error``, ``warn``, ``info``, ``debug``, ``trace``."""
    levels = {"off": 100, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 1}
    handler = _ToEngine()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=levels.get(level, 20), force=True)
