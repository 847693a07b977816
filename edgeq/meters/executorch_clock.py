"""The host's own clock: what an inference in ExecuTorch's runtime takes on this machine, not held up.

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

from edgeq.exported.profiling import by_operator, clock_of
from edgeq.measurement import Measurement, unavailable
from edgeq.program import runnable_in
from edgeq.repeats import INPUTS, each_least, typical_of
from edgeq.samples import samples_in

SHOWN = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutorchClock:
    """At least `runs` inferences on one thread, and `seconds` of them, after `warm_up` that do not count."""

    packages: ClassVar = ("torch", "executorch")
    metrics: ClassVar = ("latency_ms",)
    runs: int = 100
    warm_up: int = 10
    seconds: float = 1.0

    def measure(self, program: Path, samples: Path) -> Measurement:
        """The median of what each input takes at least, inference alone; unavailable without a .pte."""
        model = runnable_in(program)
        if model.suffix != ".pte":
            return {"latency_ms": unavailable("latency_ms", "nothing on this machine executes the program")}
        given, infer_ms = np.asarray(samples_in(samples)[:INPUTS]), clock_of(model)
        each_least(infer_ms, given, self.warm_up, 0)
        taken = typical_of("latency_ms", *each_least(infer_ms, given, self.runs, self.seconds))
        times = by_operator(model, given)
        for name, milliseconds in times.items():
            log.info("%10.4f ms  %s", milliseconds, name)
        return {"latency_ms": replace(taken, basis=_largest(times))}


def _largest(times: Mapping[str, float]) -> str:
    """The operators that take most of the time, with their shares."""
    total = sum(times.values()) or 1.0
    shares = (f"{name} {100 * taken / total:.0f} %" for name, taken in islice(times.items(), SHOWN))
    return f"by ETDump: {', '.join(shares)}"
