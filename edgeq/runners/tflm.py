"""TensorFlow Lite Micro on this machine: bit-true to its reference kernels on microcontrollers.

Pointers are wider here than on a 32-bit core, so the arena is larger than there, by its tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.interpret import run_tflm
from edgeq.measurement import value_of
from edgeq.program import OUTPUTS, runnable_in, write_costs
from edgeq.samples import samples_in


@dataclass(frozen=True)
class Tflm:
    """The interpreter of the `tflite-micro` package."""

    packages: ClassVar = ("tflite-micro",)
    native: ClassVar = True
    micro: ClassVar = True

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples` and the arena; Refused where TFLM lacks an operator."""
        outputs, arena = run_tflm(runnable_in(program), samples_in(samples))
        np.save(out / OUTPUTS, outputs, allow_pickle=False)
        write_costs(out, {"arena_bytes": value_of("arena_bytes", arena, "simulated")})
