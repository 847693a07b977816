"""Reading a .tflite file into a Graph, with the schema code that ai-edge-litert brings.

A file that is no model, or a model cut short, is a ConfigError: the generated code does not
verify what it reads, so every way in which it can stumble is caught here and nowhere else.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import ConfigError
from edgeq.graph.model import Graph, Operator, Quantization, Tensor

IDENTIFIER = b"TFL3"
STUMBLES = (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
            MemoryError)


def read(path: Path) -> Graph:
    """The graph in the file at `path`; ConfigError where there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "name a .tflite file") from error
    return parse(content, str(path))


@functools.lru_cache(maxsize=8)
def parse(content: bytes, origin: str) -> Graph:
    """The graph in `content`, the bytes of a .tflite file; `origin` names it in errors."""
    model = unpacked(content, origin)
    try:
        graph = _graph(model)
        _check_indices(graph)
    except STUMBLES as error:
        raise _damaged(origin, len(content)) from error
    return graph


@functools.lru_cache(maxsize=8)
def unpacked(content: bytes, origin: str) -> Any:
    """What `unpack` gives, for those who leave it as it is: it is slow, and shared by all who ask."""
    return unpack(content, origin)


def unpack(content: bytes, origin: str) -> Any:
    """The schema's own mutable ModelT of `content`, for what edits and writes graphs.

    What writers put in one of two places is in the usual one: codes and data (write.py). What has
    no name has an empty one.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != IDENTIFIER:
        what = "is empty" if not content else "is not a .tflite file"
        raise ConfigError(f"{origin} {what}", "a .tflite file has the letters TFL3 at its byte 4")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        _settle(model, content)
    except STUMBLES as error:
        raise _damaged(origin, len(content)) from error
    return model


def _settle(model: Any, content: bytes) -> None:
    model.signatureDefs = _all(model.signatureDefs)
    for code in _all(model.operatorCodes):
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    for tensor in (tensor for graph in _all(model.subgraphs) for tensor in _all(graph.tensors)):
        tensor.name = tensor.name or b""
    for buffer in _all(model.buffers):
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def _damaged(origin: str, size: int) -> ConfigError:
    return ConfigError(f"{origin} is damaged or cut short ({size} bytes)",
                       "make or download it again")


def _graph(model: Any) -> Graph:
    main = model.subgraphs[0]
    return Graph(
        operators=tuple(_operator(i, op, model.operatorCodes[op.opcodeIndex])
                        for i, op in enumerate(_all(main.operators))),
        tensors=tuple(_tensor(i, tensor, model.buffers) for i, tensor in enumerate(main.tensors)),
        inputs=_integers(main.inputs),
        outputs=_integers(main.outputs),
        subgraphs=len(model.subgraphs),
        description=_text(model.description),
        signature_keys=tuple(_text(s.signatureKey) for s in _all(model.signatureDefs)),
    )


def _check_indices(graph: Graph) -> None:
    """Raise IndexError where something names a tensor that is not there."""
    named = {*graph.inputs, *graph.outputs, *(i for op in graph.operators for i in op.outputs)}
    optional = {i for op in graph.operators for i in op.inputs} - {-1}
    if not named | optional <= {*range(len(graph.tensors))}:
        raise IndexError


def _operator(index: int, operator: Any, code: Any) -> Operator:
    options = operator.builtinOptions or operator.builtinOptions2
    builtin = enumeration("BuiltinOperator")[code.builtinCode]
    return Operator(
        index=index,
        name=f"CUSTOM:{_text(code.customCode)}" if code.customCode else builtin,
        version=code.version,
        inputs=_integers(operator.inputs),
        outputs=_integers(operator.outputs),
        options=dict(vars(options)) if options else {},
    )


def _tensor(index: int, tensor: Any, buffers: Any) -> Tensor:
    data = buffers[tensor.buffer].data
    shape = _integers(tensor.shape)
    return Tensor(
        index=index,
        name=_text(tensor.name),
        shape=shape,
        signature=_integers(tensor.shapeSignature) or shape,
        dtype=enumeration("TensorType")[tensor.type],
        quantization=_quantization(tensor.quantization),
        data=None if data is None or len(data) == 0 else np.asarray(data, np.uint8),
        variable=bool(tensor.isVariable),
    )


def _quantization(quantization: Any) -> Quantization | None:
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None
    scales = np.asarray(quantization.scale, np.float32)
    points = quantization.zeroPoint
    zeros = np.zeros(scales.size, np.int64) if points is None else np.asarray(points, np.int64)
    return Quantization(scales, zeros, int(quantization.quantizedDimension))


def enumeration(name: str) -> dict[int, str]:
    """The members of an enumeration of schema.fbs: value -> name."""
    from ai_edge_litert import schema_py_generated as schema

    members = vars(getattr(schema, name))
    return {value: member for member, value in members.items() if isinstance(value, int)}


def _integers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _all(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
