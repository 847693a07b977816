"""Functions of one int8 value: sixteen at a time, gathered from a table of what each of the 256 becomes.

The one rule: the tables are those of the portable kernels, so both give the same.
"""

from __future__ import annotations

import numpy as np

from edgeq.firmware.assembly import function, label
from edgeq.firmware.kernel import Constant, Generator, Input, Kernel, Operation, Output, Routine
from edgeq.firmware.portable.activations import ALL, Table
from edgeq.firmware.portable.tables import requantized

PARAMETERS = "const int8_t *in, int8_t *out, const int8_t *table"


def tabled(table: Table) -> Generator:
    """The generator for an operator whose values are those of `table`; for int8 at both ends."""

    def generator(operation: Operation) -> Kernel | None:
        if operation.source.dtype != "INT8" or operation.sink.dtype != "INT8":
            return None
        values = np.ascontiguousarray(table(ALL, *operation.grids)).astype(np.int8)
        routine = Routine("lookup", PARAMETERS, assembly=_text(operation.source.elements))
        return Kernel(routine, (Input(), Output(), Constant("table", values)), in_place=(0,))

    return generator


def quantize(operation: Operation) -> Kernel | None:
    """QUANTIZE from int8 to int8."""
    return tabled(lambda values, source, sink: requantized(values, source, sink, "int8"))(operation)


def _text(count: int) -> str:
    """A loop of vectors with a tail, which the core cuts off by itself."""
    loop = label("look")
    return function((
        "push {r4, lr}", "movs r3, #128", "vdup.8 q1, r3", f"ldr r3, ={count}", "dlstp.8 lr, r3", f"{loop}:",
        "vldrb.u8 q0, [r0], #16", "veor q0, q0, q1", "vldrb.u8 q2, [r2, q0]", "vstrb.8 q2, [r1], #16",
        f"letp lr, {loop}", "pop {r4, pc}"))
