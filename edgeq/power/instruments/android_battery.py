"""The battery's gauge of an Android phone over adb.

The one rule: a phone that is being charged tells nothing of what it uses. /sys/class/power_supply/battery has
current_now in microamperes, whose sign differs from maker to maker, and voltage_now in microvolts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import DeviceError
from edgeq.power.phone import Blocks, Sensor, Shell, recording
from edgeq.power.recording import Recording
from edgeq.power.trace import Trace, cumulated

BATTERY = "/sys/class/power_supply/battery"
POWERED = re.compile(r"^\s*(AC|USB|Wireless|Dock) powered: true", re.MULTILINE)


@dataclass(frozen=True)
class AndroidBattery:
    """The battery's gauge of the phone at `address` (else as its runner is), every `pause_s` seconds.

    It is of the whole phone, its screen among it, and of a phone that is not charged: adb over the network.
    """

    packages: ClassVar = ("adbutils",)
    gpio: ClassVar = False
    address: str = ""
    pause_s: float = 0.1

    def start(self) -> Recording[Trace]:
        """Record; DeviceError where there is no phone, it is charged, or has no such gauge."""
        read = "; ".join(f"v=; read -r v <{BATTERY}/{each}_now; echo $v" for each in ("current", "voltage"))
        return recording(self.address, Sensor("battery", read, self.pause_s, _see_unplugged, _columns))


def _see_unplugged(shell: Shell) -> None:
    if powered := POWERED.search(shell("dumpsys battery")):
        raise DeviceError(f"the phone is charged ({powered[1]}), so its battery does not tell what it uses",
                          "attach it by the network (adb tcpip 5555), and unplug it")


def _columns(blocks: Blocks) -> tuple[Array, Array, float]:
    """Times, energy and slack of current and voltage; a current whose sign changes is a charge's."""
    rows = [(at, [float(line) for line in lines]) for at, lines in blocks if _numeric(lines)]
    if len(rows) < len(blocks) or not rows:
        raise DeviceError(f"the phone's battery tells no current: {' '.join(blocks[0][1])[:200]}",
                          "this phone has no such gauge, or lets nobody read it: use an instrument")
    times = np.asarray([at for at, _ in rows])
    current = np.asarray([values[0] for _, values in rows]) * 1e-6
    if current.min() < 0 < current.max():
        raise DeviceError("the phone's battery was charged and discharged in the run",
                          "unplug it: attach it by the network (adb tcpip 5555)")
    power = np.abs(current) * np.asarray([values[1] for _, values in rows]) * 1e-6
    return times, cumulated(times, power), float(np.median(np.diff(times)))


def _numeric(lines: list[str]) -> bool:
    return len(lines) == 2 and all(re.fullmatch(r"-?\d+", line.strip()) for line in lines)
