"""The rails of an Android phone that counts their energy (ODPM: Pixel 6 and later), over adb.

The one rule: the counters' own times are used, made the host's; a reading that is not new is none.
/sys/bus/iio/devices/iio:device*/energy_value, as Android's power stats service reads it
(IioEnergyMeterDataProvider.cpp): t=MS, then lines CH0(T=MS)[RAIL], MICROJOULES.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import DeviceError
from edgeq.power.clocks import shift
from edgeq.power.phone import Blocks, Sensor, Shell, recording
from edgeq.power.recording import Recording
from edgeq.power.trace import Trace

RAILS = "/sys/bus/iio/devices/iio:device*/energy_value"
BLOCK, CHANNEL = re.compile(r"^t=(\d+)"), re.compile(r"^CH\d+\(T=(\d+)\)\[([^\]]*)\], (\d+)")


@dataclass(frozen=True)
class AndroidRails:
    """The counters of energy of the `rails` (all of them where none is named) of the phone at `address`."""

    packages: ClassVar = ("adbutils",)
    gpio: ClassVar = False
    address: str = ""
    rails: tuple[str, ...] = ()
    pause_s: float = 0.05

    def start(self) -> Recording[Trace]:
        """Record; DeviceError where there is no phone, or it has no such rails or lets nobody read them."""
        label = f"rails {', '.join(self.rails) or 'all'}"
        sensor = Sensor(label, f"cat {RAILS}", self.pause_s, self._see, self._columns)
        return recording(self.address, sensor)

    def _see(self, shell: Shell) -> None:
        told = shell(f"cat {RAILS}")
        known = [match[2] for line in told.splitlines() if (match := CHANNEL.match(line))]
        missing = [rail for rail in self.rails if rail not in known]
        if not known:
            raise DeviceError(
                f"the phone tells no rails: {told.strip()[:200] or 'nothing'}",
                "only some (Pixel 6 and later) have them, and only root may read them: `adb root`; or use "
                "android-battery")
        if missing:
            raise DeviceError(f"the phone has no rails {', '.join(missing)}; it has: {', '.join(known)}",
                              "correct `rails:` in target.yaml")

    def _columns(self, blocks: Blocks) -> tuple[Array, Array, float]:
        """Times, energy and slack of the counters."""
        rows = [(at, *row) for at, lines in blocks for row in _summed(lines, self.rails)]
        if not rows:
            raise DeviceError("the phone's rails told nothing", "build again, or use android-battery")
        arrived, own, energy = (np.asarray(column) for column in zip(*rows, strict=True))
        fresh = np.concatenate([[True], np.diff(own) > 0])
        begun, slack = shift(arrived, own)
        return begun + own[fresh], energy[fresh] - energy[0], slack


def _summed(lines: list[str], rails: tuple[str, ...]) -> Iterator[tuple[float, float]]:
    """The phone's time (s) and the energy (J) of the rails in a block, where it has any."""
    times = [int(match[1]) for line in lines if (match := BLOCK.match(line))]
    counts = [int(match[3]) for line in lines if (match := CHANNEL.match(line))
              and (not rails or match[2] in rails)]
    if times and counts:
        yield max(times) / 1000, sum(counts) * 1e-6
