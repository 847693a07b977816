"""A serial port, or any other file that bytes come from and go to: reading with a time-out, writing."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeq.errors import ConfigError, ToolError

PIECE = 4096
PATIENCE_S = 10.0  # how long a line may refuse what is written


class Line(Protocol):
    """Bytes to and from a device; ToolError where the line itself is gone."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, waiting for it no longer than that; empty where nothing did."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""


@dataclass(frozen=True)
class Descriptor:
    """A line over an open, non-blocking file descriptor; `name` is what errors call it."""

    number: int
    name: str

    def read(self, timeout_s: float) -> bytes:
        """What has come, waiting for it no longer than that; empty where nothing did."""
        try:
            ready, _, _ = select.select([self.number], [], [], timeout_s)
            data = os.read(self.number, PIECE) if ready else None
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self.gone(error.strerror) from error
        if data == b"":
            raise self.gone("it was closed")
        return data or b""

    def write(self, data: bytes) -> None:
        """Send all of `data`; ToolError where the other side takes none of it for long."""
        ends = time.monotonic() + PATIENCE_S
        while data:
            try:
                _, ready, _ = select.select([], [self.number], [], max(0.0, ends - time.monotonic()))
                if not ready:
                    raise self.gone(f"it took no bytes for {PATIENCE_S:g} s")
                data = data[os.write(self.number, data):]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.gone(error.strerror) from error

    def gone(self, reason: str | None) -> ToolError:
        """The error that the line is no more, for that `reason`."""
        return ToolError(f"the line to {self.name} failed: {reason}",
                         "see that the device is attached, and that no other program uses its port")


@contextmanager
def held(port: str) -> Iterator[None]:
    """The device at `port` for this build alone: others wait until it is let go of, or its holder dies."""
    lock = Path(tempfile.gettempdir()) / f"edgeq-{port.strip('/').replace('/', '-')}.lock"
    number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


@contextmanager
def opened(port: str, baud: int) -> Iterator[Descriptor]:
    """The serial port at `port` (/dev/ttyACM0, or a pseudo-terminal), as 8 bits without parity.

    Raises ConfigError where there is no such speed, ToolError where there is no such port now.
    """
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise ConfigError(f"baud: {baud} is no speed of a serial port", "115200 is what most boards have")
    try:
        number = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise ToolError(f"the port {port} cannot be opened: {error.strerror}",
                        "attach the device, or name its port; the group dialout may use it") from error
    try:
        line = Descriptor(number, port)
        _set_raw(line, speed)
        yield line
    finally:
        os.close(number)


def _set_raw(line: Descriptor, speed: int) -> None:
    """Neither echo nor any other change of what passes."""
    number = line.number
    try:
        special = termios.tcgetattr(number)[6]
        flags = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(number, termios.TCSANOW, [0, 0, flags, 0, speed, speed, special])
        termios.tcflush(number, termios.TCIOFLUSH)
    except termios.error as error:
        if error.args[0] != errno.ENOTTY:
            raise line.gone(error.args[-1]) from error
        raise ConfigError(f"port: {line.name} is no serial port: {error.args[-1]}",
                          "name the device's port") from error
