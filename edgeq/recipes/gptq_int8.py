"""gptq-int8, gptq-int4: weights rounded one input after the other, the rest making up for each.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (arXiv 2210.17323). With H = E[z zT] of the layer's quantized inputs and U the upper
Cholesky factor of H^-1, for each input k in turn:

    q_k = round(w_k / s),  e = (w_k - s q_k) / U_kk,  w_j <- w_j - U_kj e  for all j > k

Inputs come in the order of their power, the largest first. The paper's case are dense layers and 1x1
convolutions; the same holds for every layer that is a matrix product over patches. Full-integer
.tflite has a scale a channel and no blocks, so there are no groups along the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.ptq.layerwise import Lesson
from edgeq.ptq.posttraining import PostTraining, improved
from edgeq.ptq.rounding import Rounded, damped, limit


@dataclass(frozen=True)
class GptqInt8(PostTraining):
    """Full-integer quantization with weights rounded by GPTQ, layer by layer."""

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`; a layer keeps its nearest integers where they do better."""
        improved(out, (baseline, calibration), self.wanted(), self.range,
                 (gptq, "rounded by GPTQ"))


class GptqInt4(GptqInt8):
    """gptq-int8 with weights of 4 bits in convolutions and dense layers, 8 in depthwise ones."""

    precision: ClassVar[str] = "int4"
    weight_bits: ClassVar[Literal[4, 8]] = 4


def gptq(lesson: Lesson) -> Rounded:
    """The layer's weights by GPTQ, on the scales that they have."""
    moments = damped(lesson.moments)
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    rows = order[:, :, None]
    shuffled = np.take_along_axis(np.take_along_axis(moments, rows, 1), order[:, None, :], 2)
    factor = upper(shuffled)
    sorted_weights = np.take_along_axis(lesson.matrix, rows, 1)
    rounded = rounded_in_turn(sorted_weights, lesson.start.scales, factor, limit(lesson.bits))
    return Rounded(np.take_along_axis(rounded, np.argsort(order, axis=1)[:, :, None], 1),
                   lesson.start.scales)


def upper(moments: Floats) -> Floats:
    """The upper Cholesky factor U of the inverse, UT U = H^-1, of each group (groups, K, K)."""
    inverse = np.linalg.inv(moments.astype(np.float64))
    symmetric = (inverse + np.swapaxes(inverse, 1, 2)) / 2
    return np.swapaxes(np.linalg.cholesky(symmetric), 1, 2).astype(np.float32)


def rounded_in_turn(matrix: Floats, scale: Floats, factor: Floats, most: int) -> Array:
    """The integers (groups, K, channels) of `matrix`, the error of each input put upon those after it."""
    left = matrix.astype(np.float32).copy()
    integers: Array = np.zeros(matrix.shape, np.int8)
    for k in range(matrix.shape[1]):
        row = left[:, k:k + 1]
        integers[:, k:k + 1] = np.clip(np.round(row / scale), -most, most)
        mistake = (row - integers[:, k:k + 1] * scale) / factor[:, k:k + 1, k:k + 1]
        left[:, k + 1:] -= np.swapaxes(factor[:, k:k + 1, k + 1:], 1, 2) @ mistake
    return integers
