"""What tests let be made, each maker one thing, well or badly; and how they wait for what becomes of it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq import tool
from edgeq.errors import ConfigError, Refused, ToolError

SPOKEN = "what the maker said"


@dataclass(frozen=True)
class Text:
    """Writes `text`; `journal`, a file, gets a line each time that it does."""

    text: str = ""
    journal: str = ""

    def write(self, out: Path) -> None:
        if self.journal:
            with Path(self.journal).open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
        (out / "text").write_text(self.text, encoding="utf-8")


@dataclass(frozen=True)
class Upper:
    """Writes what it is given in capitals: different inputs may give one output."""

    def shout(self, out: Path, given: Path) -> None:
        (out / "text").write_text((given / "text").read_text(encoding="utf-8").upper(), encoding="utf-8")


@dataclass(frozen=True)
class Length:
    """Writes how long the text is that it is given."""

    def measure(self, out: Path, given: Path) -> None:
        (out / "length").write_text(str(len((given / "text").read_text(encoding="utf-8"))))


@dataclass(frozen=True)
class Big:
    """Writes `size` bytes, as plain bytes or as an array of numpy's."""

    size: int
    as_array: bool = False

    def write(self, out: Path) -> None:
        if self.as_array:
            np.save(out / "big.npy", np.zeros(self.size, np.uint8))
        else:
            (out / "big").write_bytes(bytes(self.size))


@dataclass(frozen=True)
class Waiting:
    """Leaves its process number in `mark` and waits for ever; where `mark` is there, it writes at once."""

    mark: str

    def write(self, out: Path) -> None:
        if not Path(self.mark).exists():
            (out / "half").write_bytes(b"half")
            leave(self.mark, os.getpid())
            time.sleep(3600)
        (out / "text").write_text("whole", encoding="utf-8")


@dataclass(frozen=True)
class Meeting:
    """Makes nothing before the file `other` is there."""

    journal: str
    other: str

    def write(self, out: Path) -> None:
        Text("", self.journal).write(out)
        while not Path(self.other).exists():
            time.sleep(0.01)


@dataclass(frozen=True)
class Program:
    """Runs a program that waits for ever, and leaves its process number in `mark`."""

    mark: str

    def write(self, out: Path) -> None:
        command = f"echo $$ > {self.mark}.new && mv {self.mark}.new {self.mark} && exec sleep 3600"
        tool.run(["/bin/sh", "-c", command], timeout_s=3600, cwd=out)


@dataclass(frozen=True)
class Failing:
    """Goes wrong in the way named, after it has said so and left something half made."""

    way: str

    def make(self, out: Path) -> None:
        (out / "half").write_bytes(b"half")
        say(f"{SPOKEN}: {self.way}")
        WAYS[self.way]()

    def answer(self) -> object:
        say(f"{SPOKEN}: {self.way}")
        return WAYS[self.way]()


@dataclass(frozen=True)
class Talking:
    """Prints by Python, by the C library and by a program that it starts."""

    def write(self, out: Path) -> None:
        say("said by Python")
        sys.stderr.write("said by Python on stderr\n")
        os.write(1, b"said by a descriptor\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"said by the C library")
        libc.fflush(None)
        os.system("echo said by a program")
        (out / "text").write_text("done", encoding="utf-8")


@dataclass(frozen=True)
class Adding:
    """Returns a sum; nothing of it is kept."""

    first: int

    def add(self, second: int) -> int:
        return self.first + second


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def leave(mark: str, content: object) -> None:
    """Write `content` to the file `mark`, whole at once."""
    draft = Path(f"{mark}.{os.getpid()}")
    draft.write_text(str(content), encoding="utf-8")
    draft.rename(mark)


def on_small_disk(folder: Path, *command: str | Path) -> list[str]:
    """`command` in a mount namespace of its own, where the new `folder` is a disk of one MiB."""
    folder.mkdir()
    mounted = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "/bin/sh", "-c", mounted, "sh",
            *map(str, (folder, *command))]


def wait_for(mark: Path) -> None:
    """Wait until the file `mark` is there."""
    for _ in range(6000):
        if mark.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing left {mark}")


def wait_until_gone(process: int) -> None:
    """Wait until no process of this number runs."""
    for _ in range(6000):
        if not alive(process):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {process} lives on")


def alive(process: int) -> bool:
    """Whether a process of this number runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _raises(error: BaseException) -> None:
    raise error


def _raises_what_only_it_knows() -> None:
    """An exception of a class from a module that no other process can import, as users' code has."""
    module = types.ModuleType("only_here")
    module.Own = type("Own", (Exception,), {"__module__": "only_here"})
    sys.modules["only_here"] = module
    raise module.Own("of my own")


def _raises_what_cannot_travel() -> None:
    class TwoArguments(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} and {second}")

    TwoArguments.__qualname__ = "TwoArguments"
    globals()["TwoArguments"] = TwoArguments
    raise TwoArguments(1, 2)


def _prints_garbage() -> None:
    os.write(1, bytes(range(256)))
    raise ValueError("garbage")


WAYS = {
    "nothing": lambda: None,
    "exception": lambda: _raises(ValueError("seven is no even number\nsecond line")),
    "no words": lambda: _raises(RuntimeError()),
    "refused": lambda: _raises(Refused("it does not fit", "take less")),
    "config": lambda: _raises(ConfigError("it is wrong", "correct it")),
    "tool": lambda: _raises(ToolError("it is not there", "install it")),
    "sys.exit": lambda: sys.exit(7),
    "own class": _raises_what_only_it_knows,
    "two arguments": _raises_what_cannot_travel,
    "garbage": _prints_garbage,
    "status 9": lambda: os._exit(9),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "SIGFPE": lambda: os.kill(os.getpid(), signal.SIGFPE),
    "SIGABRT": os.abort,
    "hang": lambda: time.sleep(3600),
    "lambda": lambda: (lambda: None),
}
