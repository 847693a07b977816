"""The host's own clock: what an inference in LiteRT takes on this machine, where nothing else holds it up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.arrays import Array
from edgeq.graph import read
from edgeq.interpret import Kernels, litert, quantize
from edgeq.measurement import Measurement
from edgeq.program import runnable_in
from edgeq.repeats import INPUTS, each_least, typical_of
from edgeq.samples import samples_in


@dataclass(frozen=True)
class HostClock:
    """At least `runs` inferences on one thread, and `seconds` of them, after `warm_up` that do not count."""

    packages: ClassVar = ("ai-edge-litert",)
    metrics: ClassVar = ("latency_ms",)
    kernels: Kernels = "xnnpack"
    runs: int = 100
    warm_up: int = 10
    seconds: float = 1.0

    def measure(self, program: Path, samples: Path) -> Measurement:
        """The median of what each input takes at least: the inference alone, not feeding or reading."""
        model = runnable_in(program)
        entry = read(model).tensors[read(model).inputs[0]]
        given = quantize(samples_in(samples)[:INPUTS], entry.dtype, entry.quantization)
        interpreter = litert(model, self.kernels)

        def infer_ms(sample: Array) -> float:
            interpreter.set_tensor(entry.index, sample.reshape(entry.shape))
            start = time.perf_counter()
            interpreter.invoke()
            return (time.perf_counter() - start) * 1000

        each_least(infer_ms, given, self.warm_up, 0)
        return {"latency_ms": typical_of("latency_ms", *each_least(infer_ms, given, self.runs, self.seconds))}
