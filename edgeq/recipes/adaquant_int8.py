"""adaquant-int8: scales and rounding of a layer are optimized together, layer by layer.

Hubara et al. 2020, "Improving Post Training Neural Quantization: Layer-wise Calibration and Integer
Programming" (arXiv 2006.10518):

    minimize ||x W + b - (Q_z(x) Q_w(W + V) + b')||^2  over V, the scales of both Q, and b'

The paper descends by gradients through the rounding. Here the error is written as the quadratic form
that it is in the weights, and each of its parts is minimized as it stands: a weight's integer given
all others (coordinate descent), a channel's scale given its integers (least squares), an activation's
range among shrunk ones by the error of the layers that read it, and the bias by the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Layer, layers
from edgeq.ptq.aims import Aim
from edgeq.ptq.layerwise import Lesson
from edgeq.ptq.posttraining import PostTraining, foundations, given, write_best
from edgeq.ptq.ranges import Range, minmax, on_grid
from edgeq.ptq.rounding import Rounded, limit, objective
from edgeq.ptq.stepping import Steps

SAMPLES = 32  # on which the ranges of activations are tried
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)
ROUNDS = 3
SWEEPS = 3


@dataclass(frozen=True)
class AdaquantInt8(PostTraining):
    """Full-integer quantization with scales and rounding optimized layer by layer."""

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`; a channel keeps its weights where they do better."""
        start = given(baseline, calibration, self.wanted(), self.range)
        candidates, said = foundations(start)
        first = candidates[-1]
        ranged = start.static(first.baseline, first.edits, narrowed(first.baseline, start.samples))
        taught = [start.taught(each, adaquant, f"{which} and rounding optimized")
                  for which, each in (("scales", first), ("ranges, scales", ranged))]
        write_best(out, [*candidates, *taught], said, self.wanted())


def narrowed(baseline: bytes, samples: Array) -> dict[str, Range]:
    """The range of each layer's input with which its outputs are least wrong, of shrunk ones."""
    steps = Steps(baseline, samples[:SAMPLES])
    found: dict[str, Range] = {}
    for layer in layers(steps.graph):
        steps.advance(layer.operator.index)
        values, wanted = steps.values[layer.source.index], Aim(steps.outputs(layer.operator)[0], "")
        low, high = minmax(values)

        def lost(share: float, layer: Layer = layer, values: Floats = values, wanted: Aim = wanted,
                 ends: Range = (low, high)) -> float:
            shrunk = on_grid(values, (ends[0] * share, ends[1] * share))
            return wanted.distance(steps.through([layer.operator], {layer.source.index: shrunk}))

        share = min(SHARES, key=lost)
        found.setdefault(layer.source.name, (low * share, high * share))
    return found


def adaquant(lesson: Lesson) -> Rounded:
    """The layer's weights after a few rounds of rounding and scaling in turn."""
    own, target = objective(lesson.matrix, lesson.moments)
    found = lesson.start
    for _ in range(ROUNDS):
        found = descended(found, own, target, limit(lesson.bits))
        found = rescaled(found, own, target)
    return descended(found, own, target, limit(lesson.bits))


def descended(start: Rounded, own: Floats, target: Floats, most: int) -> Rounded:
    """Each integer in turn where the error is least, the others being what they are.

    The least of wT H w - 2 wT t in w_k is w_k - (H w - t)_k / H_kk, and the nearest integer to it.
    """
    integers, scale = start.integers.astype(np.float32), start.scales
    slope = own @ (integers * scale) - target
    for _ in range(SWEEPS):
        before = integers.copy()
        for k in range(integers.shape[1]):
            row = integers[:, k:k + 1]
            wanted = row - slope[:, k:k + 1] / (own[:, k:k + 1, k:k + 1] * scale)
            moved = np.clip(np.round(wanted), -most, most) - row
            integers[:, k:k + 1] += moved
            slope += own[:, :, k:k + 1] @ (moved * scale)
        if (before == integers).all():
            break
    return Rounded(integers.astype(np.int8), scale)


def rescaled(start: Rounded, own: Floats, target: Floats) -> Rounded:
    """The scales with the least error for the integers: s = qT t / qT H q, by channel or for all."""
    q = start.integers.astype(np.float32)
    over, under = (q * target).sum(axis=1, keepdims=True), (q * (own @ q)).sum(axis=1, keepdims=True)
    if start.scales.size == 1:
        over, under = over.sum(keepdims=True), under.sum(keepdims=True)
    sound = (under > 0) & (over > 0)
    scales = np.where(sound, over / np.where(sound, under, 1), start.scales).astype(np.float32)
    return Rounded(start.integers, scales)
