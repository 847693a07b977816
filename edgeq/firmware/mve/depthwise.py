"""Depthwise convolutions of windows up to 4 x 4: four channels at a time, strip by strip (see slide.py).

The one rule: the longer loop goes along the axis that costs less, rows and columns being alike: a strip
lies along the `inner` axis and is as high as one or two windows are along the `outer` one.
"""

from __future__ import annotations

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output, Routine, Scratch
from edgeq.firmware.mve.layer import Axis, Layer, integers, layer, suits, windows
from edgeq.firmware.mve.requantize import Exact, Form, Requantization, requantization, words
from edgeq.firmware.mve.slide import Strip, slide

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, int8_t *scratch"
MOST_TAPS = 4  # rows and columns of a window in a vector
MOST_STRIDE = 31  # columns that an address can go on by
FAR = 1 << 16  # what a scattering store may add to an address


def depthwise(operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D of one image, one output a channel, channels a multiple of four."""
    channels, axes = operation.source.shape[3], windows(operation)
    if not suits(operation) or channels % 4 or channels != operation.sink.shape[3]:
        return None
    if axes is None or any(axis.taps > MOST_TAPS or axis.stride > MOST_STRIDE for axis in axes):
        return None
    found = layer(operation, integers(operation.input(1))[0].transpose(2, 0, 1))
    return _chosen(axes, found, requantization(found.sums)) if found else None


def _chosen(axes: tuple[Axis, Axis], found: Layer, constants: Requantization) -> Kernel | None:
    """The kernel along the axis that costs less; None where sums are shifted to the left, or not at all."""
    form = constants.form
    if isinstance(form, Exact) and (form.left or form.whole):
        return None
    strips = [_strip(axes, found, form, across=across) for across in (True, False)]
    near = [strip for strip in strips if max(strip.places) < FAR]
    return _kernel(min(near, key=lambda strip: strip.cost), found, constants) if near else None


def _strip(axes: tuple[Axis, Axis], found: Layer, form: Form, *, across: bool) -> Strip:
    """Strips along the rows (`across`) or along the columns of an image."""
    down, along = axes
    channels = len(found.weights)
    rows = (down, along.size * channels, along.outputs * channels)
    columns = (along, channels, channels)
    inner, outer = (columns, rows) if across else (rows, columns)
    return Strip(inner[0], outer[0], (inner[1], outer[1]), (inner[2], outer[2]), channels, found.border,
                 across, form)


def _kernel(strip: Strip, found: Layer, constants: Requantization) -> Kernel:
    inner, outer = strip.inner, strip.outer
    weights = found.weights if strip.across else found.weights.transpose(0, 2, 1)
    name = (f"depthwise_{outer.taps}x{inner.taps}_{outer.size}x{inner.size}x{strip.channels}"
            f"{'' if strip.across else '_turned'}")
    routine = Routine(name, PARAMETERS, assembly=slide(strip))
    values = Constant("weights", packed(strip, weights, constants))
    return Kernel(routine, (Input(), Output(), values, Scratch()), strip.columns * 16)


def packed(strip: Strip, weights: Array, constants: Requantization) -> Array:
    """The constants: the unit, then of each channel its weights as 4 columns of 4 rows, and the rows.

    `weights` are (channels, outer taps, inner taps); where a strip is two windows high, they follow
    a second time, `stride` rows further down.
    """
    channels = len(weights)
    vectors = np.zeros((channels, strip.height, 4, 4), np.int8)
    for i in range(strip.height):
        top = i * strip.outer.stride
        vectors[:, i, : strip.inner.taps, top : top + strip.outer.taps] = weights.transpose(0, 2, 1)
    first, factor, last = constants.rows
    rows = words(np.stack([first, last, factor], 1))
    each = np.concatenate([vectors.reshape(channels, -1).view(np.uint32), rows], 1)
    return np.concatenate([np.array([constants.unit], np.uint32), each.reshape(-1)])
