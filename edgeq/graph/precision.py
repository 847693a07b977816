"""Whether a graph is what its recipe promised: integers throughout, of the width promised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeq.graph.model import Graph, Operator, Tensor

PLAIN = frozenset({"INT32", "INT64", "BOOL"})  # indices, shapes and biases: integers by nature
BORDER = frozenset({"QUANTIZE", "DEQUANTIZE"})
NONE: Mapping[str, str] = {}


def not_integer(
    graph: Graph, activation: str, ends: tuple[str, str], kept: Mapping[str, str] = NONE
) -> Iterator[str]:
    """What in `graph` is not full-integer with `activation` (INT8 or INT16), a sentence each.

    Weights are INT8 (INT4 too), biases INT32 or INT64, activations `activation`. `ends` are the
    types of the model's own inputs and outputs; where they differ from `activation`, a QUANTIZE
    or DEQUANTIZE at the border may touch them, and nothing else. `kept` are the operators that are
    something else (FLOAT32, or INT16 with weights of INT8): type by the name of what one writes;
    they have borders, too.
    """
    expected = {**dict.fromkeys(graph.inputs, ends[0]), **dict.fromkeys(graph.outputs, ends[1])}
    yield from _wrong_ends(graph, expected)
    precise = {operator.index: kind for operator in graph.operators if (kind := _kind(graph, operator, kept))}
    beside = {*expected, *(i for place in precise for i in _touched(graph.operators[place]))}
    for operator in graph.operators:
        at_border = beside if operator.name in BORDER else ()
        for index in dict.fromkeys(_touched(operator)):
            tensor = graph.tensors[index]
            if index not in at_border and not _allowed(tensor, precise.get(operator.index, activation)):
                yield _complaint(operator, tensor)


def _wrong_ends(graph: Graph, expected: Mapping[int, str]) -> Iterator[str]:
    for index, wanted in expected.items():
        tensor = graph.tensors[index]
        if tensor.dtype != wanted:
            yield f"{tensor.name!r}, an end of the model, is {tensor.dtype}, not {wanted}"


def _kind(graph: Graph, operator: Operator, kept: Mapping[str, str]) -> str | None:
    """The type of an operator that is kept, else None."""
    return next((kept[tensor.name] for tensor in graph.outputs_of(operator) if tensor.name in kept), None)


def _touched(operator: Operator) -> list[int]:
    """The tensors that an operator reads and writes."""
    return [index for index in (*operator.inputs, *operator.outputs) if index >= 0]


def _allowed(tensor: Tensor, activation: str) -> bool:
    if tensor.dtype in PLAIN or tensor.dtype == activation == "FLOAT32":
        return True
    kinds = (activation, "INT8", "INT4") if tensor.constant else (activation,)
    return tensor.dtype in kinds and tensor.quantization is not None


def _complaint(operator: Operator, tensor: Tensor) -> str:
    state = "" if tensor.quantization else " without a scale"
    return f"operator {operator.index} {operator.name} has {tensor.name!r} in {tensor.dtype}{state}"
