"""Meters: what only a live run tells (time, power). Never stored, taken only when asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgeq.measurement import Measurement
from edgeq.meters.executorch_clock import ExecutorchClock
from edgeq.meters.host_clock import HostClock
from edgeq.meters.power import Power


class Meter(Protocol):
    """A frozen dataclass; its fields are what a target.yaml may set."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it measures."""

    def measure(self, program: Path, samples: Path) -> Measurement:
        """Run `program` over `samples` and say what that took."""


METERS: Mapping[str, type[Meter]] = {
    "executorch-clock": ExecutorchClock,
    "host-clock": HostClock,
    "power": Power,
}
