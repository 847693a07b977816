"""Starting a stand-in phone, in a process of its own.

The one rule: it lives as long as the block that asked for it, and no longer than this process.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.decode import meant
from edgeq.devices.device import cleaned
from edgeq.devices.standin import system
from edgeq.devices.standin.state import State
from edgeq.emulation.linux_boards import BOARDS, LinuxBoard
from edgeq.errors import ConfigError, ToolError

BOARD, HEALTHY = "android-a76", State()
START_S, END_S, PAUSE_S = 30.0, 10.0, 0.02
ADDRESS = re.compile(r"^127\.0\.0\.1:\d+$", re.MULTILINE)


@dataclass(frozen=True)
class Phone:
    """A stand-in at work: where its daemon listens (host:port), and where its system lies."""

    address: str
    root: Path


@contextmanager
def started(board: str = BOARD, condition: State = HEALTHY, port: int = 0) -> Iterator[Phone]:
    """A phone with the core of `board`, in `condition`, at `port` of loopback or one that is free.

    Raises ConfigError where there is no such board, ToolError where something that it needs is missing.
    """
    described = described_as(board)
    root = Path(tempfile.mkdtemp(prefix="edgeq-standin-")).resolve()
    with cleaned(lambda: shutil.rmtree(root, ignore_errors=True)):
        system.make(root, described, condition)
        system.argv(root, described)  # which says what is missing
        words: list[str | Path] = [sys.executable, "-P", "-m", "edgeq.devices.standin", "--root", root,
                                  "--board", board, "--port", str(port)]
        with tool.kept(words, cwd=root, patience_s=END_S, name="the stand-in phone") as process:
            yield Phone(_told(process), root)


def described_as(board: str) -> LinuxBoard:
    """The description of `board`; ConfigError where there is none."""
    if board not in BOARDS:
        raise ConfigError(f"stand_in: nothing is known of the board {board!r}{meant(board, BOARDS)}",
                          "correct it in target.yaml")
    return BOARDS[board]


def _told(process: tool.Kept) -> str:
    """The address that the daemon says it listens at."""
    ends = time.monotonic() + START_S
    while not (said := ADDRESS.search(process.said())):
        if process.status() is not None or time.monotonic() > ends:
            raise ToolError("the stand-in phone did not start", tool.tail(process.said()))
        time.sleep(PAUSE_S)
    return said[0]
