"""What can go wrong in a stage, and what the engine does about it."""

from __future__ import annotations

import os
import traceback
from typing import Any, Dict, List, Optional

_SDK = os.path.dirname(os.path.abspath(__file__))
#: The innermost calls say what happened; what called them is the same for every mistake.
_MAX_FRAMES = 4


class PluginError(Exception):
    """An error in words: lower case, no full stop, the user's words in backticks, and what would be right.

    Do not name the stage: the engine does. Raise one of the classes that derive from this one.
    """

    kind = "fatal"


class ConfigError(PluginError):
    """The options are wrong: the pipeline is not started. Raise it in ``setup`` or ``schema``.

    ``option`` names the one that is wrong, so that the report points at its place in the file.
    """

    kind = "config"

    def __init__(self, message: str, option: Optional[str] = None) -> None:
        super().__init__(message)
        self.option = option


class DataError(PluginError):
    """This batch cannot be processed: its rows become dead letters and the run goes on. For transforms.

    For single rows there is ``Output.reject``.
    """

    kind = "data"


class TransientError(PluginError):
    """It may work later: tried again with growing pauses. ``retry_after`` asks for a pause, in seconds."""

    kind = "transient"

    def __init__(self, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LostError(PluginError):
    """Somebody else owns the task, or its state is gone: the task starts again from its checkpoint. For sinks."""

    kind = "lost"


class FatalError(PluginError):
    """Nothing helps: the run ends at its last commit. Any exception that is none of these means the same."""


def described(error: BaseException, kind: str) -> Dict[str, Any]:
    """An error as it goes to the engine. ``kind`` is for exceptions that do not say theirs."""
    found: Dict[str, Any] = {"kind": kind, "message": _words(error), "traceback": ""}
    if isinstance(error, PluginError):
        # The author has chosen the words; where they stand in the code helps nobody who runs the pipeline.
        found["kind"] = error.kind
        found["option"] = getattr(error, "option", None)
        found["retry_after"] = getattr(error, "retry_after", None)
    else:
        found["traceback"] = short_traceback(error)
    if error.__cause__ is not None:
        found["message"] += f": {_words(error.__cause__)}"
        found["traceback"] = short_traceback(error.__cause__)
    return found


def _words(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, PluginError):
        return text or "the plugin failed without words"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def short_traceback(error: BaseException) -> str:
    """The innermost calls of the plugin's own code, in Python's form."""
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(type(error), error)).rstrip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    lines: List[str] = traceback.format_list(frames[-_MAX_FRAMES:])
    return "".join(lines).rstrip()


def _is_ours(file: str) -> bool:
    return file.startswith("<frozen ") or os.path.dirname(os.path.abspath(file)) == _SDK
