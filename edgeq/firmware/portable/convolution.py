"""CONV_2D: the taps of a row of the window, with their channels, are one run of memory and one loop.

The one rule: sums are taken over raw inputs, with the zero point folded into the bias, wherever a
window is complete; at the borders, where taps are missing, every input is taken with its zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.errors import Refused
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.scaling import Layer, Sums, block_of, sums, weights_of
from edgeq.firmware.portable.text import (
    Lines,
    alternatives,
    c_type,
    function,
    loop,
    plus,
    require_integers,
    shaped,
)
from edgeq.firmware.portable.window import Axis, axes, whole


@dataclass(frozen=True)
class Convolution:
    """A convolution over an image of `depth` channels, `part` of which each of `channels` outputs sees."""

    vertical: Axis
    horizontal: Axis
    depth: int
    part: int
    channels: int
    batch: int

    @property
    def pointwise(self) -> bool:
        """Whether it is a product of matrices: one tap, on every pixel."""
        return all(axis.taps == axis.stride == 1 and axis.complete for axis in self.both)

    @property
    def both(self) -> tuple[Axis, Axis]:
        """Its axes."""
        return self.vertical, self.horizontal

    @property
    def complete(self) -> bool:
        """Whether no window reaches out of the image."""
        return all(axis.complete for axis in self.both)

    @property
    def grouped(self) -> bool:
        """Whether an output sees a part of the channels only."""
        return self.part != self.depth

    @property
    def size(self) -> int:
        """How many weights a channel has."""
        return self.vertical.taps * self.horizontal.taps * self.part

    @property
    def filters(self) -> int:
        """How many outputs see the same inputs."""
        return self.channels * self.part // self.depth

    @property
    def block(self) -> int:
        """How many outputs are summed at once."""
        return block_of(self.filters)

    @property
    def runs(self) -> bool:
        """Whether the taps of a row lie side by side."""
        return self.horizontal.taps == 1 or (self.horizontal.dilation == 1 and not self.grouped)


def convolution(operation: Operation) -> Kernel:
    """CONV_2D of int8, or of int16 by int8: any stride, dilation, padding, and number of groups."""
    kind = require_integers(operation.source, operation.sink)
    weights = weights_of(operation, 1)
    shape = _shape(operation, weights.shape)
    found = sums(Layer(operation, weights, shape.complete))
    routine = function(f"conv_{kind.lower()}", _what(operation, shape), _parameters(operation, found),
                       _body(shape, operation, found), found.finish())
    return Kernel(routine, (Input(), Output(), Input(1), *found.constants))


def _shape(operation: Operation, weights: tuple[int, ...]) -> Convolution:
    channels, height, width, part = weights
    batch, _, _, depth = operation.source.shape
    if depth % part or channels % (depth // part):
        raise Refused(f"its weights {weights} do not go with {depth} channels", "export the model again")
    return Convolution(*axes(operation, (height, width)), depth, part, channels, batch)


def _what(operation: Operation, shape: Convolution) -> str:
    high, wide = shape.both
    dilated = "" if high.dilation == wide.dilation == 1 else f", dilation {high.dilation}x{wide.dilation}"
    return (f"Convolution {high.taps}x{wide.taps}, stride {high.stride}x{wide.stride}{dilated}: "
            f"{shaped(operation.source)} -> {shaped(operation.sink)}.")


def _parameters(operation: Operation, found: Sums) -> str:
    kinds = c_type(operation.source), c_type(operation.sink)
    return f"const {kinds[0]} *x, {kinds[1]} *y, const int8_t *weights, {found.parameters}"


def _body(shape: Convolution, operation: Operation, found: Sums) -> Lines:
    kind = c_type(operation.source)
    if shape.pointwise:
        return _pointwise(shape, kind, found)
    pixels = _pixels(shape, kind, found)
    image = shape.vertical.size * shape.horizontal.size * shape.depth
    return pixels if shape.batch == 1 else loop("image", shape.batch, [*pixels, f"x += {image};"])


def _pointwise(shape: Convolution, kind: str, found: Sums) -> Lines:
    pixels = shape.batch * shape.vertical.size * shape.horizontal.size
    one = _channels(shape, found, f"const {kind} *row = x", _run(shape, found, str(shape.part)))
    return loop("i", pixels, [*one, f"x += {shape.depth};"])


def _pixels(shape: Convolution, kind: str, found: Sums) -> Lines:
    high, wide = shape.both
    corner = f"x + ({high.start} * {wide.size} + {wide.start}) * {shape.depth}"
    one = _channels(shape, found, f"const {kind} *row = corner", _window(shape, found), _first(shape))
    return loop("oy", high.outputs, [*high.bounds(), *loop("ox", wide.outputs, [
        *wide.bounds(), *(whole(shape.both) if found.offset else ()),
        f"const {kind} *corner = {corner};", *one])])


def _first(shape: Convolution) -> str:
    """How far into the weights of a channel the first tap within the image stands."""
    steps = shape.horizontal.taps * shape.part, shape.part
    return "".join(f" + {axis.first} * {step}" for axis, step in zip(shape.both, steps, strict=True)
                   if not axis.complete)


def _channels(shape: Convolution, found: Sums, row: str, taps: Lines, first: str = "") -> Lines:
    """All output channels of a pixel, by the sums over their `taps`; the first of these is at `row`."""
    group = f" + c / {shape.filters // shape.block} * {shape.part}" if shape.grouped else ""
    return [f"const int8_t *filter = weights{first};", "const int32_t *channel = channels;",
            *loop("c", shape.channels // shape.block, [
                f"{row}{group};",
                "const int8_t *tap = filter;",
                *found.begun(shape.block),
                *taps,
                *found.finished(shape.block),
                f"filter += {shape.block * shape.size};"])]


def _window(shape: Convolution, found: Sums) -> Lines:
    """The sum over a window: over all of its taps, or over those that are within the image."""
    if shape.complete:
        return _taps(shape, found, inside=False)
    inside = _taps(shape, found, inside=True)
    if not found.offset:
        return inside
    begun = found.begun(shape.block, part=True, declared=False)
    return alternatives("whole != 0", _taps(shape, found, inside=False), [*begun, *inside])


def _taps(shape: Convolution, found: Sums, *, inside: bool) -> Lines:
    high, wide = shape.both
    inner = _together(shape, found, inside=inside) if shape.runs else _apart(shape, found, inside=inside)
    first, end = (high.first, high.end) if inside else ("0", str(high.taps))
    if high.taps == 1 and (high.complete or not inside):
        return inner
    row = high.dilation * wide.size * shape.depth
    return loop("ky", end, [*inner, f"row += {row};", f"tap += {wide.taps * shape.part};"], first)


def _together(shape: Convolution, found: Sums, *, inside: bool) -> Lines:
    """The taps of a row, side by side."""
    wide = shape.horizontal
    if wide.complete or not inside:
        return _run(shape, found, str(wide.taps * shape.part), inside=inside)
    return _run(shape, found, f"{wide.count} * {shape.part}".removesuffix(" * 1"), inside=inside)


def _apart(shape: Convolution, found: Sums, *, inside: bool) -> Lines:
    """The taps of a row, one after the other."""
    wide = shape.horizontal
    count = wide.count if inside else str(wide.taps)
    ends = (f"kx * {wide.dilation * shape.depth} + k", f"kx * {shape.part} + k")
    return loop("kx", count, _run(shape, found, str(shape.part), ends, inside=inside))


def _run(
    shape: Convolution, found: Sums, length: str, ends: tuple[str, str] = ("k", "k"), *, inside: bool = False
) -> Lines:
    """Inputs side by side, times the weights of a block of channels; `ends` are the indices of both."""
    value = f"row[{ends[0]}]"
    return loop("k", length, [
        f"const int32_t value = {found.taken(value) if inside else value};",
        *(f"sum{each} += value * tap[{ends[1]}{plus(each * shape.size)}];" for each in range(shape.block))])
