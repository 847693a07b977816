"""FULLY_CONNECTED: every output is the sum over one whole row of the input."""

from __future__ import annotations

from edgeq.errors import Refused
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.scaling import Layer, shared_factors, sums, weights_of
from edgeq.firmware.portable.text import c_type, function, loop, require_integers


def dense(operation: Operation) -> Kernel:
    """FULLY_CONNECTED of int8, or of int16 by int8, over any number of rows."""
    kind = require_integers(operation.source, operation.sink)
    weights = weights_of(operation, 1)
    outputs, inputs = weights.shape
    rows, rest = divmod(operation.source.elements, inputs)
    if rest:
        raise Refused(f"its weights take rows of {inputs}, its input has {operation.source.elements} values",
                      "export the model again")
    layer = Layer(operation, weights, complete=True)
    found = sums(layer, shared_factors(layer))
    parameters = (f"const {c_type(operation.source)} *x, {c_type(operation.sink)} *y, const int8_t *weights, "
                  f"{found.parameters}")
    one = ["const int8_t *row = weights;", *found.start(), *loop("c", outputs, [
        f"{found.kind} sum = {found.whole};",
        *loop("k", inputs, ["sum += x[k] * row[k];"]),
        f"*y++ = {found.finish};",
        f"row += {inputs};",
        *found.next()])]
    body = one if rows == 1 else loop("i", rows, [*one, f"x += {inputs};"])
    routine = function(f"dense_{kind.lower()}", f"Dense layer: {rows} x {inputs} -> {rows} x {outputs}.",
                       parameters, body)
    return Kernel(routine, (Input(), Output(), Input(1), *found.constants))
