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

from edgeq.exported.profiling import by_operator, latency_s
from edgeq.measurement import Measurement, unavailable, value_of
from edgeq.program import runnable_in
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
        """The median over the runs; only the inference is timed. Unavailable where no .pte runs here."""
        model = runnable_in(program)
        if model.suffix != ".pte":
            return {"latency_ms": unavailable("latency_ms", "nothing on this machine executes the program")}
        given = np.asarray(samples_in(samples)[: self.runs])
        median = latency_s(model, given, self.runs, self.warm_up) * 1000
        times = by_operator(model, given)
        for name, milliseconds in times.items():
            log.info("%10.4f ms  %s", milliseconds, name)
        value = value_of("latency_ms", median, "measured", n=self.runs, aggregation="median")
        return {"latency_ms": replace(value, basis=_largest(times))}


def _largest(times: Mapping[str, float]) -> str:
    """The operators that take most of the time, with their shares."""
    total = sum(times.values()) or 1.0
    shares = (f"{name} {100 * taken / total:.0f} %" for name, taken in islice(times.items(), SHOWN))
    return f"by ETDump: {', '.join(shares)}"
