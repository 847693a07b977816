"""What a run on a device comes to: figures, a sentence, and the particulars as a JSON file.

The one rule: a time counts only where the device was in a state for it (conditions.unfit), and only a real
device's time is `measured`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.devices.device import Fact
from edgeq.measurement import Value, invalid, unavailable, value_of
from edgeq.quantization import DETAILS
from edgeq.repeats import interval

DEVICE = "device.json"
TIMES = ("latency_ms", "latency_p90_ms")


@dataclass(frozen=True)
class Record:
    """Times an inference in microseconds, in the order of the runs, and the device's facts around them.

    `load_us` is the time to load the model, `first_us` that of the first inference, `peak_bytes` the memory
    that the program held at most (0: unknown). `each` says what one of the times is of, and `unfit` why
    they count for nothing, if so; `address` is that of the very device.
    """

    before: Mapping[str, Fact]
    after: Mapping[str, Fact]
    times_us: Sequence[float] = ()
    load_us: float = 0.0
    first_us: float = 0.0
    peak_bytes: int = 0
    each: str = "inferences"
    unfit: str = ""
    address: str = ""

    def costs(self) -> dict[str, Value]:
        """Median and 90th percentile of the times with their intervals, and the memory, of a real device."""
        memory = {"ram_bytes": value_of("ram_bytes", self.peak_bytes, "measured", aggregation="max")}
        told = memory if self.peak_bytes else {}
        if self.unfit:
            return told | {metric: invalid(metric, self.unfit) for metric in TIMES}
        times_ms = [time / 1000 for time in self.times_us]
        figures = (("median", statistics.median(times_ms), 0.5), ("p90", percentile(times_ms, 90), 0.9))
        return told | {metric: replace(_timed(metric, times_ms, *figure), rig=self.rig or None)
                       for metric, figure in zip(TIMES, figures, strict=True)}

    @property
    def rig(self) -> str:
        """The very device, by its address and what it says of itself."""
        known = (str(self.before[key]) for key in ("model", "system") if key in self.before)
        return ", ".join(filter(None, (self.address, *known)))

    def sentence(self) -> str:
        """The times, the temperatures and the cores' speed in a few words."""
        median, slow = statistics.median(self.times_us), percentile(self.times_us, 90)
        times = (f"loaded in {self.load_us / 1000:.2f} ms, first inference {self.first_us / 1000:.3f} ms, "
                 f"then median {median / 1000:.3f} ms and p90 {slow / 1000:.3f} ms "
                 f"of {len(self.times_us)} {self.each}")
        return "; ".join(filter(None, (times, *self._state(), self.unfit and f"invalid: {self.unfit}")))

    def write(self, out: Path, **more: Any) -> None:
        """Write all of it, and `more`, to details/device.json in `out`."""
        (out / DETAILS).mkdir(exist_ok=True)
        told = vars(self) | {"before": dict(self.before), "after": dict(self.after),
                             "times_us": list(self.times_us)} | more
        (out / DETAILS / DEVICE).write_text(json.dumps(told, indent=1), encoding="utf-8")

    def _state(self) -> list[str]:
        states = (self.before, self.after)
        warm = [f"{facts['temperature_c']:g}" for facts in states if "temperature_c" in facts]
        speed = [str(self.after["governor"])] if "governor" in self.after else []
        speed += [f"{self.after['frequency_mhz']} MHz"] if "frequency_mhz" in self.after else []
        return [f"{' and '.join(warm)} °C before and after"] * bool(warm) + [" at ".join(speed)] * bool(speed)


def percentile(times: Sequence[float], share: float) -> float:
    """The time that `share` % of the `times` do not exceed (nearest rank)."""
    return sorted(times)[max(0, math.ceil(share / 100 * len(times)) - 1)]


def untimed(reason: str) -> dict[str, Value]:
    """The absence of every figure of a run that is no device's own, with the reason."""
    return {metric: unavailable(metric, reason) for metric in (*TIMES, "ram_bytes")}


def _timed(metric: str, times_ms: Sequence[float], kind: str, figure: float, share: float) -> Value:
    value = value_of(metric, figure, "measured", n=len(times_ms), aggregation=kind)
    return replace(value, interval=interval(times_ms, share))
