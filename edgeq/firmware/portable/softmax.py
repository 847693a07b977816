"""SOFTMAX: for int8 the exponentials of all differences are a table, for int16 TFLM interpolates in two.

The one rule: a table ends where its exponentials no longer change a sum, nor make an output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.errors import Refused
from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output
from edgeq.firmware.portable.fixed_point import exponential, product
from edgeq.firmware.portable.text import TYPES, Lines, function, loop, plus
from edgeq.graph import Quantization

DIFFERENCE_BITS = 5  # integer bits of a difference
SUM_BITS = 12  # integer bits of a sum of exponentials
LEAST = 1 << (SUM_BITS - 1)  # from here on an exponential counts in a sum
GRIDS = {("INT8", "INT8"): (1 / 256, -128), ("INT8", "INT16"): (1 / 65536, -32768),
         ("INT16", "INT16"): (1 / 32768, 0)}
RECIPROCAL = """\
/* 1 / (1 + a) of a in [0, 1), both with 31 bits behind the point: three steps of Newton's method. */
static int32_t @NAME@_reciprocal(int32_t a) {
  const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
  int32_t found = 1515870810 + eq_doubling_high(half, -1010580540);
  for (int32_t i = 0; i < 3; i++) {
    const int32_t rest = (1 << 29) - eq_doubling_high(half, found);
    found += eq_doubling_high(found, rest) * 4;
  }
  return found > INT32_MAX / 2 ? INT32_MAX : found * 2;
}
"""
BETWEEN = """\
/* A value between two of the 513 points of a table over all int16. */
static int16_t @NAME@_between(const int16_t *table, int32_t at) {
  const int16_t *point = table + 256 + (at >> 7);
  return (int16_t)(point[0] + (((point[1] - point[0]) * (at & 127) + 64) >> 7));
}
"""


def softmax(operation: Operation) -> Kernel:
    """SOFTMAX of int8 to int8 or int16, or of int16, along the last axis."""
    pair = operation.source.dtype, operation.sink.dtype
    if pair not in GRIDS:
        raise Refused(f"it takes {pair[0]} to {pair[1]}", "use a full-integer int8 or int16x8 recipe")
    scale, zero_point = GRIDS[pair]
    sink = operation.sink.grid
    if abs(float(sink.scales[0]) / scale - 1) > 1e-3 or int(sink.zero_points[0]) != zero_point:
        raise Refused(f"its output is on a grid other than {scale} from {zero_point}",
                      "quantize the model by TFLiteConverter, which gives it that grid")
    return _short(operation) if pair[0] == "INT8" else _wide(operation)


def exponentials(source: Quantization, beta: float) -> Integers:
    """exp(-d * scale * beta) in Q0 for d = 0, 1, 2, …, as far as they count; at least one, at most 256."""
    factor = min(float(source.scales[0]) * beta * (1 << (31 - DIFFERENCE_BITS)), 2.0**31 - 1)
    mantissa, shift = multiplier(factor)
    radius = ((1 << DIFFERENCE_BITS) - 1) * (1 << (31 - DIFFERENCE_BITS)) // (1 << shift)
    differences = -np.arange(min(radius, 255) + 1)
    found = exponential(product(differences << shift, mantissa), DIFFERENCE_BITS)
    return found[found >= LEAST]


def _short(operation: Operation) -> Kernel:
    table = exponentials(operation.source.grid, float(operation.option("beta")))
    depth, kind = operation.source.shape[-1], TYPES[operation.sink.dtype]
    bits, limits = (8 if kind == "int8_t" else 16), np.iinfo(operation.sink.dtype.lower())
    share = "eq_rounding_shift(eq_doubling_high(scale, exponentials[d]), exponent)"
    row = [
        *_largest(depth),
        "int32_t sum = 0;",
        *loop("c", depth, [
            "const int32_t d = most - x[c];",
            f"sum += d < {table.size} ? eq_rounding_shift(exponentials[d], {SUM_BITS}) : 0;"]),
        "int32_t headroom = 0;",
        "uint32_t shifted = (uint32_t)sum;",
        "while ((shifted & 0x80000000u) == 0u) {", "  shifted <<= 1;", "  headroom++;", "}",
        "const int32_t scale = @NAME@_reciprocal((int32_t)(shifted - 0x80000000u));",
        f"const int32_t exponent = eq_clamped({SUM_BITS + 31 - bits} - headroom, 0, 31);",
        *loop("c", depth, [
            "const int32_t d = most - x[c];",
            f"const int32_t value = d < {table.size} ? {share} : 0;",
            f"y[c] = ({kind})eq_clamped(value{plus(limits.min)}, {limits.min}, {limits.max});"]),
    ]
    return _rows(operation, row, (Constant("exponentials", table.astype(np.int32)),), RECIPROCAL.splitlines())


def _wide(operation: Operation) -> Kernel:
    factor = float(operation.source.grid.scales[0]) * float(operation.option("beta")) / (10.0 / 65535.0)
    mantissa, shift = multiplier(factor)
    depth = operation.source.shape[-1]
    row = [
        *_largest(depth),
        "int32_t sum = 0;",
        *loop("c", depth, [
            f"const int32_t d = eq_scaled(x[c] - most, {mantissa}, {shift}) + 32767;",
            "y[c] = @NAME@_between(exponentials, eq_clamped(d, -32768, 32767));",
            "sum += y[c];"]),
        "int32_t headroom = 0;",
        "while (((uint32_t)sum << headroom & 0x80000000u) == 0u) {", "  headroom++;", "}",
        "const int32_t shifted = (int32_t)((((int64_t)sum << (headroom - 1)) + (1 << 13)) >> 14);",
        "const int32_t scale = @NAME@_between(reciprocals, eq_clamped(shifted - 98304, -32768, 32767));",
        "const int32_t down = 31 - headroom;",
        *loop("c", depth, [
            "const int32_t value = (int32_t)(((int64_t)y[c] * scale + (1 << (down - 1))) >> down);",
            "y[c] = (int16_t)eq_clamped(value, 0, 32767);"])]
    tables = (Constant("exponentials", interpolated((10 / 65535, 32767), math.exp)),
              Constant("reciprocals", interpolated((1 / 65535, -32768), lambda x: 1 / (1 + x))))
    return _rows(operation, row, tables, BETWEEN.splitlines())


def interpolated(grid: tuple[float, int], curve: Callable[[float], float]) -> Array:
    """The 513 points of a curve over an int16 input, biased as TFLite's LUTPopulate does in float32.

    `grid` is scale and zero point of the input; outputs are in 32768ths.
    """
    scale, zero_point = grid
    one = np.float32
    least, most = (one(one(scale) * one(limit - zero_point)) for limit in (-32768, 32767))
    step = one((most - least) / one(512))
    out = one(2 / 65535)
    inverse = one(one(65536) / (out * one(32767) - out * one(-32768)))
    starts = [one(least + one(i) * step) for i in range(513)]
    found = []
    for i in range(512):
        here, middle, after = (one(one(curve(float(at))) * inverse) for at in
                               (starts[i], one(starts[i] + step / one(2)), starts[i + 1]))
        between = _rounded(one((after + _rounded(here)) / one(2)))
        found.append(_rounded(here) - _rounded(one((between - _rounded(middle)) / one(2))))
    found.append(_rounded(one(one(curve(float(most))) * inverse)))
    return np.clip(np.array(found), -32768, 32767).astype(np.int16)


def _rounded(value: np.float32) -> np.float32:
    """Half away from zero."""
    return np.float32(math.copysign(math.floor(abs(float(value)) + 0.5), float(value)))


def _largest(depth: int) -> Lines:
    """The largest value of a row."""
    return ["int32_t most = x[0];", *loop("c", depth, ["most = x[c] > most ? x[c] : most;"], 1)]


def _rows(operation: Operation, row: Lines, tables: tuple[Constant, ...], before: Lines) -> Kernel:
    """The kernel that does `row` for every row along the last axis."""
    source, sink = operation.source, operation.sink
    depth, rows = source.shape[-1], source.elements // source.shape[-1]
    body = row if rows == 1 else loop("i", rows, [*row, f"x += {depth};", f"y += {depth};"])
    kinds = "".join(f", const {each.values.dtype.name}_t *{each.stem}" for each in tables)
    routine = function(f"softmax_{source.dtype.lower()}", f"Softmax of {rows} x {depth}.",
                       f"const {TYPES[source.dtype]} *x, {TYPES[sink.dtype]} *y{kinds}", body, before)
    return Kernel(routine, (Input(), Output(), *tables), in_place=(0,) if source.dtype == sink.dtype else ())
