"""LOGISTIC, TANH, RELU, RELU6 and HARD_SWISH: for int8 tables, for int16 clamps and interpolation.

The one rule: int16 is symmetric, so only magnitudes are looked up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.arrays import Integers
from edgeq.errors import Refused
from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output
from edgeq.firmware.portable.lookup import lookup
from edgeq.firmware.portable.tables import hard_swish, relu, relu6, sigmoid, six, tanh
from edgeq.firmware.portable.text import Lines, function, loop, require_integers
from edgeq.graph import Quantization

Table = Callable[[Integers, Quantization, Quantization], Integers]
ALL = np.arange(-128, 128)
POINTS = 256  # sigmoids in TFLM's table, at i / 24
RAISED = 0x800000000000000000000000000000800011009020440005c0467baefa7bd110  # where that table is one above
NEAR = 1e-3  # how near to a power of two TFLM wants a scale's logarithm


def activation(table: Table, wide: Callable[[Operation], Kernel] | None) -> Callable[[Operation], Kernel]:
    """The generator for an operator: by `table` for int8, by `wide` for int16 where there is one."""

    def generator(operation: Operation) -> Kernel:
        kinds = ("INT8",) if wide is None else ("INT8", "INT16")
        dtype = require_integers(operation.source, operation.sink, among=kinds)
        if dtype == "INT16" and wide is not None:
            return wide(operation)
        return lookup(operation, table(ALL, *operation.grids))

    return generator


def _relu16(operation: Operation) -> Kernel:
    mantissa, shift = multiplier(float(operation.grids[0].scales[0]) / float(operation.grids[1].scales[0]))
    value = f"eq_scaled(x[i], {mantissa}, {shift})"
    return _each(operation, "RELU", [f"y[i] = (int16_t)eq_clamped({value}, 0, 32767);"])


def _relu6_16(operation: Operation) -> Kernel:
    high = six(operation.source.grid, "int16")
    return _each(operation, "RELU6", [f"y[i] = (int16_t)eq_clamped(x[i], 0, {high});"])


def _logistic16(operation: Operation) -> Kernel:
    _require_unit(operation)
    return _tabled(operation, ("LOGISTIC", 9), [
        "const int32_t curve = value < 0 ? (1 << 25) - 1 - result : result;",
        "y[i] = (int16_t)((curve + (1 << 9)) >> 10);"])


def _tanh16(operation: Operation) -> Kernel:
    _require_unit(operation)
    return _tabled(operation, ("TANH", 8), [
        "const int32_t curve = result - (1 << 23);",
        "y[i] = (int16_t)(((value < 0 ? -curve - 1 : curve) + (1 << 7)) >> 8);"])


def _tabled(operation: Operation, kind: tuple[str, int], ending: Lines) -> Kernel:
    """Interpolates between sigmoids at i / 24; an input has `bits` more than the table's index."""
    name, bits = kind
    factor, down = rescaling(float(operation.source.grid.scales[0]), 0 if name == "LOGISTIC" else 1)
    nudge = f" + {1 << (down - 1)}) >> {down}" if down else ")"
    most = f"{0x7FFF << 10}" if name == "LOGISTIC" else f"{0xFFFF << 8}"
    return _each(operation, name, [
        f"const int32_t value = (x[i] * {factor}{nudge};",
        "const int32_t size = value < 0 ? -value : value;",
        f"const int32_t at = size >> {bits};",
        f"int32_t result = {most};",
        "if (at < 255) {",
        "  const int32_t low = sigmoids[at];",
        f"  result = low * {1 << bits} + (size & {(1 << bits) - 1}) * (sigmoids[at + 1] - low);",
        "}",
        *ending], Constant("sigmoids", sigmoids().astype(np.uint16)))


def sigmoids() -> Integers:
    """1 / (1 + exp(-i / 24)) in 65536ths, as TFLite's sigmoid_table_uint16 has it (internal/common.h)."""
    rounded = np.round(65536 / (1 + np.exp(-np.arange(POINTS) / 24))).astype(np.int64)
    found: Integers = rounded + np.array([RAISED >> i & 1 for i in range(POINTS)])
    return found


def rescaling(scale: float, most: int) -> tuple[int, int]:
    """What brings an int16 input to 1 / (3 * 4096): a factor, and a shift downward.

    Scales of 2^-12, and up to 2^(most - 12), are powers of two to TFLM: they need no shift.
    """
    power = math.log2(scale)
    if abs(power - round(power)) < NEAR and 0 <= round(power) + 12 <= most:
        return 3 << (round(power) + 12), 0
    factor, down = scale * 4096 * 3, 0
    while factor <= 32767 / 2 and down <= 30:
        factor, down = factor * 2, down + 1
    if factor > 32767:
        raise Refused("its input has a scale above 2.6", "calibrate the model again")
    return int(factor), down


def _require_unit(operation: Operation) -> None:
    source, sink = operation.grids
    if source.zero_points[0] or sink.zero_points[0] or round(math.log2(float(sink.scales[0]))) != -15:
        raise Refused("its int16 grids are not around 0, or its output's is not 1/32768",
                      "use a symmetric int16x8 recipe")


def _each(operation: Operation, name: str, lines: Lines, *constants: Constant) -> Kernel:
    """The kernel that does `lines` for every i."""
    count = operation.source.elements
    taken = "".join(f", const uint16_t *{each.stem}" for each in constants)
    routine = function(f"{name.lower()}_int16", f"{name} of {count} values.",
                       f"const int16_t *x, int16_t *y{taken}", loop("i", count, lines))
    return Kernel(routine, (Input(), Output(), *constants), in_place=(0,))


ACTIVATIONS = {
    "HARD_SWISH": activation(hard_swish, None),
    "LOGISTIC": activation(sigmoid, _logistic16),
    "RELU": activation(relu, _relu16),
    "RELU6": activation(relu6, _relu6_16),
    "TANH": activation(tanh, _tanh16),
}
