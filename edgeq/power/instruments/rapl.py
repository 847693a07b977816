"""The energy counters of this machine's own processor (RAPL), through /sys/class/powercap.

The one rule: a counter that begins anew at its end goes on here.
https://docs.kernel.org/power/powercap/powercap.html; only root may read them since 2020 (CVE-2020-8694).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import DeviceError
from edgeq.power.polling import Readings, is_stand_in, number, poll
from edgeq.power.recording import Recording
from edgeq.power.rig import STAND_IN
from edgeq.power.trace import Trace

ROOT = "/sys/class/powercap"
PERIOD_S = 0.005  # the counters change every millisecond


@dataclass(frozen=True)
class Rapl:
    """The counter of the `domain` of that name: package-0, core, dram, psys."""

    packages: ClassVar = ()
    gpio: ClassVar = False
    here: ClassVar = True
    domain: str = "package-0"
    root: str = ROOT

    def start(self) -> Recording[Trace]:
        """Record; DeviceError where there is no such counter, or it may not be read."""
        counters = found(Path(self.root))
        if self.domain not in counters:
            raise DeviceError(f"there is no counter of energy {self.domain!r}; there are: "
                              f"{', '.join(counters) or 'none'}", "name its `domain:` in target.yaml; a "
                              "virtual machine has none")
        folder, readings = counters[self.domain], Readings()
        file, whole = folder / "energy_uj", number(folder / "max_energy_range_uj")
        number(file)
        stand_in = is_stand_in(Path(self.root))
        rig = f"RAPL {self.domain}" + f", {STAND_IN}" * stand_in
        return Recording(rig, lambda ended: poll(lambda: number(file), PERIOD_S, readings, ended),
                         lambda marks: Trace(np.asarray([at for at, _ in readings]),
                                             unwrapped([value for _, value in readings], whole) * 1e-6, rig,
                                             stand_in=stand_in, slack_s=PERIOD_S, marks=marks))


def found(root: Path) -> dict[str, Path]:
    """The counters below `root` by the names of their domains."""
    return {(each / "name").read_text(encoding="utf-8").strip(): each
            for each in sorted(root.glob("*rapl*:*")) if (each / "energy_uj").exists()}


def unwrapped(counts: list[float], whole: float) -> Array:
    """`counts` (n) of a counter from 0 to `whole`, from the first of them on, without its beginning anew."""
    steps = np.diff(np.asarray(counts, np.float64))
    steps[steps < 0] += whole
    return np.concatenate([np.zeros(min(1, len(counts))), np.cumsum(steps)])
