"""Ranges: where the grid of a tensor begins and ends, by what was seen of its values.

A wide range clips nothing and rounds coarsely, a narrow one the other way round; no single choice
wins on every model. Each method is a pure function of values (n, …), a sample a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Quantization

Method = Literal["minmax", "average", "percentile", "mse", "octav", "entropy"]
Choice = Literal["auto", "minmax", "average", "percentile", "mse", "octav", "entropy"]
Range = tuple[float, float]
BINS = 2048
BLOCK = 1 << 20  # values that are put into bins at once: they take eight times their room there
SMOOTHING = 0.95
PERCENTILE = 99.99
STEPS = np.linspace(1.0, 0.2, 81)
LEVELS = 256
NEWTON = 20
UNSEEN = 1e-4  # of a value: what a bin without values counts as where others are cut off into it
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values fall into bins of equal width: `counts` (m,) at the bins' `centres` (m,)."""

    counts: Array
    centres: Array

    @property
    def ends(self) -> Range:
        """The lower end of the first bin and the upper one of the last."""
        half = (self.centres[1] - self.centres[0]) / 2
        return float(self.centres[0] - half), float(self.centres[-1] + half)


def ends_by(method: Method, values: Floats) -> Range:
    """The range that `method` gives `values` (n, …); never wider than what was seen of them."""
    least, most = minmax(values)
    if least == most:
        return least, most
    low, high = METHODS[method](values)
    return max(least, float(low)), min(most, float(high))


def histogram(values: Floats) -> Histogram:
    """The histogram of all `values`, from their least to their largest."""
    counts, edges = _binned(values)
    return Histogram(counts, (edges[1:] + edges[:-1]) / 2)


def minmax(values: Floats) -> Range:
    """From the least to the largest value: nothing that was seen is clipped."""
    return float(values.min()), float(values.max())


def average(values: Floats) -> Range:
    """The moving average of the samples' own ends, as in LiteRT's calibrator: outliers are clipped.

    end = 0.95 * end + 0.05 * the next sample's, in the order of the samples.
    """
    rows = values.reshape(len(values), -1)
    low, high = float(rows[0].min()), float(rows[0].max())
    for least, most in zip(rows.min(axis=1)[1:], rows.max(axis=1)[1:], strict=True):
        low = SMOOTHING * low + (1 - SMOOTHING) * float(least)
        high = SMOOTHING * high + (1 - SMOOTHING) * float(most)
    return low, high


def percentile(values: Floats) -> Range:
    """All but the outermost 0.01 % of the values at either end (McKinstry et al. 2018, arXiv 1809.04191)."""
    seen = histogram(values)
    share = np.cumsum(seen.counts) / seen.counts.sum()
    low = seen.centres[int(np.searchsorted(share, 1 - PERCENTILE / 100))]
    high = seen.centres[min(int(np.searchsorted(share, PERCENTILE / 100)), BINS - 1)]
    return float(low), float(high)


def mse(values: Floats, levels: int = LEVELS) -> Range:
    """The range of the least mean squared error of the quantized values.

    Banner et al. 2019, "Post training 4-bit quantization of convolutional networks" (arXiv 1810.05723).
    The upper end is searched with the lower one where it is, then the lower, then the upper again.
    """
    seen = histogram(values)
    low, high = (min(0.0, seen.ends[0]), max(0.0, seen.ends[1]))

    def best(ends: list[Range]) -> Range:
        return min(ends, key=lambda end: squared_error(seen, end, levels))

    found = best([(low, high * step) for step in STEPS])
    found = best([(low * step, found[1]) for step in STEPS])
    return best([(found[0], high * step) for step in STEPS])


def octav(values: Floats, levels: int = LEVELS) -> Range:
    """Optimal clipping by Newton's recursion (OCTAV, Sakr et al. 2022, arXiv 2206.06501), both ends in turn.

    s <- sum of |x| beyond s / (w / s * number within / (12 * levels^2) + number beyond s) for each end s,
    w the width of the whole range: the paper's recursion where w is 2 s, and its unsigned one where s.
    Zeros, which any grid holds, do not count.
    """
    seen = histogram(values[values != 0])
    sizes = [np.maximum(sign * seen.centres, 0) for sign in (-1, 1)]
    clips = [float((size * seen.counts).sum() / max(seen.counts[size > 0].sum(), 1)) for size in sizes]
    for _ in range(NEWTON):
        within = seen.counts[(sizes[0] <= clips[0]) & (sizes[1] <= clips[1])].sum()
        noise = sum(clips) * within / (12 * levels**2)
        clips = [_octav_end(size, seen.counts, clip, noise) for size, clip in zip(sizes, clips, strict=True)]
    low, high = -clips[0], clips[1]
    return max(low, seen.ends[0]) if low else 0.0, min(high, seen.ends[1]) if high else 0.0


def entropy(values: Floats) -> Range:
    """The range of the least Kullback-Leibler divergence from the values.

    Migacz 2017, "8-bit Inference with TensorRT" (GPU Technology Conference).
    For each clipping of the magnitudes, the clipped distribution P is compared with Q, which has
    128 levels of it; Q is spread over the bins that P fills, and is nowhere quite 0, as in
    onnxruntime: a single value far off would else forbid every cut. Zeros, which any grid holds, do
    not count.
    """
    low, high = minmax(values)
    counts, edges = _binned(np.abs(values[values != 0]))
    cuts = range(LEVELS // 2, BINS + 1, 16)
    best = min(cuts, key=lambda cut: _divergence(counts, cut))
    return max(low, -float(edges[best])), min(high, float(edges[best]))


def squared_error(seen: Histogram, ends: Range, levels: int = LEVELS) -> float:
    """The mean squared error of what was `seen` on a grid of `levels` between `ends`."""
    step = max((ends[1] - ends[0]) / (levels - 1), TINY)
    kept = np.clip(np.round((seen.centres - ends[0]) / step), 0, levels - 1) * step + ends[0]
    return float((seen.counts * np.square(kept - seen.centres)).sum() / seen.counts.sum())


def grid(ends: Range, bits: int = 8) -> Quantization:
    """The grid of an activation: asymmetric in 8 bits, symmetric in 16; zero is always on it.

    scale = (high - low) / (2^bits - 1), zero point = round(-128 - low / scale) for 8 bits, as in
    TFLite's quantization specification.
    """
    low, high = min(0.0, ends[0]), max(0.0, ends[1])
    if bits == 16:
        scale = max(max(-low, high) / (2**15 - 1), TINY) if low < high else 1.0
        return Quantization(np.array([scale], np.float32), np.zeros(1, np.int64), 0)
    scale = max((high - low) / (2**bits - 1), TINY) if low < high else 1.0
    point = math.floor(-(2 ** (bits - 1)) - low / scale + 0.5)
    return Quantization(np.array([scale], np.float32), np.array([point], np.int64), 0)


def on_grid(values: Floats, ends: Range) -> Floats:
    """`values` as an int8 tensor with the range `ends` would have them."""
    found = grid(ends)
    scale, point = found.scales[0], float(found.zero_points[0])
    kept: Floats = (np.clip(np.round(values / scale) + point, -128, 127) - point) * scale
    return kept.astype(np.float32)


def _binned(values: Floats) -> tuple[Array, Array]:
    """How many values fall into each of BINS bins, and the bins' edges, in float64.

    In float32 there is no room for so many edges between values that are nearly alike; np.histogram
    checks every value against them, which takes four times as long.
    """
    least, most = np.float64(values.min()), np.float64(values.max())
    room = 0.0 if least < most else abs(least) / 2 or 0.5
    edges = np.linspace(least - room, most + room, BINS + 1)
    flat, counts = values.reshape(-1), np.zeros(BINS)
    for first in range(0, flat.size, BLOCK):
        places = (flat[first:first + BLOCK] - edges[0]) * (BINS / (edges[-1] - edges[0]))
        counts += np.bincount(np.minimum(places.astype(np.int32), BINS - 1), minlength=BINS)
    return counts, edges


def _octav_end(sizes: Array, counts: Array, clip: float, noise: float) -> float:
    """One step for the end at `clip`; `noise` is what a wider range costs."""
    beyond = sizes > clip
    parts = noise / clip + counts[beyond].sum() if clip else 0.0
    return float((sizes * counts)[beyond].sum() / parts) if parts else clip


def _divergence(counts: Array, cut: int) -> float:
    """KL(P || Q) of the first `cut` bins, what is beyond them added to the last."""
    clipped = counts[:cut].copy()
    clipped[-1] += counts[cut:].sum()
    level = (np.arange(cut) * (LEVELS // 2)) // cut
    filled = clipped > 0
    sums = np.bincount(level, counts[:cut], LEVELS // 2)
    sizes = np.bincount(level, filled, LEVELS // 2)
    spread = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0.0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), TINY)
    q = np.maximum(q, UNSEEN / clipped.sum())
    return float((p[filled] * np.log(p[filled] / q[filled])).sum())


METHODS: Mapping[Method, Callable[[Floats], Range]] = {
    "minmax": minmax, "average": average, "percentile": percentile, "mse": mse, "octav": octav,
    "entropy": entropy,
}
