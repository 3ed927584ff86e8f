"""Frames between the engine and this process.

A frame is the bytes ``PPL1``, the length of a header (32 bits, little endian), the header in JSON, and then the bodies,
whose lengths stand in the header under ``bodies``. The engine asks, this process answers, one at a time.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from array import array
from typing import Any, Dict, List, Sequence, Tuple, Union

Body = Union[bytes, bytearray, memoryview]

_MAGIC = b"PPL1"
#: As much as Linux gives to anybody: fewer switches between the two processes for each batch.
_PIPE_SIZE = 1 << 20


class Wire:
    """The two pipes."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write

    @staticmethod
    def take_over() -> "Wire":
        """Takes standard input and output for the engine alone; what anybody prints goes to standard error."""
        read, write = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        for pipe in (read, write):
            _widen(pipe)
        return Wire(read, write)

    @property
    def input(self) -> int:
        """The descriptor that the engine's end of closes when it goes."""
        return self._read

    def receive(self) -> Union[Tuple[Dict[str, Any], List[bytearray]], None]:
        """The next frame; ``None`` when the engine has closed its end."""
        start = self._exactly(8, may_end=True)
        if start is None:
            return None
        (length,) = struct.unpack("<I", start[4:])
        header = json.loads(bytes(self._exactly(length) or b""))
        return header, [self._exactly(size) or bytearray() for size in header.get("bodies", ())]

    def send(self, header: Dict[str, Any], bodies: Sequence[Body] = ()) -> None:
        """Writes a frame."""
        views = [view_of(memoryview(body), "B") for body in bodies]
        header["bodies"] = [len(view) for view in views]
        text = json.dumps(header).encode()
        self._write_all(memoryview(_MAGIC + struct.pack("<I", len(text)) + text))
        for view in views:
            self._write_all(view)

    def _exactly(self, size: int, may_end: bool = False) -> Union[bytearray, None]:
        buffer = bytearray(size)
        view, filled = memoryview(buffer), 0
        while filled < size:
            count = os.readv(self._read, [view[filled:]])
            if count == 0:
                if may_end and filled == 0:
                    return None
                raise EOFError("the engine has closed its end in the middle of a frame")
            filled += count
        return buffer

    def _write_all(self, view: memoryview) -> None:
        while len(view):
            view = view[os.write(self._write, view) :]


def view_of(body: Union[Body, memoryview], code: str) -> memoryview:
    """The items of a body, of the type that :mod:`array` has this code for."""
    view = memoryview(body)
    # Python does not cast what is empty.
    return view.cast("B").cast(code) if view.nbytes else memoryview(array(code))


def _widen(pipe: int) -> None:
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)  # type: ignore[attr-defined]
    except (ImportError, AttributeError, OSError):
        pass  # Only Linux has it, from Python 3.10 on; and nothing depends on it.
