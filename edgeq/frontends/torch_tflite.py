"""PyTorch modules out of a function of the user's to the float baseline of the TFLite targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.exported.functions import made
from edgeq.exported.litert import tflite
from edgeq.exported.tracing import exported


@dataclass(frozen=True)
class TorchTflite:
    """Call `function` in the folder of the source, fill what it returns with `weights`, and convert that.

    `weights` is relative to that folder, "" for none; `trust` lets a pickle among the weights run. The input
    stays channels first.
    """

    packages: ClassVar = ("torch", "safetensors", "litert-torch", "litert-converter")
    trust: bool = False
    function: str = ""
    weights: str = ""

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; Refused where an operator of the module is none of TFLite's."""
        module, example = made(source, self.function, self.weights, trust=self.trust)
        program = exported(module, example, self.function, source)
        write_baseline(out, tflite(program, example, self.function), self.function)
