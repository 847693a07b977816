"""static-int4: static-int8 with weights of 4 bits in convolutions and dense layers.

Depthwise and transposed convolutions keep 8 bits: LiteRT has no kernels for less, and theirs are the
fewest weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgeq.ptq import quantizer
from edgeq.ptq.posttraining import PostTraining, given
from edgeq.quantization import write_static


class StaticInt4(PostTraining):
    """Full-integer quantization, weights of 4 bits rounded to the nearest."""

    precision: ClassVar[str] = "int4"
    weight_bits: ClassVar[Literal[4, 8]] = 4

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`, about half the size of int8."""
        wanted = self.wanted()
        start = given(baseline, calibration, wanted, self.range)
        write_static(out, start.static(start.baseline).content, wanted, quantizer.NAME)
