"""static-int8 for exported programs: integers in every layer with weights, ranges from calibration.

real = scale * (q - zero_point), weights symmetric, as the delegates' quantizers have it. What a program
takes and gives stays float32: its first and last operator convert.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.exported.quantizing import write_static
from edgeq.exported.ranges import Range
from edgeq.exported.schemes import Grids, Scheme
from edgeq.quantization import Granularity
from edgeq.samples import samples_in


@dataclass(frozen=True)
class ExportedStaticInt8:
    """Post-training quantization for the delegate that `scheme` names; the target says which.

    `range` says where a grid begins and ends; `auto` chooses for each tensor by the error that it
    causes in the scores of the calibration samples.
    """

    precision: ClassVar = "int8"
    inputs: ClassVar[tuple[Literal["baseline"], Literal["calibration"]]] = ("baseline", "calibration")
    packages: ClassVar = ("torch", "torchao", "executorch")
    native: ClassVar = True
    granularity: Granularity = "per_channel"
    range: Range = "auto"
    scheme: Scheme = "xnnpack"

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.pt2`; Refused where a layer with weights stays in float."""
        grids = Grids(self.scheme, self.granularity)
        write_static(out, baseline, samples_in(calibration), grids, self.range)
