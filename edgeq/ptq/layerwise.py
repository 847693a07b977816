"""Learning a quantized model layer by layer, each against the float layer that it stands for.

Both models run side by side, operator by operator. When they reach a layer, the quantized one's
inputs already carry the errors of all that comes before, corrected as far as it was; the layer's
weights are then rounded anew, its bias takes up what is left of the mean error, and it runs.
So the cost grows with the layers and with the samples, not with their products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Change, Layer, Quantization, edited, layers, values_of
from edgeq.interpret import dequantize
from edgeq.ptq.aims import entered
from edgeq.ptq.rounding import Means, Moments, Rounded, corrected, error
from edgeq.ptq.stepping import Steps

BITS = {"INT8": 8, "INT4": 4}
ROWS = 4096  # positions whose products are taken at once
HELD_OUT = 4  # every fourth sample judges what the others taught, where there are enough
ENOUGH = 16
MOST = {"INT32": 2**30, "INT64": 2**46}  # of a bias in integers: as much again is left for the sum


@dataclass(frozen=True, eq=False)
class Lesson:
    """One layer to be learnt: its float weights, what they are rounded to now, and its inputs."""

    layer: Layer
    matrix: Floats
    start: Rounded
    moments: Moments
    bits: int


Learn = Callable[[Lesson], Rounded]
Sides = tuple[Array, Array]  # a layer's inputs (n, …) in the float model and in the quantized one


def learned(baseline: bytes, quantized: bytes, samples: Array, learn: Learn | None = None) -> bytes:
    """`quantized` with its biases corrected, and with weights as `learn` rounds them, where that helps.

    A channel keeps its old weights where the new ones do worse on samples that were held out, and
    so does a layer whose weights another one reads as well.
    """
    floats = Steps(baseline, samples)
    integers = Steps(quantized, entered(quantized, samples))
    changes: dict[int, Change] = {}
    for ours, theirs in pairs(floats, integers):
        floats.advance(ours.operator.index)
        integers.advance(theirs.operator.index)
        inputs = floats.values[ours.source.index], integers.values[theirs.source.index]
        made = _layer(ours, theirs, inputs, learn)
        integers.change(made)
        changes |= made
    return edited(quantized, changes)


def pairs(floats: Steps, integers: Steps) -> Iterator[tuple[Layer, Layer]]:
    """The float layers with the quantized ones that stand for them, in execution order."""
    both = zip(layers(floats.graph), layers(integers.graph), strict=True)
    return ((ours, theirs) for ours, theirs in both
            if theirs.weights.dtype in BITS and theirs.source.quantization)


def means(layer: Layer, inputs: Sides, grid: Quantization) -> Means:
    """The means of a layer's patches over the samples of `inputs`, in steps of the quantized ones' `grid`.

    Taking patches is linear: those of the mean sample have the means of all.
    """
    float_mean = inputs[0].mean(axis=0, keepdims=True, dtype=np.float64)
    mean = inputs[1].mean(axis=0, keepdims=True, dtype=np.float64) - grid.zero_points[0]
    return Means(*(layer.patches(each.astype(np.float32)).mean(axis=1, keepdims=True)
                   for each in (mean, float_mean / grid.scales[0])))


def moments(layer: Layer, inputs: Sides, grid: Quantization) -> Moments:
    """The moments of a layer's patches over the samples of `inputs`, in steps of the quantized ones' `grid`.

    In those steps large and small inputs are alike.
    """
    sums: list[Any] = [0.0, 0.0]
    size = max(1, ROWS // max(1, int(np.prod(layer.sink.shape[:-1]))))
    rows = 0
    for first in range(0, len(inputs[0]), size):
        floats, quantized = (each[first:first + size] for each in inputs)
        x, z = (layer.patches(each / grid.scales[0]) for each in (floats, dequantize(quantized, grid)))
        flipped = np.swapaxes(z, 1, 2)
        sums = [total + more.astype(np.float64)
                for total, more in zip(sums, (flipped @ z, flipped @ x), strict=True)]
        rows += x.shape[1]
    quantized, crossed = ((each / rows).astype(np.float32) for each in sums)
    return Moments(quantized, crossed, means(layer, inputs, grid))


def better(new: Rounded, old: Rounded, matrix: Floats, judged: Moments) -> Rounded:
    """`new` where its error on `judged` is less, `old` elsewhere: by channel, or at one scale by layer."""
    gains = error(old.real, matrix, judged) - error(new.real, matrix, judged)
    if new.scales.size == 1 and new.scales != old.scales:
        return new if gains.sum() > 0 else old
    return Rounded(np.where(gains > 0, new.integers, old.integers),
                   np.where(gains > 0, new.scales, old.scales) if new.scales.size > 1 else new.scales)


def changes_for(layer: Layer, rounded: Rounded, bias: Floats | None) -> dict[int, Change]:
    """What puts `rounded` weights and a float `bias` (channels,) into a quantized `layer`.

    The bias has the scale of the products, input scale * weight scale. Where it is too large for
    that (a dead channel's weights can be nearly nothing), the channel's weights get a coarser one;
    weights that another layer reads as well stay as they are, and such a bias is cut off.
    """
    entry = float(layer.source.grid.scales[0])
    integers, scales = rounded.integers, rounded.scales
    most = MOST[layer.bias.dtype] if layer.bias else 0
    if bias is not None and layer.bias and not layer.shared:
        needed = np.abs(layer.by_channel(bias)) / np.float64(entry * most)
        needed = needed if scales.size > 1 else needed.max(keepdims=True)
        coarser = np.maximum(scales, needed).astype(np.float32)
        integers = np.where(coarser > scales, np.round(rounded.real / coarser), integers)
        scales = coarser
    changes = {} if layer.shared else {layer.weights.index: Change(
        layer.filters(integers.astype(np.int8)), _grid(scales.reshape(-1), layer.axis))}
    if bias is not None and layer.bias:
        steps = entry * scales.astype(np.float64).reshape(-1)
        whole = np.clip(np.round(bias / steps), -most, most).astype(layer.bias.dtype.lower())
        changes[layer.bias.index] = Change(whole, _grid(steps, 0))
    return changes


def rounded_in(layer: Layer) -> Rounded:
    """The weights of a quantized layer as they are."""
    scales = layer.weights.grid.scales
    shaped = layer.by_channel(scales) if scales.size > 1 else scales.reshape(1, 1, 1)
    return Rounded(layer.matrix(values_of(layer.weights)), shaped)


def held(samples: int) -> tuple[Array, Array]:
    """Which of so many samples teach, and which judge: all of them do both where they are few."""
    every = np.arange(samples)
    if samples < ENOUGH:
        return every, every
    return every[every % HELD_OUT != 0], every[:: HELD_OUT]


def _layer(ours: Layer, theirs: Layer, inputs: Sides, learn: Learn | None) -> dict[int, Change]:
    """What the quantized layer `theirs` is to become, by what enters both."""
    grid, matrix = theirs.source.grid, ours.matrix(values_of(ours.weights))
    rounded = rounded_in(theirs)
    if learn and not ours.shared:
        teaching, judging = (
            moments(ours, (inputs[0][part], inputs[1][part]), grid) for part in held(len(inputs[0])))
        lesson = Lesson(ours, matrix, rounded, teaching, BITS[theirs.weights.dtype])
        rounded = better(learn(lesson), rounded, matrix, judging)
    bias = None
    if ours.bias and theirs.bias:
        step = grid.scales[0]
        in_steps = ours.by_channel(values_of(ours.bias) / step)
        bias = corrected(in_steps, rounded.real, matrix, means(ours, inputs, grid)).reshape(-1) * step
    return changes_for(theirs, rounded, bias)


def _grid(scales: Array, axis: int) -> Quantization:
    return Quantization(scales.astype(np.float32), np.zeros(scales.size, np.int64), axis)
