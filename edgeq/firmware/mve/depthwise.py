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
FAR = 1 << 16  # what a scattering store may add to an address


def depthwise(operation: Operation) -> Kernel | None:
    """DEPTHWISE_CONV_2D of one image, one output a channel, channels a multiple of four."""
    channels = operation.source.shape[3]
    if not suits(operation) or channels % 4 or channels != operation.sink.shape[3]:
        return None
    axes, weights = windows(operation), integers(operation.input(1))[0].transpose(2, 0, 1)
    if axes is None or max(axis.taps for axis in axes) > 4 or max(axis.stride for axis in axes) > 8:
        return None
    found = layer(operation, weights)
    if found is None:
        return None
    constants = requantization(found.sums)
    if isinstance(constants.form, Exact) and (constants.form.left or constants.form.whole):
        return None
    strips = [strip for across in (True, False)
              if max((strip := _strip(axes, found, constants.form, across=across)).places) < FAR]
    return _kernel(min(strips, key=lambda strip: strip.cost), found, constants) if strips else None


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
