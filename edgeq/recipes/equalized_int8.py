"""equalized-int8: channels made alike across layers, and biases corrected; no training.

Cross-layer equalization and high-bias absorption on the float model, then empirical bias correction
on the integer one (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv 1906.04721):

    s_i = sqrt(r1_i / r2_i)          W1 / s, b1 / s, W2 * s
    c_i = max(0, mean_i - 3 std_i)   b1 - c, b2 + W2 c
    b <- b + E[x W] - E[z W~]        x the layer's float inputs, z its quantized ones

The formulas stand in ptq/equalization.py and ptq/rounding.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.ptq.posttraining import PostTraining, foundations, given, write_best


@dataclass(frozen=True)
class EqualizedInt8(PostTraining):
    """Full-integer quantization of equalized layers, biases corrected on calibration samples."""

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`: of all that was tried, what comes closest to the float scores."""
        wanted = self.wanted()
        start = given(baseline, calibration, wanted, self.range)
        write_best(out, *foundations(start), wanted)
