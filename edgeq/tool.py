"""Running an outside program: an argv, never a shell; bounded in time; its output kept.

Whatever goes wrong with the program itself (missing, killed by a signal, hanging) is a ToolError
that quotes the end of its output. What its exit status means is for the caller to say.
"""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from edgeq.artifact import digest_of, digest_of_file
from edgeq.errors import ConfigError, ToolError

log = logging.getLogger(__name__)
running: set[int] = set()  # the process groups of the programs at work
TAIL = 1500
SETTLED_NS = 2_000_000_000
KEPT = 16 << 20  # bytes of what a program prints
LARGEST = 1 << 30  # bytes of a file that a program may write, and so of what it may print
WAITS = "import os, sys; sys.stdin.read(); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit status, and all it printed (both streams, in order)."""

    status: int
    output: str


def find(name: str, setting: str = "") -> Path | None:
    """The program `name`: where `setting` says, else $NAME, else on the PATH; None if nowhere.

    Raises ToolError where the setting or the variable names a file that is no program.
    """
    variable = name.upper().replace("-", "_")
    for given, origin in ((setting, "target.yaml"), (os.environ.get(variable, ""), f"${variable}")):
        if given:
            found = shutil.which(given)
            if not found:
                raise ToolError(f"{origin} names {given} as {name}, which is no program",
                                f"correct it, or leave it out to look for {name} on the PATH")
            return Path(found).resolve()
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def run(argv: Sequence[str | Path], *, timeout_s: float, cwd: Path, name: str = "") -> Finished:
    """Run `argv` in `cwd` and wait for it, at most `timeout_s` seconds.

    `name` is what errors call the program, where that is not its file's own name.
    """
    words = [str(word) for word in argv]
    name = name or Path(words[0]).name
    log.info("$ %s", " ".join(words))
    with tempfile.TemporaryFile() as file:
        status = _ended(_started(words, cwd, file, name), timeout_s)
        output = _read(file)
    log.info("%s", output)
    if status is None:
        raise ToolError(f"{name} had not ended after {timeout_s:g} s and was stopped", tail(output))
    if status < 0:
        raise ToolError(f"{name} {died_of(-status)}", tail(output))
    return Finished(status, output)


@dataclass(frozen=True)
class Kept:
    """A program at work beside us: what it printed so far, and its exit status, None while it runs."""

    said: Callable[[], str]
    status: Callable[[], int | None]


@contextmanager
def kept(argv: Sequence[str | Path], *, cwd: Path, patience_s: float, name: str = "") -> Iterator[Kept]:
    """Run `argv` beside the block, its standard input open: the end of that tells it to end, too.

    It is then given `patience_s` seconds, and killed. That end comes by the kernel where this process is
    killed, so that the program can still tidy up.
    """
    words = [str(word) for word in argv]
    log.info("$ %s &", " ".join(words))
    with tempfile.TemporaryFile() as file:
        process = _started(words, cwd, file, name or Path(words[0]).name, subprocess.PIPE)
        running.add(process.pid)
        try:
            yield Kept(lambda: _so_far(file), process.poll)
        finally:
            if process.stdin:
                with suppress(OSError):
                    process.stdin.close()
            _ended(process, patience_s)
            log.info("%s", _so_far(file))


@contextmanager
def undone(argv: Sequence[str | Path], *, patience_s: float) -> Iterator[None]:
    """Run `argv`, for at most `patience_s` seconds, where the block fails or this process ends in it.

    That may be killed: what waits for its end is a process of its own, at a pipe that the kernel closes.
    """
    words = [sys.executable, "-IS", "-c", WAITS, *map(str, argv)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    except BaseException:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience_s)
        raise
    finally:
        process.kill()
        process.communicate()


def cache() -> Path:
    """Where what is compiled, installed or found out once lies: edgeq's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "edgeq"


def home() -> Path:
    """The user's own folder; ConfigError where nothing says which that is."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigError("the user has no home folder: neither HOME nor the system names one",
                          "set HOME to a folder that can be written") from error


def digest(program: Path) -> str:
    """The sha256 of a program's file, kept in the cache for as long as the file is the same one.

    That is told, as git tells it, by its size, its times and its place on the disk. A folder's is that
    of all in it, found anew.
    """
    if program.is_dir():
        return digest_of(program)
    found = program.stat()
    settled = time.time_ns() - found.st_ctime_ns > SETTLED_NS
    mark = f"{program} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    note = cache() / "programs" / hashlib.sha256(mark.encode("utf-8", "surrogateescape")).hexdigest()
    with suppress(OSError):
        return note.read_text(encoding="ascii")
    made = digest_of_file(program)
    if not settled:  # its times may not tell the next change from this one
        return made
    with suppress(OSError):  # a cache that cannot be written is none
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_suffix(f".{os.getpid()}")
        draft.write_text(made, encoding="ascii")
        draft.replace(note)
    return made


def stop_all() -> None:
    """Kill every program that this process runs, and all that they started in their groups."""
    for group in tuple(running):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def died_of(number: int) -> str:
    """What to say of a process that signal `number` ended."""
    known = number in {each.value for each in signal.Signals}
    return f"was killed by {signal.Signals(number).name if known else f'signal {number}'}"


def tail(output: str) -> str:
    """The end of what a program printed, as a hint."""
    text = output.strip()
    return f"it printed: …{text[-TAIL:]}" if text else "it printed nothing"


def _started(
    words: list[str], cwd: Path, output: IO[bytes], name: str, given: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """A program that prints into a file: no pipe to be held open, no memory to be filled."""
    try:
        process = subprocess.Popen(words, cwd=cwd, stdin=given, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        raise ToolError(f"{name} could not be started: {error.strerror}",
                        f"check that {words[0]} is there and may be run") from error
    with suppress(OSError, ValueError):  # where the limit is lower already
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    return process


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """The exit status; None where the time was up, and the process and its group were killed."""
    running.add(process.pid)
    try:
        return process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
    finally:
        running.discard(process.pid)


def _read(output: IO[bytes]) -> str:
    """The end of what was printed, as text whatever it is."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - KEPT))
    return TextIOWrapper(output, "utf-8", "replace").read()


def _so_far(output: IO[bytes]) -> str:
    """What was printed until now; the place in the file is the program's own, and stays where it is."""
    size = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), KEPT, max(0, size - KEPT)).decode("utf-8", "replace")
