"""What every operator of a .tflite leaves: by two interpreters, and as firmware writes it down.

A trace has, for each tensor that an operator writes, its values for all samples: (n, *shape), of the
tensor's own type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import ToolError
from edgeq.graph import Graph, read
from edgeq.interpret import litert, said_by_tflm, tflm

Trace = Mapping[int, Array]
HEAD = struct.Struct("<II")  # the tensor, and how many bytes follow


def litert_trace(model: Path, given: Array) -> Trace:
    """The trace of LiteRT's reference kernels for `given` (n, *shape), of the model's own type."""
    graph = read(model)
    interpreter = litert(model, "reference", keep_all=True)

    def infer(sample: Array) -> None:
        interpreter.set_tensor(graph.inputs[0], sample)
        interpreter.invoke()

    return _taken(graph, given, infer, interpreter.get_tensor)


def tflm_trace(model: Path, given: Array) -> Trace:
    """The trace of TensorFlow Lite Micro's reference kernels; Refused where it lacks an operator."""
    interpreter = tflm(model, keep_all=True)

    def infer(sample: Array) -> None:
        interpreter.set_input(sample, 0)
        interpreter.invoke()

    with said_by_tflm():
        return _taken(read(model), given, infer,
                      lambda tensor: interpreter.GetTensor(tensor, 0)["tensor_data"])


def written_trace(graph: Graph, count: int, content: bytes) -> Trace:
    """The trace in `content`, as the firmware and the host build write it of `count` samples.

    Raises ToolError where it is cut short or of another model.
    """
    taken: dict[int, list[Array]] = {}
    place = 0
    while place < len(content):
        tensor, size = HEAD.unpack_from(content, place)
        place += HEAD.size
        found = graph.tensors[tensor]
        values = np.frombuffer(content[place: place + size], np.dtype(found.dtype.lower()))
        taken.setdefault(tensor, []).append(values.reshape(found.shape))
        place += size
    if any(len(values) != count for values in taken.values()):
        raise ToolError("a trace does not hold what every operator left of every sample",
                        "the firmware was built for another model, or ended early")
    return {tensor: np.stack(values) for tensor, values in taken.items()}


def _taken(
    graph: Graph, given: Array, infer: Callable[[Array], None], get: Callable[[int], Array]
) -> Trace:
    written = [tensor for operator in graph.operators for tensor in operator.outputs]
    taken: dict[int, list[Array]] = {tensor: [] for tensor in written}
    for sample in given:
        infer(sample)
        for tensor, values in taken.items():
            values.append(np.array(get(tensor)).reshape(graph.tensors[tensor].shape))
    return {tensor: np.stack(values) for tensor, values in taken.items()}
