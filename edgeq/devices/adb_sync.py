"""Copying files over adb: SEND and RECV of its `sync:` service, with time-outs and the phone's own words.

adbutils has them too, but drops what the phone says of a failure (a full disk), and waits for ever.
Format: Android's packages/modules/adb, SYNC.TXT.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PIECE = 64 << 10  # bytes of one DATA: adb's own limit
PATIENCE_S = 60.0  # for the next answer
MODE = stat.S_IFREG | 0o755


class Failed(Exception):
    """The phone said no: its own words."""


def send(device: Any, file: Path, path: str) -> None:
    """Copy `file` to `path` of `device` (of adbutils), to be run; Failed with what the phone says."""
    with _opened(device, b"SEND", f"{path},{MODE}") as line, file.open("rb") as content:
        while piece := content.read(PIECE):
            line.conn.sendall(b"DATA" + struct.pack("<I", len(piece)) + piece)
        line.conn.sendall(b"DONE" + struct.pack("<I", int(time.time())))
        word, size = _header(line)
        if word != b"OKAY":
            raise Failed(line.read_exact(size).decode("utf-8", "replace"))


def receive(device: Any, path: str, place: Path) -> None:
    """Copy what is at `path` of `device` to the file `place`; Failed with what the phone says."""
    with _opened(device, b"RECV", path) as line, place.open("wb") as content:
        while True:
            word, size = _header(line)
            if word == b"DONE":
                return
            told = line.read_exact(size)
            if word != b"DATA":
                raise Failed(told.decode("utf-8", "replace"))
            content.write(told)


@contextmanager
def _opened(device: Any, word: bytes, path: str) -> Iterator[Any]:
    """A line to the phone's `sync:`, with one request sent."""
    with device.open_transport(timeout=PATIENCE_S) as line:
        line.send_command("sync:")
        line.check_okay()
        name = path.encode()
        line.conn.sendall(word + struct.pack("<I", len(name)) + name)
        yield line


def _header(line: Any) -> tuple[bytes, int]:
    word, size = struct.unpack("<4sI", line.read_exact(8))
    return word, size
