"""Multiply-accumulates an inference, by the usual count: one a weight and output it reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.graph.model import Graph, Operator


def macs(graph: Graph, only: Operator | None = None) -> int:
    """The multiply-accumulates of one inference, or of `only` one operator in it.

    Element-wise work is not counted.
    """
    counted = (only,) if only else graph.operators
    return sum(COUNTS[op.name](graph, op) for op in counted if op.name in COUNTS)


def _convolution(graph: Graph, operator: Operator) -> int:
    """Filter (out, h, w, in): every output element sums h * w * in products."""
    weights = graph.inputs_of(operator)[1]
    if weights is None:
        return 0
    _, height, width, channels = weights.shape
    return graph.outputs_of(operator)[0].elements * height * width * channels


def _depthwise(graph: Graph, operator: Operator) -> int:
    """Filter (1, h, w, out): every output element sums h * w products."""
    weights = graph.inputs_of(operator)[1]
    if weights is None:
        return 0
    _, height, width, _ = weights.shape
    return graph.outputs_of(operator)[0].elements * height * width


def _fully_connected(graph: Graph, operator: Operator) -> int:
    """Weights (out, in): every output element sums `in` products."""
    weights = graph.inputs_of(operator)[1]
    return graph.outputs_of(operator)[0].elements * weights.shape[-1] if weights else 0


def _transposed(graph: Graph, operator: Operator) -> int:
    """Filter (out, h, w, in) over the input: every input element meets out * h * w weights."""
    _, weights, values, *_ = graph.inputs_of(operator)
    if weights is None or values is None:
        return 0
    outputs, height, width, _ = weights.shape
    return values.elements * outputs * height * width


COUNTS: Mapping[str, Callable[[Graph, Operator], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
}
