"""Rounding a layer's weights: scales, integers, and the error that they make in its outputs.

A layer is `outputs = patches @ matrix + bias` (graph/layers.py), matrix (groups, K, channels). What
rounding does to its outputs depends on its inputs by their second moments alone, so they stand in
for the samples: whatever is learnt costs the same for 100 samples and for 1000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.quantization import Granularity

DAMPING = 0.01  # of the mean diagonal, as in GPTQ: few samples leave directions unseen
NOISE = 1e-5  # of the mean power: a smaller covariance is what float32 left of it, and no more


@dataclass(frozen=True, eq=False)
class Means:
    """E[z] and E[x] of a layer's patches, quantized z and float x: (groups, 1, K) each."""

    quantized: Floats
    floats: Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a layer's patches, quantized z and float x, over positions and samples.

    `quantized` is E[z zT] and `crossed` E[z xT], both (groups, K, K).
    """

    quantized: Floats
    crossed: Floats
    means: Means


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights as a file has them: `integers` (groups, K, channels) and their `scales`.

    Those are (groups, 1, channels), or (1, 1, 1) where the whole tensor has one.
    """

    integers: Array
    scales: Floats

    @property
    def real(self) -> Floats:
        """The weights that they stand for."""
        return (self.integers * self.scales).astype(np.float32)


def limit(bits: int) -> int:
    """The largest integer of a symmetric weight: 127 of 8 bits, 7 of 4."""
    return int(2 ** (bits - 1)) - 1


def scales(matrix: Floats, granularity: Granularity, bits: int) -> Floats:
    """max|w| / limit, of each channel or of all: (groups, 1, channels) or (1, 1, 1).

    A channel of zeros has the scale of the others' mean, so that its bias stays small in integers.
    """
    axes = 1 if granularity == "per_channel" else None
    widest = np.abs(matrix).max(axis=axes, keepdims=True).reshape(
        (1, 1, 1) if axes is None else (matrix.shape[0], 1, matrix.shape[2]))
    filled = widest > 0
    spare = widest[filled].mean() if filled.any() else 1.0
    return (np.where(filled, widest, spare) / limit(bits)).astype(np.float32)


def nearest(matrix: Floats, scale: Floats, bits: int) -> Rounded:
    """Every weight to the nearest integer: q = clip(round(w / scale))."""
    most = limit(bits)
    return Rounded(np.clip(np.round(matrix / scale), -most, most).astype(np.int8), scale)


def damped(moments: Moments) -> Floats:
    """The covariance of z with a little more on its diagonal, so that it can be inverted."""
    own, _ = centred(moments)
    power, whole = (np.trace(each, axis1=1, axis2=2)[:, None, None] / own.shape[-1]
                    for each in (own, moments.quantized))
    more = np.maximum(np.maximum(DAMPING * power, NOISE * whole), 1e-8)
    firm: Floats = own + more * np.eye(own.shape[-1], dtype=own.dtype)
    return firm


def centred(moments: Moments) -> tuple[Floats, Floats]:
    """The covariances of z, and of z with x: what is left to the weights when the bias takes the means."""
    flipped = np.swapaxes(moments.means.quantized, 1, 2)
    return (moments.quantized - flipped @ moments.means.quantized,
            moments.crossed - flipped @ moments.means.floats)


def error(real: Floats, matrix: Floats, moments: Moments) -> Floats:
    """E[(z W~ - x W)^2] of each output, its mean error corrected: (groups, 1, channels), up to a constant.

    What does not depend on W~ is left out, so values can be negative; their differences count.
    """
    own, crossed = centred(moments)
    lost: Floats = ((real * (own @ real)).sum(axis=1) - 2 * (real * (crossed @ matrix)).sum(axis=1))[:, None]
    return lost


def corrected(bias: Floats, real: Floats, matrix: Floats, means: Means) -> Floats:
    """The bias (groups, 1, channels) with which the mean of each output is the float layer's.

    b + E[x] W - E[z] W~: bias correction by the means of real inputs (Nagel et al. 2019, arXiv
    1906.04721, section 4.2).
    """
    moved: Floats = bias + means.floats @ matrix - means.quantized @ real
    return moved


def objective(matrix: Floats, moments: Moments) -> tuple[Floats, Floats]:
    """H (groups, K, K) and t (groups, K, channels) of the error wT H w - 2 wT t of rounded weights w.

    The mean errors are the bias's matter. H is damped, and t with it, towards the float weights.
    """
    own, crossed = centred(moments)
    firm = damped(moments)
    target: Floats = (crossed @ matrix + (firm - own) @ matrix).astype(np.float32)
    return firm, target
