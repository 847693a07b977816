"""SmoothQuant: outliers of activations moved on to the weights that read them.

A normalization puts out channels X some of which are far larger than the others, and one grid
serves them all. Where weighted layers alone read them,

    Y = (X / s) (s W),  s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

gives the same for any s > 0 a channel, and X / s costs nothing: gamma and beta are divided instead
(Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", arXiv 2211.10438, equations 3 and 4).

The rule kept here: the float model is run again after every edit, and an edit that moves its outputs
is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Change, edited, parse, values_of, with_own_factors
from edgeq.ptq.equalization import WIDEST, alike
from edgeq.ptq.gains import Gain, gains, repeated
from edgeq.ptq.stepping import Steps


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A float model; how many of its normalizations were smoothed, and how many edits undone.

    `left` has, for each normalization that could not be, the names of what reads it as well.
    """

    content: bytes
    done: int
    undone: int
    left: tuple[tuple[str, ...], ...]


def smoothing(inputs: Floats, weights: Floats, alpha: float) -> Floats:
    """The scales s (channels,) = inputs^alpha / weights^(1 - alpha) for the largest |X_j| and |W_j|.

    A channel of zeros alone, on either side, has nothing to move and gets the mean of the others.
    """
    alive = (inputs > 0) & (weights > 0)
    if not alive.any():
        return np.ones(inputs.size, np.float32)
    large, small = (np.log(np.where(alive, each, 1), dtype=np.float64) for each in (inputs, weights))
    powers = alpha * large - (1 - alpha) * small
    middle, far = powers[alive].mean(), np.log(WIDEST)
    scale: Floats = np.exp(np.clip(np.where(alive, powers, middle), middle - far, middle + far))
    return scale.astype(np.float32)


def smoothed(baseline: bytes, samples: Array, alpha: float) -> Smoothed:
    """`baseline` with the outliers of its normalizations moved on to the layers that read them."""
    content = with_own_factors(baseline)
    found = gains(parse(content, "the model"))
    free = sorted((gain for gain in found if not gain.foreign), key=lambda gain: gain.operators[0].index)
    left = tuple(gain.foreign for gain in found if gain.foreign)
    if not free:
        return Smoothed(baseline, 0, 0, left)
    largest = _largest(content, samples, free)
    steps = Steps(content, samples)
    changes: dict[int, Change] = {}
    done = 0
    for gain, inputs in zip(free, largest, strict=True):
        made = _divided(gain, smoothing(inputs, _weights(gain), alpha))
        if _holds(steps, gain, made):
            changes |= made
            done += 1
    content = edited(content, changes)
    if not done or not alike(Steps(content, samples).rest(), Steps(baseline, samples).rest()):
        content, done = baseline, 0
    return Smoothed(content, done, len(free) - done, left)


def _largest(baseline: bytes, samples: Array, found: Sequence[Gain]) -> list[Floats]:
    """The largest magnitude of each channel (channels,) that the readers of each gain read."""
    steps = Steps(baseline, samples)
    most = [np.zeros(gain.channels, np.float32) for gain in found]
    reads = [(reader, place) for place, gain in enumerate(found) for reader in gain.readers]
    for reader, place in sorted(reads, key=lambda read: read[0].operator.index):
        steps.advance(reader.operator.index)
        seen = np.abs(steps.values[reader.source.index]).reshape(-1, most[place].size).max(axis=0)
        most[place] = np.maximum(most[place], seen)
    return most


def _weights(gain: Gain) -> Floats:
    """The largest weight that reads each channel of a gain, of all its readers (channels,)."""
    most: Floats = np.max([reader.most(values_of(reader.weights), gain.channels)
                           for reader in gain.readers], axis=0)
    return most


def _divided(gain: Gain, scale: Floats) -> dict[int, Change]:
    """What makes the channels of a gain smaller by `scale`, and the weights that read them larger."""
    constants = {constant.index: Change(values_of(constant) / repeated(scale, constant.shape[-1]))
                 for constant in gain.constants}
    weights = {reader.weights.index: Change(reader.scaled(values_of(reader.weights), scale))
               for reader in gain.readers}
    return constants | weights


def _holds(steps: Steps, gain: Gain, made: Mapping[int, Change]) -> bool:
    """Whether the readers of a gain give what they did after the changes `made`."""
    first = gain.operators[0].index
    steps.advance(first)
    spans = [steps.graph.operators[first:reader.operator.index + 1] for reader in gain.readers]
    return all(alike(steps.through(span, changes=made), steps.through(span)) for span in spans)
