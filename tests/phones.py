"""Phones for the tests: an adb server of their own, and stand-ins attached to it as phones are."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeq.devices.standin import phone
from edgeq.devices.standin.phone import Phone
from edgeq.devices.standin.state import State

VARIABLES = ("ANDROID_ADB_SERVER_PORT", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_SERIAL")


def adb(*words: str | Path) -> subprocess.CompletedProcess:
    """The stock client."""
    return subprocess.run(["adb", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@contextmanager
def server(home: Path) -> Iterator[None]:
    """An adb server that sees no phone, with keys of its own; this process and its children use it."""
    kept = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ["ANDROID_ADB_SERVER_PORT"] = str(free_port())
    subprocess.run(["adb", "start-server"], env={**os.environ, "HOME": str(home)}, check=True,
                   capture_output=True, timeout=60)
    try:
        yield
    finally:
        adb("kill-server")
        os.environ.pop("ANDROID_ADB_SERVER_PORT")
        os.environ.update({name: value for name, value in kept.items() if value is not None})


@contextmanager
def attached(condition: State = phone.HEALTHY) -> Iterator[Phone]:
    """A stand-in that the server sees from the start, as one that hangs at a cable."""
    with phone.started(condition=condition) as made:
        assert "connected to" in adb("connect", made.address).stdout
        try:
            yield made
        finally:
            adb("disconnect", made.address)


def left_on(made: Phone) -> list[str]:
    """What lies where edgeq has its folders."""
    return sorted(each.name for each in (made.root / "data/local/tmp").iterdir())


def until(holds: Callable[[], bool]) -> None:
    """Wait until that is so, for a minute."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)
