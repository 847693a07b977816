"""float32 for exported programs: no quantization, the baseline itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.baseline import ENDS
from edgeq.baseline import EXPORTED as BASELINE
from edgeq.quantization import EXPORTED


@dataclass(frozen=True)
class ExportedFloat32:
    """Ship the baseline as it is."""

    precision: ClassVar = "float32"
    inputs: ClassVar[tuple[Literal["baseline"]]] = ("baseline",)

    def quantize(self, out: Path, baseline: Path) -> None:
        """Copy `baseline/baseline.pt2` to `out/model.pt2`."""
        shutil.copyfile(baseline / BASELINE, out / EXPORTED)
        shutil.copyfile(baseline / ENDS, out / ENDS)
