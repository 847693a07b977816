"""dynamic-int8 for exported programs: int8 weights, activations quantized at run time by the kernels.

XNNPACK has such kernels for linear layers and convolutions, Ethos-U has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.errors import Refused
from edgeq.exported.quantizing import write_dynamic
from edgeq.exported.schemes import Grids, Scheme


@dataclass(frozen=True)
class ExportedDynamicInt8:
    """int8 weights per channel; inputs and outputs stay float32."""

    precision: ClassVar = "dynamic-int8"
    inputs: ClassVar[tuple[Literal["baseline"]]] = ("baseline",)
    packages: ClassVar = ("torch", "torchao", "executorch")
    scheme: Scheme = "xnnpack"

    def quantize(self, out: Path, baseline: Path) -> None:
        """Write `out/model.pt2`; Refused where no layer of the model can be had so."""
        if self.scheme != "xnnpack":
            raise Refused(f"{self.scheme} computes on fixed ranges alone", "use static-int8")
        write_dynamic(out, baseline, Grids(self.scheme, how="dynamic"))
