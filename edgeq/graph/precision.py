"""Whether a graph is what its recipe promised: integers throughout, of the width promised."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.graph.model import Graph, Operator, Tensor

PLAIN = frozenset({"INT32", "INT64", "BOOL"})  # indices, shapes and biases: integers by nature
BORDER = frozenset({"QUANTIZE", "DEQUANTIZE"})


def not_integer(graph: Graph, activation: str, ends: tuple[str, str]) -> Iterator[str]:
    """What in `graph` is not full-integer with `activation` (INT8 or INT16), a sentence each.

    Weights are INT8 (INT4 too), biases INT32 or INT64, activations `activation`. `ends` are the
    types of the model's own inputs and outputs; where they differ from `activation`, a QUANTIZE
    or DEQUANTIZE at the border may touch them, and nothing else.
    """
    expected = {**dict.fromkeys(graph.inputs, ends[0]), **dict.fromkeys(graph.outputs, ends[1])}
    for index, wanted in expected.items():
        tensor = graph.tensors[index]
        if tensor.dtype != wanted:
            yield f"{tensor.name!r}, an end of the model, is {tensor.dtype}, not {wanted}"
    for operator in graph.operators:
        for tensor in (*graph.present_inputs_of(operator), *graph.outputs_of(operator)):
            at_border = operator.name in BORDER and tensor.index in expected
            if not at_border and not _allowed(tensor, activation):
                yield _complaint(operator, tensor)


def _allowed(tensor: Tensor, activation: str) -> bool:
    if tensor.dtype in PLAIN:
        return True
    kinds = (activation, "INT8", "INT4") if tensor.constant else (activation,)
    return tensor.dtype in kinds and tensor.quantization is not None


def _complaint(operator: Operator, tensor: Tensor) -> str:
    state = "" if tensor.quantization else " without a scale"
    return f"operator {operator.index} {operator.name} has {tensor.name!r} in {tensor.dtype}{state}"
