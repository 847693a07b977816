"""ExecuTorch on this machine: its runtime for a .pte, PyTorch for an exported program.

The one rule: where nothing here executes what ships (Ethos-U), the quantized program runs in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.exported.running import run_exported, run_pte
from edgeq.program import OUTPUTS, runnable_in, write_costs
from edgeq.samples import samples_in


@dataclass(frozen=True)
class Executorch:
    """One thread; the kernels are those of the program's delegate, or ExecuTorch's portable ones."""

    format: ClassVar = "executorch"
    packages: ClassVar = ("torch", "executorch")
    native: ClassVar = True
    here: ClassVar = True

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`; Refused where the runtime lacks an operator."""
        model = runnable_in(program)
        run = run_pte if model.suffix == ".pte" else run_exported
        np.save(out / OUTPUTS, run(model, samples_in(samples)), allow_pickle=False)
        write_costs(out, {})
