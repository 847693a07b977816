"""Fixing the batch: a model exported with an open batch runs one sample at a time on a device."""

from __future__ import annotations

from edgeq.errors import ConfigError
from edgeq.graph.read import IDENTIFIER, unpack


def with_static_batch(content: bytes, origin: str) -> bytes:
    """The .tflite file `content` with its open batch closed at 1; as it is where none is open.

    The shapes in such a file are those of batch 1 already, and only `shape_signature` leaves the
    first dimension open, which the Edge TPU compiler and firmware refuse.
    Raises ConfigError where another dimension of an input is open.
    """
    import flatbuffers

    model = unpack(content, origin)
    main = model.subgraphs[0]
    for index in main.inputs:
        signature = main.tensors[index].shapeSignature
        if signature is not None and (signature[1:] < 0).any():
            name = main.tensors[index].name.decode("utf-8", "replace")
            raise ConfigError(f"{origin}: input {name!r} has an open shape {signature.tolist()}",
                              "export the model with all its dimensions fixed but the batch")
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    if all(tensor.shapeSignature is None for tensor in tensors):
        return content
    for tensor in tensors:
        tensor.shapeSignature = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
