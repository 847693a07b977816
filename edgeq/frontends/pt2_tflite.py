"""Exported programs of PyTorch (`.pt2`) to the float baseline of the TFLite targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.exported.litert import tflite
from edgeq.exported.loading import loaded
from edgeq.exported.tracing import exported


@dataclass(frozen=True)
class Pt2Tflite:
    """Load the program, close its batch at 1 and convert it; `trust` lets pickles inside the archive run."""

    packages: ClassVar = ("torch", "litert-torch", "litert-converter")
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; Refused where an operator of the program is none of TFLite's."""
        module, example = loaded(source, trust=self.trust)
        write_baseline(out, tflite(exported(module, example, source.name), example, source.name), source.name)
