"""The host: LiteRT on this machine, by XNNPACK or by its reference kernels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.interpret import Kernels, run_litert
from edgeq.program import OUTPUTS, runnable_in, write_costs
from edgeq.samples import samples_in


@dataclass(frozen=True)
class Host:
    """`kernels` are `xnnpack`, as phones have them, or `reference`, the same on every machine."""

    format: ClassVar = "tflite"
    packages: ClassVar = ("ai-edge-litert",)
    native: ClassVar = True
    here: ClassVar = True
    kernels: Kernels = "xnnpack"

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`; Refused where LiteRT lacks an operator."""
        outputs = run_litert(runnable_in(program), samples_in(samples), self.kernels)
        np.save(out / OUTPUTS, outputs, allow_pickle=False)
        write_costs(out, {})
