"""FULLY_CONNECTED: every output is the sum over one whole row of the input."""

from __future__ import annotations

from edgeq.errors import Refused
from edgeq.firmware.kernel import Input, Kernel, Operation, Output
from edgeq.firmware.portable.scaling import Layer, block_of, sums, weights_of
from edgeq.firmware.portable.text import c_type, function, loop, plus, require_integers


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
    found = sums(layer)
    parameters = (f"const {c_type(operation.source)} *x, {c_type(operation.sink)} *y, const int8_t *weights, "
                  f"{found.parameters}")
    block = block_of(outputs)
    begin = ["const int8_t *row = weights;", "const int32_t *channel = channels;"]
    one = [*begin, *loop("c", outputs // block, [
        *found.begun(block),
        *loop("k", inputs, ["const int32_t value = x[k];", *(
            f"sum{each} += value * row[k{plus(each * inputs)}];" for each in range(block))]),
        *found.finished(block),
        f"row += {block * inputs};"])]
    body = one if rows == 1 else loop("i", rows, [*one, f"x += {inputs};"])
    routine = function(f"dense_{kind.lower()}", f"Dense layer: {rows} x {inputs} -> {rows} x {outputs}.",
                       parameters, body, found.finish())
    return Kernel(routine, (Input(), Output(), Input(1), *found.constants))
