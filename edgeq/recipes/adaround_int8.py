"""adaround-int8, adaround-int4: every weight rounded up or down as the layer's outputs want it.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568):

    W~ = s * clip(floor(W / s) + h(V)),  h(V) = clip(1.2 * sigmoid(V) - 0.1, 0, 1)
    minimize ||x W - z W~||^2 + lambda * sum(1 - |2 h(V) - 1|^beta)

where x are the layer's float inputs and z the quantized ones; beta falls from 20 to 2, and V moves by
Adam. The squared error is a quadratic form of W~ with the moments of the inputs, so an iteration
costs the same however many samples there are. The start is h(V) = the fraction of W / s, and nothing
is drawn at random: the same model and samples give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgeq.arrays import Floats
from edgeq.ptq.layerwise import Lesson
from edgeq.ptq.posttraining import PostTraining, improved
from edgeq.ptq.rounding import Rounded, limit, objective

LOW, HIGH = -0.1, 1.1  # between which h is stretched before it is clipped to 0 and 1
RATE = 0.05
MOMENTA = 0.9, 0.999
WARM_UP = 0.2  # the share of the iterations that go without the regularizer
BETAS = 20.0, 2.0
PENALTY = 0.02


@dataclass(frozen=True)
class AdaroundInt8(PostTraining):
    """Full-integer quantization with learned rounding, layer by layer; `iterations` each."""

    iterations: int = 400

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`; a layer keeps its nearest integers where they do better."""
        improved(out, (baseline, calibration), self.wanted(), self.range, (
            lambda lesson: adaround(lesson, self.iterations), "rounding learned"))


class AdaroundInt4(AdaroundInt8):
    """adaround-int8 with weights of 4 bits in convolutions and dense layers, 8 in depthwise ones."""

    precision: ClassVar[str] = "int4"
    weight_bits: ClassVar[Literal[4, 8]] = 4


def adaround(lesson: Lesson, iterations: int) -> Rounded:
    """The layer's weights, each rounded down or up as the moments of its inputs have it."""
    scale, most = lesson.start.scales, limit(lesson.bits)
    own, target = objective(lesson.matrix, lesson.moments)
    unit = scale / np.maximum((lesson.matrix * target).mean(axis=1, keepdims=True), 1e-12)
    floor = np.floor(lesson.matrix / scale)
    v = inverse(lesson.matrix / scale - floor)
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(iterations):
        h, slope = rectified(v)
        real = scale * np.clip(floor + h, -most, most)
        gradient = slope * (unit * (own @ real - target) - pull(h, step / iterations))
        first += (1 - MOMENTA[0]) * (gradient - first)
        second += (1 - MOMENTA[1]) * (gradient * gradient - second)
        rates = [1 - momentum ** (step + 1) for momentum in MOMENTA]
        v -= RATE / rates[0] * first / (np.sqrt(second / rates[1]) + 1e-8)
    rounded = np.clip(floor + (rectified(v)[0] >= 0.5), -most, most)
    return Rounded(rounded.astype(np.int8), scale)


def rectified(v: Floats) -> tuple[Floats, Floats]:
    """The stretched sigmoid h(V) and its slope dh/dV, which is 0 where h is clipped."""
    sigmoid = 1 / (1 + np.exp(-v))
    h = (HIGH - LOW) * sigmoid + LOW
    slope = np.where((h > 0) & (h < 1), (HIGH - LOW) * sigmoid * (1 - sigmoid), 0)
    return np.clip(h, 0, 1), slope


def inverse(h: Floats) -> Floats:
    """The V for which h(V) is `h`."""
    sigmoid = np.clip((h - LOW) / (HIGH - LOW), 1e-4, 1 - 1e-4)
    found: Floats = np.log(sigmoid / (1 - sigmoid)).astype(np.float32)
    return found


def pull(h: Floats, done: float) -> Floats:
    """What the regularizer drives h to 0 or 1 with, when a share `done` of the iterations is over.

    -d/dh of lambda * (1 - |2h - 1|^beta), beta falling by a cosine.
    """
    if done < WARM_UP:
        return np.zeros_like(h)
    angle = np.pi * (done - WARM_UP) / (1 - WARM_UP)
    beta = BETAS[1] + (BETAS[0] - BETAS[1]) * (1 + np.cos(angle)) / 2
    centred = 2 * h - 1
    size = np.exp((beta - 1) * np.log(np.maximum(np.abs(centred), 1e-6), dtype=np.float32))
    pulled: Floats = (2 * PENALTY * beta * size * np.sign(centred)).astype(np.float32)
    return pulled
