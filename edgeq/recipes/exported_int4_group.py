"""int4-group, gptq-int4 for exported programs: linear layers with weights of 4 bits, a scale for each group.

For transformers: see exported/int4.py for how, and for what GPTQ is there. torchao's AWQ scales inputs
within kinds of tensors that no delegate of ExecuTorch takes, so there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from edgeq.errors import Refused
from edgeq.exported.int4 import Activations, Groups, write_int4
from edgeq.exported.schemes import Scheme
from edgeq.samples import samples_in

GroupSize = Annotated[int, msgspec.Meta(ge=32, multiple_of=32)]


@dataclass(frozen=True)
class ExportedInt4Group:
    """Weights of 4 bits; activations are int8 per token, found at run time, or stay float32."""

    precision: ClassVar = "int4"
    gptq: ClassVar = False
    inputs: ClassVar[tuple[Literal["baseline"], Literal["calibration"]]] = ("baseline", "calibration")
    packages: ClassVar = ("torch", "torchao", "executorch")
    native: ClassVar = True
    group_size: GroupSize = 32
    activations: Activations = "int8"
    scheme: Scheme = "xnnpack"

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.pt2`; Refused where no linear layer of the model can be had so."""
        if self.scheme != "xnnpack":
            raise Refused(f"{self.scheme} has no weights in groups", "use static-int8")
        groups = Groups(self.group_size, self.activations, self.gptq)
        write_int4(out, baseline, samples_in(calibration), groups)


class ExportedGptqInt4(ExportedInt4Group):
    """int4-group with weights rounded by GPTQ, for what goes into each layer over the calibration samples."""

    gptq: ClassVar = True
