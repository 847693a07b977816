"""How many bytes of parameters a compiled model keeps on the chip, and how many it is sent.

The layout was read off compiled files: it is exact where operators are convolutions, and knows
nothing of the small tables that reshapes and recurrent states add.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from edgeq.graph import Graph, Operator, Tensor
from edgeq.lint.rules import ParameterRules


def parameter_bytes(graph: Graph, mapped: Collection[int], rules: ParameterRules) -> int:
    """The bytes of the parameters of the `mapped` operators, as the compiler lays them out."""
    return sum(LAYOUTS[operator.name](graph, operator, rules)
               for operator in graph.operators if operator.index in mapped and operator.name in LAYOUTS)


def cached_and_streamed(total: int, usable: int) -> tuple[int, int]:
    """`total` bytes of parameters split into what stays on the chip and what is sent each time."""
    cached = min(total, usable)
    return cached, total - cached


def filter_bytes(outputs: int, taps: int, inputs: int, beside: int, rules: ParameterRules) -> int:
    """The bytes of a filter with `taps` = height * width places; a dense layer has one.

    channels(outputs) * (taps * round_up(inputs, input_step) + `beside` bytes a channel)
    """
    return channels(outputs, rules) * (taps * round_up(inputs, rules.input_step) + beside)


def channels(count: int, rules: ParameterRules) -> int:
    """`count` output channels, rounded up as the chip's columns want them."""
    return round_up(count, rules.narrow_step if count <= rules.narrow else rules.wide_step)


def round_up(count: int, step: int) -> int:
    """The least multiple of `step` that is not below `count`."""
    return -(-count // step) * step


def _convolution(graph: Graph, operator: Operator, rules: ParameterRules) -> int:
    """Filter (out, h, w, in)."""
    weights = _weights(graph, operator, rank=4)
    if weights is None:
        return 0
    outputs, height, width, inputs = weights.shape
    return filter_bytes(outputs, height * width, inputs, _beside(weights, rules), rules)


def _depthwise(graph: Graph, operator: Operator, rules: ParameterRules) -> int:
    """Filter (1, h, w, out): channels are not rounded, and every weight takes a word."""
    weights = _weights(graph, operator, rank=4)
    if weights is None:
        return 0
    _, height, width, outputs = weights.shape
    return outputs * (height * width * rules.depthwise_weight_bytes + _beside(weights, rules))


def _fully_connected(graph: Graph, operator: Operator, rules: ParameterRules) -> int:
    """Weights (out, in): a convolution with one tap."""
    weights = _weights(graph, operator, rank=2)
    if weights is None:
        return 0
    outputs, inputs = weights.shape
    return filter_bytes(outputs, 1, inputs, _beside(weights, rules), rules)


def _lstm(graph: Graph, operator: Operator, rules: ParameterRules) -> int:
    """Four gates, each with weights (units, in) and recurrent weights (units, units)."""
    weights = _weights(graph, operator, rank=2)
    if weights is None:
        return 0
    units, inputs = weights.shape
    step = rules.input_step
    row = round_up(inputs, step) + round_up(units, step) + rules.channel_bytes
    return 4 * channels(units, rules) * row


def _softmax(graph: Graph, operator: Operator, rules: ParameterRules) -> int:
    """A table a class."""
    shape = graph.outputs_of(operator)[0].shape
    return rules.softmax_class_bytes * shape[-1] if shape else 0


def _weights(graph: Graph, operator: Operator, rank: int) -> Tensor | None:
    weights = next(iter(graph.inputs_of(operator)[1:2]), None)
    return weights if weights and len(weights.shape) == rank else None


def _beside(weights: Tensor, rules: ParameterRules) -> int:
    """The bytes of a channel's bias and, where the scales differ, of its scale."""
    per_channel = weights.quantization is not None and weights.quantization.per_channel
    return rules.channel_bytes_per_channel if per_channel else rules.channel_bytes


LAYOUTS: Mapping[str, Callable[[Graph, Operator, ParameterRules], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "SOFTMAX": _softmax,
    "TRANSPOSE_CONV": _convolution,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
