"""Ranges of weights: how far the largest may be clipped so that the others are rounded finer.

The methods are those for activations (ranges.py) for grids that are symmetric around zero, a channel
or a tensor at a time. `auto` tries them layer by layer and keeps what moves the float model's
outputs least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Change, Layer, edited, layers, parse, values_of
from edgeq.ptq.aims import aim
from edgeq.ptq.calibration import FEWEST, affordable
from edgeq.ptq.layerwise import BITS, changes_for, rounded_in
from edgeq.ptq.ranges import PERCENTILE, Choice
from edgeq.ptq.rounding import Rounded, limit, nearest
from edgeq.ptq.stepping import Steps

STEPS = np.linspace(1.0, 0.3, 36)
NEWTON = 20
Clip = Callable[[Floats, Floats, int], Floats]


def mse(matrix: Floats, scale: Floats, bits: int) -> Floats:
    """Of `scale` and shrunk ones that with the least squared error of the weights."""
    axes = 1 if scale.size > 1 else None

    def errors(factor: float) -> Array:
        lost = np.square(nearest(matrix, scale * factor, bits).real - matrix, dtype=np.float64)
        return np.asarray(lost.sum(axis=axes, keepdims=True))

    best = np.argmin([errors(factor) for factor in STEPS], axis=0)
    finer: Floats = (scale * STEPS[best]).astype(np.float32)
    return finer


def octav(matrix: Floats, scale: Floats, bits: int) -> Floats:
    """The scale of optimal clipping by Newton's recursion (Sakr et al. 2022, arXiv 2206.06501)."""
    axes = 1 if scale.size > 1 else None
    sizes = np.abs(matrix)
    clip = sizes.mean(axis=axes, keepdims=True)
    for _ in range(NEWTON):
        beyond = sizes > clip
        parts = 4.0**-bits / 3 * (~beyond & (sizes > 0)).sum(axis=axes, keepdims=True) + beyond.sum(
            axis=axes, keepdims=True)
        clip = np.where(parts > 0, (sizes * beyond).sum(axis=axes, keepdims=True) / np.maximum(parts, 1e-9),
                        clip)
    clipped = clip.reshape(scale.shape) / limit(bits)
    return np.where(clipped > 0, np.minimum(clipped, scale), scale).astype(np.float32)


def percentile(matrix: Floats, scale: Floats, bits: int) -> Floats:
    """The scale that clips the largest 0.01 % of the weights."""
    axes = 1 if scale.size > 1 else None
    widest = np.quantile(np.abs(matrix), PERCENTILE / 100, axis=axes, keepdims=True).reshape(scale.shape)
    return np.where(widest > 0, widest / limit(bits), scale).astype(np.float32)


CLIPS: Mapping[str, Clip] = {"mse": mse, "octav": octav, "percentile": percentile}


def clipped(baseline: bytes, quantized: bytes, samples: Array, choice: Choice) -> bytes:
    """`quantized` with the weights of each layer on the range of `choice`.

    The choices that CLIPS has not leave the weights as they are: nothing of them is clipped.
    """
    methods = [clip for name, clip in CLIPS.items() if choice in (name, "auto")]
    pick = _least_moving(baseline, samples) if choice == "auto" else _last
    changes: dict[int, Change] = {}
    both = zip(layers(parse(baseline, "the model")), layers(parse(quantized, "the model")), strict=True)
    for ours, theirs in both:
        if theirs.weights.dtype in BITS and not ours.shared:
            best = pick(ours, list(_tried(ours, theirs, methods)))
            changes |= changes_for(theirs, best, values_of(ours.bias) if ours.bias else None)
    return edited(quantized, changes)


def _tried(ours: Layer, theirs: Layer, methods: Sequence[Clip]) -> Iterator[Rounded]:
    """The weights as the quantizer has them, and as each of `methods` would."""
    start, matrix, bits = rounded_in(theirs), ours.matrix(values_of(ours.weights)), BITS[theirs.weights.dtype]
    yield start
    yield from (nearest(matrix, clip(matrix, start.scales, bits), bits) for clip in methods)


def _last(_: Layer, tried: list[Rounded]) -> Rounded:
    return tried[-1]


def _least_moving(baseline: bytes, samples: Array) -> Callable[[Layer, list[Rounded]], Rounded]:
    """Of the weights tried for a layer, those that move the float model's scores least."""
    count = affordable(baseline, len(samples))
    if count < FEWEST:
        return lambda _, tried: tried[0]
    steps, goal = Steps(baseline, samples[:count]), aim(baseline, samples[:count])

    def pick(layer: Layer, tried: list[Rounded]) -> Rounded:
        operator = layer.operator
        steps.advance(operator.index)
        outputs = [steps.through([operator], changes={
            layer.weights.index: Change(layer.filters(each.real))}) for each in tried]
        steps.advance(operator.index + 1)
        losses = [goal.distance(steps.scores({layer.sink.index: each})) for each in outputs]
        return tried[int(np.argmin(losses))]

    return pick
