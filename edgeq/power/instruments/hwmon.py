"""A power sensor that the kernel knows (INA219, INA226, INA3221, …), through /sys/class/hwmon.

The one rule: it is read no faster than it converts; the same reading twice is no second sample.
Files and their units: https://docs.kernel.org/hwmon/sysfs-interface.html.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.errors import DeviceError
from edgeq.power.polling import Readings, is_stand_in, number, poll
from edgeq.power.recording import Recording
from edgeq.power.rig import STAND_IN
from edgeq.power.trace import Trace, cumulated

ROOT = "/sys/class/hwmon"
FASTEST_S = 0.001


@dataclass(frozen=True)
class Hwmon:
    """The sensor whose `chip` has that name (ina226), its `channel`; the only one where none is named.

    Power is power1_input where there is one, else curr1_input times in1_input, of the channel's number.
    `here` says that it lies in the supply of this very machine, as on a board that edgeq itself runs on.
    """

    packages: ClassVar = ()
    gpio: ClassVar = False
    chip: str = ""
    channel: int = 1
    here: bool = False
    root: str = ROOT

    def start(self) -> Recording[Trace]:
        """Record; DeviceError where there is no such sensor, or several."""
        sensors = [each for each in found(Path(self.root), self.channel)
                   if self.chip in ("", named(each), each.name)]
        if len(sensors) != 1:
            known = ", ".join(f"{named(each)} ({each.name})" for each in found(Path(self.root), self.channel))
            raise DeviceError(f"{len(sensors)} sensors of power are meant; there are: {known or 'none'}",
                              "name the `chip:` in target.yaml; a driver makes it known (modprobe ina2xx)")
        sensor = sensors[0]
        read, readings = _power(sensor, self.channel), Readings()
        read()
        pause = _interval_s(sensor)
        stand_in = is_stand_in(Path(self.root))
        rig = f"{named(sensor)} ({sensor.name}) channel {self.channel}" + f", {STAND_IN}" * stand_in
        return Recording(rig, lambda ended: poll(read, pause, readings, ended),
                         lambda marks: Trace(*_columns(readings), rig, stand_in=stand_in, slack_s=pause,
                                             marks=marks))


def found(root: Path, channel: int = 1) -> list[Path]:
    """The folders of the sensors below `root` that tell power, or current and voltage."""
    return [each for each in sorted(root.glob("hwmon*")) if (each / f"power{channel}_input").exists()
            or all((each / f"{kind}{channel}_input").exists() for kind in ("curr", "in"))]


def named(sensor: Path) -> str:
    """The chip's name."""
    try:
        return (sensor / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return sensor.name


def _power(sensor: Path, channel: int) -> Callable[[], float]:
    """What reads watts: microwatts of one file, or milliamperes and millivolts of two."""
    whole = sensor / f"power{channel}_input"
    if whole.exists():
        return lambda: number(whole) * 1e-6
    current, voltage = sensor / f"curr{channel}_input", sensor / f"in{channel}_input"
    return lambda: number(current) * number(voltage) * 1e-6


def _interval_s(sensor: Path) -> float:
    """How often it has something new (update_interval, in milliseconds)."""
    file = sensor / "update_interval"
    return max(FASTEST_S, number(file) / 1000) if file.exists() else FASTEST_S


def _columns(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    times = np.asarray([at for at, _ in readings])
    return times, cumulated(times, [power for _, power in readings])
