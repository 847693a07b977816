"""TRANSPOSE_CONV: every output gathers the taps that reach it, so that no memory for sums is needed.

The one rule: inputs are always taken with their zero point, as the number of taps differs from output
to output.
"""

from __future__ import annotations

import numpy as np

from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.scaling import Layer, Sums, block_of, sums, weights_of
from edgeq.firmware.portable.text import Lines, c_type, function, loop, plus, require_integers, shaped
from edgeq.firmware.portable.window import SAME, Axis


def transposed(operation: Operation) -> Kernel:
    """TRANSPOSE_CONV of int8, or of int16 by int8: any stride and padding."""
    source, sink = operation.input(2), operation.sink
    kind = require_integers(source, sink)
    weights = weights_of(operation, 1)
    found = sums(Layer(operation, weights, complete=False, places=(2, 1, 3), narrow_bias=False))
    high, wide = (_axis(operation, place, weights.shape[place]) for place in (1, 2))
    parameters = f"const {c_type(source)} *x, {c_type(sink)} *y, const int8_t *weights, {found.parameters}"
    what = (f"Transposed convolution {high.taps}x{wide.taps}, stride {high.stride}x{wide.stride}: "
            f"{shaped(source)} -> {shaped(sink)}.")
    routine = function(f"transposed_{kind.lower()}", what, parameters,
                       _body(source.shape, weights.shape, (high, wide), found, c_type(source)),
                       found.finish())
    return Kernel(routine, (Input(2), Output(), Input(1), *found.constants))


def _axis(operation: Operation, place: int, taps: int) -> Axis:
    """An axis of the convolution that this is the gradient of: `size` is that of the output here."""
    options, name = operation.operator.options, "yx"[place - 1]
    stride, size = int(operation.option(f"stride{'HW'[place - 1]}")), operation.sink.shape[place]
    outputs = -(-size // stride) if options["padding"] == SAME else (size + stride - taps) // stride
    padding = max(0, (outputs - 1) * stride + taps - size) // 2
    return Axis(name, size, operation.input(2).shape[place], taps, stride, 1, padding)


def _body(source: tuple[int, ...], weights: tuple[int, ...], both: tuple[Axis, Axis], found: Sums, kind: str
          ) -> Lines:
    high, wide = both
    batch, rows, columns, depth = source
    channels, _, width, _ = weights
    size, block = int(np.prod(weights[1:])), block_of(channels)
    taps = _reaching(high, [*_reaching(wide, [
        f"const {kind} *pixel = x + (iy * {columns} + ix) * {depth};",
        f"const int8_t *tap = filter + (ky * {width} + kx) * {depth};",
        *loop("k", depth, [
            f"const int32_t value = {found.taken('pixel[k]')};",
            *(f"sum{each} += value * tap[k{plus(each * size)}];" for each in range(block))])])])
    pixels = loop("oy", high.size, loop("ox", wide.size, [
        "const int8_t *filter = weights;", "const int32_t *channel = channels;",
        *loop("c", channels // block, [
            *found.begun(block, part=True), *taps, *found.finished(block), f"filter += {block * size};"])]))
    return pixels if batch == 1 else loop("image", batch, [*pixels, f"x += {rows * columns * depth};"])


def _reaching(axis: Axis, lines: Lines) -> Lines:
    """`lines` for every tap k that reaches the output o, and the input i that it comes from."""
    name = axis.name
    at, tap, source = f"o{name}{plus(axis.padding)}", f"k{name}", f"i{name}"
    first = "0" if axis.stride == 1 else f"({at}) % {axis.stride}"
    steps = f"{tap}++" if axis.stride == 1 else f"{tap} += {axis.stride}"
    distance = f"{at} - {tap}" if axis.stride == 1 else f"({at} - {tap}) / {axis.stride}"
    inside = [f"const int32_t {source} = {distance};",
              f"if ({source} >= 0 && {source} < {axis.outputs}) {{", *(f"  {line}" for line in lines), "}"]
    return [f"for (int32_t {tap} = {first}; {tap} < {axis.taps}; {steps}) {{",
            *(f"  {line}" for line in inside), "}"]
