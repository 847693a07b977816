"""The host's own clock: the median time of an inference in LiteRT on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import ClassVar

from edgeq.graph import read
from edgeq.interpret import Kernels, litert, quantize
from edgeq.measurement import Measurement
from edgeq.program import runnable_in
from edgeq.repeats import median_of
from edgeq.samples import samples_in


@dataclass(frozen=True)
class HostClock:
    """`runs` inferences on one thread after `warm_up` that are not counted."""

    packages: ClassVar = ("ai-edge-litert",)
    metrics: ClassVar = ("latency_ms",)
    kernels: Kernels = "xnnpack"
    runs: int = 100
    warm_up: int = 10

    def measure(self, program: Path, samples: Path) -> Measurement:
        """The median over the runs with its interval; only the inference is timed, not feeding or reading."""
        model = runnable_in(program)
        entry = read(model).tensors[read(model).inputs[0]]
        given = quantize(samples_in(samples)[: self.runs], entry.dtype, entry.quantization)
        interpreter = litert(model, self.kernels)
        times_ms = []
        for sample in islice(cycle(given), self.warm_up + self.runs):
            interpreter.set_tensor(entry.index, sample.reshape(entry.shape))
            start = time.perf_counter()
            interpreter.invoke()
            times_ms.append((time.perf_counter() - start) * 1000)
        return {"latency_ms": median_of("latency_ms", times_ms[self.warm_up:])}
