"""PyTorch modules out of a function of the user's, to the exported program that ExecuTorch starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.exported.baseline import write_exported
from edgeq.exported.functions import made
from edgeq.exported.tracing import exported


@dataclass(frozen=True)
class TorchFunction:
    """Call `function` in the folder of the source, fill what it returns with `weights`, and export that.

    `weights` is relative to that folder, "" for none; `trust` lets a pickle among the weights run.
    """

    packages: ClassVar = ("torch", "safetensors")
    trust: bool = False
    function: str = ""
    weights: str = ""

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.pt2`; ConfigError where the module does not export or weights do not fit it."""
        module, example = made(source, self.function, self.weights, trust=self.trust)
        write_exported(out, exported(module, example, self.function, source), self.function)
