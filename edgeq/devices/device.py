"""What an attached machine is to a runner: a folder of its own on it, files in, a program run, files out.

The one rule: nothing that went over the line is believed before its sha256 is seen to be the same on
both sides, and the folder is gone when the work is done, however it ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edgeq import tool
from edgeq.artifact import digest_of_file
from edgeq.errors import DeviceError, ToolError

Fact = str | float
SUM = re.compile(r"^([0-9a-f]{64})\s+\*?(?:\./)?(.+)$", re.MULTILINE)
FULL = "No space left on device"


class Device(Protocol):
    """A machine with a work folder of this run's own.

    All of it raises DeviceError where the machine is at fault. An implementation has a context manager that
    makes the folder and always removes it.
    """

    @property
    def name(self) -> str:
        """What errors and notes call it: `the phone R58M41`."""

    def push(self, files: Mapping[str, Path]) -> None:
        """Put `files` into the work folder, by the names that they shall have there; all may be run."""

    def run(self, words: Sequence[str], timeout_s: float) -> tool.Finished:
        """Run `words` in the work folder, and wait for the end."""

    def pull(self, name: str, place: Path) -> None:
        """Copy the file `name` of the work folder to `place`."""

    def facts(self) -> Mapping[str, Fact]:
        """What it says of itself: `model`, `system`, `abi` (as uname -m), and its condition now.

        Of conditions, `temperature_c` and `throttling` are those that `conditions.unfit` reads.
        """


def sums(names: Sequence[str]) -> str:
    """The shell command that prints the sha256 of files, as coreutils, busybox and toybox all have it."""
    return shlex.join(["sha256sum", *names])


def see_arrived(device: str, told: str, files: Mapping[str, Path]) -> None:
    """See by `told`, what `sums` printed on `device`, that `files` arrived whole."""
    found = {name: digest for digest, name in SUM.findall(told)}
    for name, file in files.items():
        if found.get(name) != digest_of_file(file):
            raise DeviceError(f"{name} did not arrive whole on {device}",
                              "see that its line is good and its storage is sound, and try again")


def see_pulled(device: str, told: str, name: str, place: Path) -> None:
    """See by `told`, what `sums` printed on `device`, that the file `name` was copied whole to `place`."""
    found = {named: digest for digest, named in SUM.findall(told)}
    if found.get(name) != digest_of_file(place):
        raise DeviceError(f"{name} was cut short on its way from {device}: {place.stat().st_size} bytes came",
                          "see that its line is good, and try again")


def full(device: str, output: str) -> DeviceError | None:
    """The error of a full disk, where `output` speaks of one."""
    if FULL.lower() not in output.lower():
        return None
    return DeviceError(f"the storage of {device} is full", "free some space there: the model, its samples "
                       "and its outputs must fit at once")


@contextmanager
def cleaned(clean: Callable[[], object]) -> Iterator[None]:
    """Do `clean` at the end of the block, and also where a worker in it is told to leave at once.

    A worker that is stopped runs no `finally`, but what multiprocessing is asked to do at its end.
    """
    from multiprocessing.util import Finalize

    end = Finalize(None, clean, exitpriority=1)
    try:
        yield
    finally:
        end()


@contextmanager
def held(address: str) -> Iterator[None]:
    """The device at `address` for this build alone: others wait until it is let go of, or its holder dies."""
    folder = tool.cache() / "devices"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.lock"
        number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ToolError(f"{folder} cannot be written: {error.strerror}",
                        "set XDG_CACHE_HOME to a folder that can") from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
