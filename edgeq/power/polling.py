"""Files of the kernel that are read over and over: sensors of power, and counters of energy.

The one rule: a reading's time is the middle of the time that it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeq.errors import DeviceError

SYSTEM = Path("/sys")
Readings = list[tuple[float, float]]


def poll(read: Callable[[], float], period_s: float, readings: Readings, ended: threading.Event) -> None:
    """Put times (s) and what `read` gives into `readings`, every `period_s` seconds until `ended`."""
    while not ended.wait(period_s):
        begun = time.monotonic()
        value = read()
        readings.append(((begun + time.monotonic()) / 2, value))


def number(file: Path) -> float:
    """The number in `file`; DeviceError where it is gone, may not be read, or holds none."""
    try:
        return float(file.read_text(encoding="ascii"))
    except PermissionError as error:
        raise DeviceError(f"{file} may not be read", "only root may: run as root, or give the group of this "
                          f"user the right to it (chgrp, chmod g+r {file})") from error
    except OSError as error:
        raise DeviceError(f"{file} vanished in mid-run: {error.strerror}",
                          "see that the sensor's driver is still loaded (dmesg)") from error
    except ValueError as error:
        raise DeviceError(f"{file} holds no number", "see that it is the file of a sensor") from error


def is_stand_in(root: Path) -> bool:
    """Whether `root` is no folder of this system's own /sys."""
    return not root.resolve().is_relative_to(SYSTEM)
