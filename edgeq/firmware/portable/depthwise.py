"""DEPTHWISE_CONV_2D: each channel by taps of its own, which are stored side by side.

The one rule is that of convolutions: raw inputs where the window is complete, else with the zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output
from edgeq.firmware.portable.scaling import Layer, Sums, sums, weights_of
from edgeq.firmware.portable.text import Lines, alternatives, c_type, function, loop, require_integers, shaped
from edgeq.firmware.portable.window import Axis, axes, whole

UNROLLED = 16  # so many taps at most are written out


@dataclass(frozen=True)
class Depthwise:
    """A window over an image of `depth` channels, each of which has `multiplier` outputs."""

    vertical: Axis
    horizontal: Axis
    depth: int
    multiplier: int
    batch: int

    @property
    def both(self) -> tuple[Axis, Axis]:
        """Its axes."""
        return self.vertical, self.horizontal

    @property
    def complete(self) -> bool:
        """Whether no window reaches out of the image."""
        return all(axis.complete for axis in self.both)


def depthwise(operation: Operation) -> Kernel:
    """DEPTHWISE_CONV_2D of int8, or of int16 by int8: any multiplier, stride, dilation and padding."""
    kind = require_integers(operation.source, operation.sink)
    weights = weights_of(operation, 1)
    _, height, width, channels = weights.shape
    batch, _, _, depth = operation.source.shape
    if channels % depth:
        raise Refused(f"its weights {weights.shape} do not go with {depth} channels",
                      "export the model again")
    shape = Depthwise(*axes(operation, (height, width)), depth, channels // depth, batch)
    taps = np.moveaxis(weights[0], 2, 0)  # of a channel side by side
    found = sums(Layer(operation, taps, shape.complete, narrow_bias=False))
    parameters = (f"const {c_type(operation.source)} *x, {c_type(operation.sink)} *y, const int8_t *weights, "
                  f"{found.parameters}")
    routine = function(f"depthwise_{kind.lower()}", _what(operation, shape), parameters,
                       _body(shape, c_type(operation.source), found), found.finish())
    return Kernel(routine, (Input(), Output(), Constant("weights", taps), *found.constants))


def _what(operation: Operation, shape: Depthwise) -> str:
    high, wide = shape.both
    dilated = "" if high.dilation == wide.dilation == 1 else f", dilation {high.dilation}x{wide.dilation}"
    return (f"Depthwise convolution {high.taps}x{wide.taps}, stride {high.stride}x{wide.stride}{dilated}: "
            f"{shaped(operation.source)} -> {shaped(operation.sink)}.")


def _body(shape: Depthwise, kind: str, found: Sums) -> Lines:
    high, wide = shape.both
    corner = f"x + ({high.start} * {wide.size} + {wide.start}) * {shape.depth}"
    pixels = loop("oy", high.outputs, [*high.bounds(), *loop("ox", wide.outputs, [
        *wide.bounds(), *(whole(shape.both) if found.offset else ()),
        f"const {kind} *corner = {corner};",
        f"const int8_t *filter = weights{_first(shape)};", "const int32_t *channel = channels;",
        *_channels(shape, kind, found)])])
    image = high.size * wide.size * shape.depth
    return pixels if shape.batch == 1 else loop("image", shape.batch, [*pixels, f"x += {image};"])


def _first(shape: Depthwise) -> str:
    """How far into the taps of a channel the first one within the image stands."""
    steps = shape.horizontal.taps, 1
    return "".join(f" + {axis.first} * {step}".removesuffix(" * 1")
                   for axis, step in zip(shape.both, steps, strict=True) if not axis.complete)


def _channels(shape: Depthwise, kind: str, found: Sums) -> Lines:
    one = [f"const {kind} *row = corner;",
           "const int8_t *tap = filter;",
           *found.begun(1),
           *_window(shape, found),
           *found.finished(1),
           f"filter += {shape.vertical.taps * shape.horizontal.taps};"]
    several = one if shape.multiplier == 1 else loop("m", shape.multiplier, one)
    return loop("c", shape.depth, [*several, "corner++;"])


def _window(shape: Depthwise, found: Sums) -> Lines:
    if shape.complete:
        return _taps(shape, found, inside=False)
    inside = _taps(shape, found, inside=True)
    if not found.offset:
        return inside
    return alternatives("whole != 0", _taps(shape, found, inside=False), [
        *found.begun(1, part=True, declared=False), *inside])


def _taps(shape: Depthwise, found: Sums, *, inside: bool) -> Lines:
    """The sum over all taps, or over those within the image."""
    high, wide = shape.both
    if not inside and high.taps * wide.taps <= UNROLLED:
        return _all(shape)
    first, end = (high.first, high.end) if inside else ("0", str(high.taps))
    value = f"row[kx * {wide.dilation * shape.depth}]"
    return loop("ky", end, [
        *loop("kx", wide.count if inside else wide.taps,
              [f"sum0 += {found.taken(value) if inside else value} * tap[kx];"]),
        f"row += {high.dilation * wide.size * shape.depth};", f"tap += {wide.taps};"], first)


def _all(shape: Depthwise) -> Lines:
    """The sum over all taps, written out."""
    high, wide = shape.both
    step, row = wide.dilation * shape.depth, high.dilation * wide.size * shape.depth
    return [f"sum0 += row[{ky * row + kx * step}] * tap[{ky * wide.taps + kx}];"
            for ky in range(high.taps) for kx in range(wide.taps)]
