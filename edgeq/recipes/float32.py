"""float32: no quantization, the baseline itself; what every other rung is compared with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.baseline import NAME
from edgeq.quantization import MODEL


@dataclass(frozen=True)
class Float32:
    """Ship the baseline as it is."""

    precision: ClassVar = "float32"
    inputs: ClassVar[tuple[Literal["baseline"]]] = ("baseline",)

    def quantize(self, out: Path, baseline: Path) -> None:
        """Copy `baseline/baseline.tflite` to `out/model.tflite`."""
        shutil.copyfile(baseline / NAME, out / MODEL)
