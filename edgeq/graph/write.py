"""Writing a .tflite file, in the form that every reader of the format understands."""

from __future__ import annotations

from typing import Any

from edgeq.graph.read import IDENTIFIER, unpack


def packed(model: Any) -> bytes:
    """The file of `model`, the schema's own mutable ModelT."""
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def settled(content: bytes, origin: str) -> bytes:
    """The .tflite file `content` with all its data inside the flatbuffer, and its codes spelled out.

    litert-quantizer appends large buffers to the file, where TensorFlow Lite Micro does not look and
    reckons with nothing. It wants a list of signatures, and operator codes where files from before
    2020 have none.
    """
    return packed(unpack(content, origin))
