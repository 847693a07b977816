"""Running an outside program: an argv, never a shell; bounded in time; its output kept.

Whatever goes wrong with the program itself (missing, killed by a signal, hanging) is a ToolError
that quotes the end of its output. What its exit status means is for the caller to say.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ToolError

log = logging.getLogger(__name__)
running: set[int] = set()  # the process groups of the programs at work
TAIL = 1500
GRACE_S = 5.0


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
    try:
        process = subprocess.Popen(
            words, cwd=cwd, text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{name} could not be started: {error.strerror}",
                        f"check that {words[0]} is there and may be run") from error
    running.add(process.pid)
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise ToolError(f"{name} had not ended after {timeout_s:g} s and was stopped",
                            tail(_rest(process))) from error
        finally:
            running.discard(process.pid)
    log.info("%s", output)
    if process.returncode < 0:
        raise ToolError(f"{name} {died_of(-process.returncode)}", tail(output))
    return Finished(process.returncode, output)


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


def _rest(process: subprocess.Popen[str]) -> str:
    """What a killed `process` has printed; one that it sent off may still hold the other end."""
    try:
        return process.communicate(timeout=GRACE_S)[0]
    except subprocess.TimeoutExpired as error:
        printed: bytes | str = error.output or b""  # bytes, whatever the mode (CPython 87597)
        return printed.decode(errors="replace") if isinstance(printed, bytes) else printed
