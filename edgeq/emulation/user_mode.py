"""Running a program for 64-bit Arm Linux on an emulated board: QEMU's user mode, counts by its plugin.

    finished = run(["./edgeq-run", …], folder, UserMode(BOARDS["raspberry-pi-4"], 60.0, "memory"))
    counts = counted(folder)        # one for each time that the marked part of the program ran

The one rule: nothing of the machine that it runs on reaches the program: it has no environment, and finds
the board's description and the C library that it was linked with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.emulation import elf as elf_file
from edgeq.emulation import plugin
from edgeq.emulation.linux_boards import LinuxBoard
from edgeq.emulation.qemu import BEGINS, ENDS, Count, Counting
from edgeq.errors import ToolError

EMULATOR = "qemu-aarch64"
COUNTS = "counts"
PATH_LENGTH = 120
RANDOM = 8  # letters that tempfile adds


@dataclass(frozen=True)
class UserMode:
    """How a program is run: on which board, with the C library in `libraries`, for how long at most."""

    board: LinuxBoard
    libraries: Path
    timeout_s: float
    counting: Counting = "none"


def program() -> Path:
    """QEMU; ToolError with what to install where it is missing."""
    path = tool.find(EMULATOR)
    if path is None:
        raise ToolError(f"{EMULATOR} is not installed", "apt-get install qemu-user")
    return path


@contextmanager
def folder_for_counts() -> Iterator[Path]:
    """A folder for a program, gone afterwards, whose path has one length wherever temporary files lie.

    Programs keep the path of what they load, and so where their tensors lie may hang on its length, and on
    that how many instructions it takes to copy one.
    """
    base = Path(tempfile.gettempdir()).resolve()
    length = len(f"{base}/{tempfile.gettempprefix()}") + RANDOM
    with tempfile.TemporaryDirectory(dir=base, suffix="_" * (-length % PATH_LENGTH)) as place:
        yield Path(place)


def run(words: Sequence[str], folder: Path, mode: UserMode) -> tool.Finished:
    """How `words`, a program in `folder` and its arguments, ended; it ran in that folder.

    Raises ToolError where QEMU is missing, the time is up, or a signal ended the program.
    """
    emptied = tool.find("env")
    if emptied is None:
        raise ToolError("env is not installed", "apt-get install coreutils")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        mode.board.describe(root)
        (root / "lib").symlink_to(mode.libraries)
        argv: list[str | Path] = [emptied, "-i", program(), "-cpu", mode.board.core.qemu, "-seed", "1",
                                  "-L", root, *_plugin(folder / words[0], mode.counting), *words]
        return tool.run(argv, timeout_s=mode.timeout_s, cwd=folder, name=f"{words[0]} on {mode.board.name}")


def counted(folder: Path) -> tuple[Count, ...]:
    """What was counted each time that the marked part ran, in order; ToolError where nothing was."""
    file = folder / COUNTS
    rows = [line.split() for line in file.read_text(encoding="ascii").splitlines()] if file.exists() else []
    samples = tuple(Count(*map(int, row[1:])) for row in rows if row[0] == "sample")
    if not samples:
        raise ToolError("the emulator counted nothing",
                        f"its plugin may be of another version, or {EMULATOR} one that loads none")
    return samples


def _plugin(binary: Path, counting: Counting) -> list[str]:
    """The words that load the plugin, told where the marked part begins and ends."""
    if counting == "none":
        return []
    functions = elf_file.functions(binary)
    if BEGINS not in functions or ENDS not in functions:
        raise ToolError(f"{binary.name} has no marks to count between", "set up edgeq again")
    begin, end = functions[BEGINS].address, functions[ENDS].address
    memory = "on" if counting == "memory" else "off"
    return ["-plugin", f"{plugin.built()},begin={begin:#x},end={end:#x},out={COUNTS},memory={memory}"]
