"""static-int4: static-int8 with weights of 4 bits in convolutions and dense layers.

Depthwise and transposed convolutions keep 8 bits: LiteRT has no kernels for less, and theirs are the
fewest weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.ptq import quantizer
from edgeq.ptq.posttraining import given
from edgeq.ptq.ranges import Choice
from edgeq.quantization import FullInteger, write_static


@dataclass(frozen=True)
class StaticInt4(FullInteger):
    """Full-integer quantization, weights of 4 bits rounded to the nearest."""

    precision: ClassVar = "int4"
    inputs: ClassVar[tuple[Literal["baseline"], Literal["calibration"]]] = ("baseline", "calibration")
    packages: ClassVar = (quantizer.NAME, "ai-edge-litert")
    range: Choice = "auto"

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`, about half the size of int8."""
        wanted = self.wanted(4)
        start = given(baseline, calibration, wanted, self.range)
        write_static(out, start.static(start.baseline).content, wanted, quantizer.NAME)
