"""The host's own clock: the median time of an inference in ExecuTorch's runtime on this machine.

Where that goes, operator by operator, is told by ETDump: the largest shares beside the figure, all of
them in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.exported.profiling import by_operator, times_s
from edgeq.measurement import Measurement, unavailable
from edgeq.program import runnable_in
from edgeq.repeats import median_of
from edgeq.samples import samples_in

SHOWN = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutorchClock:
    """`runs` inferences on one thread after `warm_up` that are not counted."""

    packages: ClassVar = ("torch", "executorch")
    metrics: ClassVar = ("latency_ms",)
    runs: int = 100
    warm_up: int = 10

    def measure(self, program: Path, samples: Path) -> Measurement:
        """The median over the runs with its interval, of the inference alone; unavailable without a .pte."""
        model = runnable_in(program)
        if model.suffix != ".pte":
            return {"latency_ms": unavailable("latency_ms", "nothing on this machine executes the program")}
        given = np.asarray(samples_in(samples)[: self.runs])
        times_ms = [1000 * time for time in times_s(model, given, self.runs, self.warm_up)]
        times = by_operator(model, given)
        for name, milliseconds in times.items():
            log.info("%10.4f ms  %s", milliseconds, name)
        return {"latency_ms": replace(median_of("latency_ms", times_ms), basis=_largest(times))}


def _largest(times: Mapping[str, float]) -> str:
    """The operators that take most of the time, with their shares."""
    total = sum(times.values()) or 1.0
    shares = (f"{name} {100 * taken / total:.0f} %" for name, taken in islice(times.items(), SHOWN))
    return f"by ETDump: {', '.join(shares)}"
