"""Functions of one 8-bit value, by one routine for them all: a table of what each of the 256 becomes."""

from __future__ import annotations

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import TYPES, function, loop


def lookup(operation: Operation, table: Array) -> Kernel:
    """The kernel that replaces every value by that of `table`, which begins with the value -128, or 0."""
    source, sink = TYPES[operation.source.dtype], TYPES[operation.sink.dtype]
    index = "x[i] + 128" if source == "int8_t" else "x[i]"
    what = f"A table for each of {operation.source.elements} values."
    routine = function("lookup", what, f"const {source} *x, {sink} *y, const {sink} *table",
                       loop("i", operation.source.elements, [f"y[i] = table[{index}];"]))
    values = np.ascontiguousarray(table).astype(operation.sink.dtype.lower())
    wider = values.itemsize > 1
    return Kernel(routine, (Input(), Output(), Constant("table", values)), in_place=() if wider else (0,))
