"""Fixing the batch: a model exported with an open batch runs one sample at a time on a device."""

from __future__ import annotations

from edgeq.errors import ConfigError
from edgeq.graph.read import parse, unpack
from edgeq.graph.write import packed


def with_static_batch(content: bytes, origin: str) -> bytes:
    """The .tflite file `content` with its open batch closed at 1, written anew.

    The shapes in such a file are those of batch 1 already, and only `shape_signature` leaves the
    first dimension open, which the Edge TPU compiler and firmware refuse.
    Raises ConfigError where another dimension of an input is open.
    """
    graph = parse(content, origin)
    for entry in (graph.tensors[index] for index in graph.inputs):
        if any(size < 0 for size in entry.signature[1:]):
            raise ConfigError(f"{origin}: input {entry.name!r} has an open shape {list(entry.signature)}",
                              "export the model with all its dimensions fixed but the batch")
    model = unpack(content, origin)
    for tensor in (tensor for subgraph in model.subgraphs for tensor in subgraph.tensors):
        tensor.shapeSignature = None
    return packed(model)
