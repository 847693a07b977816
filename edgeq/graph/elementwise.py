"""Sums and products of a float graph, written so that more can be done with them; the values stay.

TFLiteConverter makes NEG of Keras's LayerNormalization and SQUARE of its RMSNormalization:
litert-quantizer leaves both in float, and TensorFlow Lite Micro has no int8 kernels for them. And it
lets operators read one constant where several have the same values.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np

from edgeq.graph.edit import add_constant
from edgeq.graph.read import enumeration, unpack
from edgeq.graph.write import packed

NEGATED, SQUARED = "NEG", "SQUARE"
SUMS_AND_PRODUCTS = ("ADD", "MUL", "SUB")


def with_integer_kernels(content: bytes, origin: str = "the model") -> bytes:
    """The float model `content` with x * -1 for NEG and x * x for SQUARE: the same values to the bit.

    Operators and tensors stay in their places; a model without them comes back as it is.
    """
    model = unpack(content, origin)
    graph = model.subgraphs[0]
    found = [(operator, kind) for operator, kind in zip(graph.operators, _kinds(model), strict=True)
             if kind in (NEGATED, SQUARED) and _is_float(graph, operator)]
    if not found:
        return content
    product = _code_of_mul(model)
    for operator, kind in found:
        value, sink = int(operator.inputs[0]), graph.tensors[operator.outputs[0]]
        minus = np.array(-1, np.float32)
        factor = add_constant(model, sink, b"/minus", minus) if kind == NEGATED else value
        _multiply(operator, product, (value, factor))
    return packed(model)


def with_own_factors(content: bytes, origin: str = "the model") -> bytes:
    """The float model `content`, the constants of each sum and product read by nothing else.

    One that others read too is written out for each; numbers, which stand for all channels, are not.
    """
    model = unpack(content, origin)
    graph = model.subgraphs[0]
    left = Counter(int(index) for operator in graph.operators for index in set(operator.inputs))
    for operator, kind in zip(graph.operators, _kinds(model), strict=True):
        for place, index in enumerate(operator.inputs if kind in SUMS_AND_PRODUCTS else ()):
            if left[int(index)] > 1 and _has_channels(model, graph.tensors[index]):
                left[int(index)] -= 1
                graph.tensors.append(copy.copy(graph.tensors[index]))
                graph.tensors[-1].name = b"%s/%d" % (graph.tensors[index].name, len(graph.tensors) - 1)
                operator.inputs = operator.inputs.copy()
                operator.inputs[place] = len(graph.tensors) - 1
    return packed(model)


def _kinds(model: Any) -> list[str]:
    """The name of each operator."""
    names = enumeration("BuiltinOperator")
    return [names[model.operatorCodes[each.opcodeIndex].builtinCode]
            for each in model.subgraphs[0].operators]


def _has_channels(model: Any, tensor: Any) -> bool:
    """Whether it is a constant that is more than one number along its last axis."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0 and len(tensor.shape) > 0 and tensor.shape[-1] > 1


def _is_float(graph: Any, operator: Any) -> bool:
    return enumeration("TensorType")[graph.tensors[operator.outputs[0]].type] == "FLOAT32"


def _code_of_mul(model: Any) -> int:
    """The place of a new operator code, that of MUL."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _multiply(operator: Any, code: int, inputs: tuple[int, int]) -> None:
    """Make `operator` the product of two tensors."""
    from ai_edge_litert import schema_py_generated as schema

    operator.opcodeIndex, operator.inputs = code, np.asarray(inputs, np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
    operator.builtinOptions = schema.MulOptionsT()
