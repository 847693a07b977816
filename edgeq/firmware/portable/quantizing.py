"""QUANTIZE and DEQUANTIZE: from one grid to another, and between grids and real numbers.

The one rule: real numbers are float, in the order of TFLite's operations, as each of them rounds.
"""

from __future__ import annotations

import numpy as np

from edgeq.errors import Refused
from edgeq.firmware.arithmetic import multiplier
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.lookup import lookup
from edgeq.firmware.portable.tables import requantized
from edgeq.firmware.portable.text import TYPES, Lines, function, loop, plus

BYTES = ("INT8", "UINT8")
FAR = 131072.0  # beyond every 16-bit grid, and safe to be made an integer


def quantize(operation: Operation) -> Kernel:
    """QUANTIZE of float, int8, uint8 or int16 to int8, uint8 or int16, as far as TFLM has it."""
    pair = operation.source.dtype, operation.sink.dtype
    if pair in (("INT8", "INT8"), ("UINT8", "INT8"), ("INT8", "UINT8")):
        first = int(np.iinfo(pair[0].lower()).min)
        values = np.arange(first, first + 256)
        return lookup(operation, requantized(values, *operation.grids, pair[1].lower()))
    if pair[0] == "FLOAT32" and pair[1] in ("INT8", "INT16"):
        return _each(operation, _from_float(operation))
    if pair in (("INT8", "INT16"), ("INT16", "INT8"), ("INT16", "INT16")):
        return _each(operation, _regridded(operation), in_place=pair[0] == "INT16")
    raise Refused(f"it takes {pair[0]} to {pair[1]}", "quantize inputs and outputs as int8 or int16")


def dequantize(operation: Operation) -> Kernel:
    """DEQUANTIZE of int8 or int16 to float."""
    pair = operation.source.dtype, operation.sink.dtype
    if pair[0] not in ("INT8", "INT16") or pair[1] != "FLOAT32":
        raise Refused(f"it takes {pair[0]} to {pair[1]}", "use a full-integer int8 or int16x8 recipe")
    grid = operation.source.grid
    centred = f"x[i]{plus(-int(grid.zero_points[0]))}"
    return _each(operation, [f"y[i] = {_float(grid.scales[0])} * (float)({centred});"])


def _regridded(operation: Operation) -> Lines:
    source, sink = operation.grids
    mantissa, shift = multiplier(float(source.scales[0]) / float(sink.scales[0]))
    limits, kind = np.iinfo(operation.sink.dtype.lower()), TYPES[operation.sink.dtype]
    value = (f"eq_scaled(x[i]{plus(-int(source.zero_points[0]))}, {mantissa}, {shift})"
             f"{plus(int(sink.zero_points[0]))}")
    return [f"y[i] = ({kind})eq_clamped({value}, {limits.min}, {limits.max});"]


def _from_float(operation: Operation) -> Lines:
    """Rounds half away from zero without the C library: adding a half to a float may round up."""
    grid, kind = operation.sink.grid, TYPES[operation.sink.dtype]
    limits = np.iinfo(operation.sink.dtype.lower())
    return [f"float value = x[i] / {_float(grid.scales[0])};",
            f"value = value < -{FAR}f ? -{FAR}f : (value > {FAR}f ? {FAR}f : value);",
            "int32_t whole = (int32_t)value;",
            "const float rest = value - (float)whole;",
            "whole += rest >= 0.5f ? 1 : (rest <= -0.5f ? -1 : 0);",
            f"y[i] = ({kind})eq_clamped(whole{plus(int(grid.zero_points[0]))}, {limits.min}, {limits.max});"]


def _float(value: np.float32) -> str:
    """A float as C reads it back to the bit."""
    return f"{float(value):.8e}f"


def _each(operation: Operation, lines: Lines, *, in_place: bool = False) -> Kernel:
    source, sink = operation.source, operation.sink
    what = f"{source.dtype} to {sink.dtype}, {source.elements} values."
    parameters = f"const {TYPES[source.dtype]} *x, {TYPES[sink.dtype]} *y"
    routine = function(f"{operation.name.lower()}_{source.dtype.lower()}", what, parameters,
                       loop("i", source.elements, lines))
    return Kernel(routine, (Input(), Output()), in_place=(0,) if in_place else ())
