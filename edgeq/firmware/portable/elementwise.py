"""ADD, SUB and MUL of two tensors whose shapes broadcast, either of which may be a constant."""

from __future__ import annotations

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.arithmetic import bounds, multiplier
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import (
    TYPES,
    Lines,
    Span,
    function,
    merged,
    nest,
    place,
    plus,
    require_integers,
    shaped,
    strides,
)
from edgeq.graph import Quantization, Tensor

HEADROOM = {"INT8": 20, "INT16": 15}  # bits that sums are taken with, below those of the inputs
HALF = (1 << 30, 0)  # the factor of the input with the larger scale
Grids = tuple[Quantization, Quantization, Quantization]
Factor = tuple[int, int]


def add(operation: Operation) -> Kernel:
    """ADD of int8 or int16."""
    factors = summing(_grids(operation), _headroom(operation))
    return _elementwise(operation, "+", _sum(operation, "+", factors))


def subtract(operation: Operation) -> Kernel:
    """SUB of int8 or int16."""
    factors = differing(_grids(operation), _headroom(operation))
    return _elementwise(operation, "-", _sum(operation, "-", factors))


def multiply(operation: Operation) -> Kernel:
    """MUL of int8 or int16."""
    first, second, sink = _grids(operation)
    mantissa, shift = multiplier(float(first.scales[0]) * float(second.scales[0]) / float(sink.scales[0]))
    product = f"({_input(first, 'a')}) * ({_input(second, 'b')})"
    return _elementwise(operation, "*", [f"const int32_t value = eq_scaled({product}, {mantissa}, {shift});"])


def summing(grids: Grids, headroom: int) -> tuple[Factor, Factor, Factor]:
    """What the inputs and the output of ADD are scaled by; TFLite computes them in double."""
    first, second, sink = (float(grid.scales[0]) for grid in grids)
    twice = 2 * max(first, second)
    return multiplier(first / twice), multiplier(second / twice), multiplier(twice / ((1 << headroom) * sink))


def differing(grids: Grids, headroom: int) -> tuple[Factor, Factor, Factor]:
    """What the inputs and the output of SUB are scaled by; TensorFlow Lite Micro computes them in float32."""
    first, second, sink = (np.float32(grid.scales[0]) for grid in grids)
    twice = np.float32(2) * max(first, second)
    factors = first / twice, second / twice, twice / (np.float32(1 << headroom) * sink)
    one, two, three = (multiplier(float(factor)) for factor in factors)
    return one, two, three


def _grids(operation: Operation) -> Grids:
    return operation.input(0).grid, operation.input(1).grid, operation.sink.grid


def _headroom(operation: Operation) -> int:
    dtype = require_integers(operation.input(0), operation.input(1), operation.sink)
    return HEADROOM[dtype]


def _sum(operation: Operation, sign: str, factors: tuple[Factor, Factor, Factor]) -> Lines:
    headroom = _headroom(operation)
    grids, lines = _grids(operation), []
    for name, grid, (mantissa, shift) in zip("ab", grids[:2], factors[:2], strict=True):
        value = f"({_input(grid, name)}) * {1 << headroom}"
        if (mantissa, shift) == HALF:
            scaled = f"({_input(grid, name)}) * {1 << headroom - 1}"
        else:
            scaled = _rounded(value, mantissa, shift)
        lines.append(f"const int32_t scaled_{name} = {scaled};")
    return [*lines, f"const int32_t value = {_rounded(f'scaled_a {sign} scaled_b', *factors[2])};"]


def _rounded(value: str, mantissa: int, shift: int) -> str:
    if shift > 0:
        raise Refused("its output has a scale too small for those of its inputs", "calibrate the model again")
    product = f"eq_doubling_high({value}, {mantissa})"
    if shift == 0:
        return product
    return f"eq_rounding_shift{'_short' if shift > -31 else ''}({product}, {-shift})"


def _input(grid: Quantization, name: str) -> str:
    """An input without its zero point."""
    return f"{name}{plus(-int(grid.zero_points[0]))}"


def _elementwise(operation: Operation, sign: str, value: Lines) -> Kernel:
    """The kernel that stores what the lines make of `a` and `b`: `value`, without a zero point yet."""
    first, second, sink = operation.input(0), operation.input(1), operation.sink
    dtype = require_integers(first, second, sink)
    if dtype == "INT16" and any(grid.zero_points[0] for grid in _grids(operation)):
        raise Refused("its int16 tensors have zero points", "use a symmetric int16x8 recipe")
    kind, zero = TYPES[dtype], int(sink.grid.zero_points[0])
    low, high = bounds(operation.option("fusedActivationFunction"), sink.grid, dtype)
    walk = merged(_spans(sink, first, second))
    body = nest(walk, [
        f"const int32_t a = x1[{place(walk, 'x1')}];", f"const int32_t b = x2[{place(walk, 'x2')}];", *value,
        f"y[{place(walk, 'y')}] = ({kind})eq_clamped(value{plus(zero)}, {low}, {high});"])
    what = f"{shaped(first)} {sign} {shaped(second)} -> {shaped(sink)}."
    routine = function(f"{operation.name.lower()}_{dtype.lower()}", what,
                       f"const {kind} *x1, const {kind} *x2, {kind} *y", body)
    in_place = tuple(place for place in (0, 1) if operation.input(place).elements == sink.elements)
    return Kernel(routine, (Input(0), Input(1), Output()), in_place=in_place)


def _spans(sink: Tensor, *sources: Tensor) -> list[Span]:
    """The walk over the output, in which a source stands still along the dimensions that it has not."""
    rank = len(sink.shape)
    steps = {"y": strides(sink.shape)}
    for name, source in zip(("x1", "x2"), sources, strict=True):
        shape = (1,) * (rank - len(source.shape)) + source.shape
        if any(size not in (1, wanted) for size, wanted in zip(shape, sink.shape, strict=True)):
            raise Refused(f"its shapes do not broadcast: {source.shape} to {sink.shape}",
                          "export the model again")
        steps[name] = tuple(step * (size > 1) for step, size in zip(strides(shape), shape, strict=True))
    return [Span(size, {name: each[axis] for name, each in steps.items()})
            for axis, size in enumerate(sink.shape)]
