"""ADD, MUL and SOFTMAX by CMSIS-NN, on int8: these are in the whole library, not in every copy of it."""

from __future__ import annotations

from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.cmsis_nn.buffers import Build
from edgeq.firmware.cmsis_nn.calls import activation, called, in_int8, routine
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import Lines, shaped

LEFT = 20  # bits by which TFLite's sums are made finer before they are scaled
WHOLE = 5  # whole bits of what TFLite's int8 softmax takes the exponential of
PAIR = "const int8_t *a, const int8_t *b, int8_t *y"


def add(_build: Build, operation: Operation) -> Kernel | None:
    """ADD of two inputs of the output's shape."""
    if not _alike(operation):
        return None
    scales = [float(operation.input(place).grid.scales[0]) for place in (0, 1)]
    twice = 2 * max(scales)
    first, second = ((_zero_point(operation, place), *multiplier(scale / twice))
                     for place, scale in enumerate(scales))
    factor = twice / (2.0**LEFT * float(operation.sink.grid.scales[0]))
    return _pair(operation, "add", called(
        "arm_elementwise_add_s8", "a", "b", *first, *second, LEFT, "y", *_after(operation, factor)))


def multiply(_build: Build, operation: Operation) -> Kernel | None:
    """MUL of two inputs of the output's shape."""
    if not _alike(operation):
        return None
    first, second = (float(operation.input(place).grid.scales[0]) for place in (0, 1))
    zero_points = (_zero_point(operation, place) for place in (0, 1))
    factor = first * second / float(operation.sink.grid.scales[0])
    return _pair(operation, "mul", called(
        "arm_elementwise_mul_s8", "a", "b", *zero_points, "y", *_after(operation, factor)))


def softmax(_build: Build, operation: Operation) -> Kernel | None:
    """SOFTMAX along the last dimension, on the grid of 1/256 that TFLite gives it."""
    sink, depth = operation.sink.grid, operation.source.shape[-1]
    if not in_int8(operation) or (float(sink.scales[0]), int(sink.zero_points[0])) != (1 / 256, -128):
        return None
    scale = float(operation.option("beta")) * float(operation.source.grid.scales[0])
    mantissa, shift = multiplier(min(scale * 2.0 ** (31 - WHOLE), 2.0**31 - 1))
    least = -int((2**WHOLE - 1) * 2.0 ** (31 - WHOLE) / 2.0**shift)
    rows = operation.source.elements // depth
    made = routine("cmsis_softmax", f"Softmax of {rows} x {depth}.", "const int8_t *x, int8_t *y",
                   called("arm_softmax_s8", "x", rows, depth, mantissa, shift, least, "y"))
    return Kernel(made, (Input(), Output()))


def _alike(operation: Operation) -> bool:
    shapes = {operation.input(0).shape, operation.input(1).shape, operation.sink.shape}
    return in_int8(operation) and operation.input(1).dtype == "INT8" and len(shapes) == 1


def _pair(operation: Operation, name: str, body: Lines) -> Kernel:
    made = routine(f"cmsis_{name}", f"{name.capitalize()}, {shaped(operation.sink)}.", PAIR, body)
    return Kernel(made, (Input(0), Input(1), Output()), in_place=(0, 1))


def _after(operation: Operation, factor: float) -> tuple[int, ...]:
    """The arguments that follow the output's address, which both functions have."""
    sink = operation.sink
    return int(sink.grid.zero_points[0]), *multiplier(factor), *activation(operation), sink.elements


def _zero_point(operation: Operation, place: int) -> int:
    return -int(operation.input(place).grid.zero_points[0])
