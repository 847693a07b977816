"""What can be counted in the graph of an exported program: multiply-accumulates, and operators by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

from edgeq.exported.promise import name_of

UNCOUNTED = ("getitem", "executorch_call_delegate", "_to_dim_order_copy")


def macs(graph: Any) -> int:
    """The multiply-accumulates of an inference: of layers with weights, and of products of activations."""
    return sum(COUNTS[name](node) for node in graph.nodes if (name := name_of(node)) in COUNTS)


def operators(graph: Any) -> Mapping[str, int]:
    """How many operators of each kind a lowered `graph` has; what quantizes, hands on or calls is none."""
    return Counter(sorted(_named(graph)))


def _named(graph: Any) -> Iterator[str]:
    for node in graph.nodes:
        kind = kind_of(node)
        if kind and "quantize" not in kind and kind not in UNCOUNTED:
            yield kind


def kind_of(node: Any) -> str:
    """`convolution` of a call of the edge operator aten.convolution.default; "" of what is no call."""
    if node.op != "call_function":
        return ""
    words = str(getattr(node.target, "__name__", node.target)).split("::")[-1].split(".")
    return words[-2] if len(words) > 1 else words[0]


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _by_weights(node: Any) -> int:
    return prod(_shape(node)) * prod(_shape(node.args[1])[1:])


def _by_inputs(node: Any) -> int:
    return prod(_shape(node.args[0])) * prod(_shape(node.args[1])[1:])


def _product(node: Any) -> int:
    return prod(_shape(node)) * _shape(node.args[0])[-1]


def _added_product(node: Any) -> int:
    return prod(_shape(node)) * _shape(node.args[1])[-1]


def _attention(node: Any) -> int:
    return 2 * prod(_shape(node.args[0])) * _shape(node.args[1])[-2]


COUNTS: Mapping[str, Callable[[Any], int]] = {
    "conv1d": _by_weights, "conv2d": _by_weights, "conv3d": _by_weights, "convolution": _by_weights,
    "conv_transpose1d": _by_inputs, "conv_transpose2d": _by_inputs,
    "linear": _by_weights, "matmul": _product, "mm": _product, "bmm": _product,
    "addmm": _added_product, "baddbmm": _added_product, "scaled_dot_product_attention": _attention,
}
