"""Whether all that computes a model computes the same, bit for bit: the host build, TFLM, and a firmware.

The one rule: an output that only one of them gives counts for nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import Refused, ToolError
from edgeq.firmware.hosted import hosted
from edgeq.graph import read
from edgeq.interpret import tflm_outputs
from edgeq.program import HOST, runnable_in


def agreed(program: Path, given: Array) -> tuple[Array, bool]:
    """The outputs of the host build of `program` for all of `given`, and whether TFLM took the model, too.

    Raises ToolError where it took it and computes anything else.
    """
    model = runnable_in(program)
    made = hosted(program / HOST / HOST, given.tobytes()).outputs
    try:
        wanted, _ = tflm_outputs(model, given)
    except Refused:
        sink = read(model).tensors[read(model).outputs[0]]
        outputs = np.frombuffer(made, np.dtype(sink.dtype.lower()))
        return outputs.reshape(len(given), *sink.shape[1:]), False
    see_same("the host build", np.frombuffer(made, wanted.dtype), wanted)
    return wanted, True


def see_same(who: str, found: Array, wanted: Array) -> None:
    """Raise ToolError where `found` is not `wanted`, with the first sample that differs."""
    different = (found.reshape(wanted.shape) != wanted).reshape(len(wanted), -1).any(1)
    if different.any():
        raise ToolError(
            f"{who} computes something else than TensorFlow Lite Micro for {different.sum()} of "
            f"{len(wanted)} samples, the first of them number {int(different.argmax())}",
            "`edgeq parity` names the first operator that differs; this is a bug of edgeq or a compiler")


def spread(found: int, count: int) -> Array:
    """`count` of `found` samples by their numbers, spread over all; all of them where there are no more."""
    return np.unique(np.linspace(0, found - 1, min(found, count)).round().astype(int))
