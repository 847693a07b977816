"""Whether a quantized graph is what was promised: every layer with weights computes on integers.

Quantizers silently leave in float what they have no pattern for, so what they made is looked through
before anything else sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.errors import Refused

WEIGHTED = ("conv1d", "conv2d", "conv3d", "convolution", "linear", "conv_transpose1d", "conv_transpose2d",
            "addmm", "embedding")
PRODUCTS = ("matmul", "bmm", "mm", "baddbmm", "scaled_dot_product_attention")
PASSING = ("view", "reshape", "_unsafe_view", "flatten", "permute", "transpose", "t", "unsqueeze",
           "squeeze", "expand", "slice", "select", "clone", "contiguous", "alias", "detach", "pad",
           "constant_pad_nd", "to", "split", "chunk", "getitem", "dropout", "unflatten", "unbind", "repeat")

INTEGERS: Mapping[str, Collection[str]] = {"xnnpack": (
    "add", "mul", "sub", "cat", "adaptive_avg_pool2d", "mean", "relu", "relu_", "relu6", "hardtanh",
    "hardtanh_", "max_pool2d", "avg_pool2d", "clamp")}


@dataclass(frozen=True)
class Layers:
    """How many layers with weights are on integers, and the names of the operators that are in float."""

    quantized: int
    weighted_in_float: tuple[str, ...]
    others_in_float: tuple[str, ...]

    def told(self) -> str:
        """The operators without weights that stay in float, with their numbers; "" where there are none."""
        counts = Counter(self.others_in_float)
        return ", ".join(f"{count} {name}" if count > 1 else name for name, count in sorted(counts.items()))


def layers(graph: Any, scheme: str = "") -> Layers:
    """What of the operators of `graph`, a torch.fx.Graph quantized for `scheme`, computes on integers."""
    weighted = [(node, _on_integers(node)) for node in graph.nodes if name_of(node) in WEIGHTED]
    in_float = tuple(_labelled(node) for node, on_integers in weighted if not on_integers)
    others = tuple(_floats(graph, INTEGERS.get(scheme)))
    return Layers(sum(on_integers for _, on_integers in weighted), in_float, others)


def see_promise(graph: Any, scheme: str) -> Layers:
    """The `layers` of `graph`; Refused, with the operators in float, where one with weights is among them."""
    found, called = layers(graph, scheme), f"PT2E for {scheme}"
    if not found.quantized and not found.weighted_in_float:
        raise Refused(f"the model has no layer with weights that {called} could quantize",
                      "use float32, or a model with convolutions or linear layers")
    if found.weighted_in_float:
        names = found.weighted_in_float
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise Refused(f"{called} left layers with weights in float: {', '.join(names[:3])}{more}",
                      "another recipe, or other operators in the model")
    return found


def name_of(node: Any) -> str:
    """`conv2d` of a call of torch.ops.aten.conv2d.default; "" of what is no call."""
    target = str(getattr(node, "target", ""))
    if node.op != "call_function":
        return ""
    return target.split(".")[1] if target.startswith("aten.") else str(node.target.__name__)


def _on_integers(node: Any) -> bool:
    return all(_dequantized(each) for each in node.args[:2])


def _dequantized(node: Any) -> bool:
    """Whether what `node` gives comes off a grid, perhaps only moved since."""
    while name_of(node) in PASSING and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return "dequantize" in str(node.target)


def _floats(graph: Any, known: Collection[str] | None) -> Iterator[str]:
    """The names of operators without weights behind which is no grid, or for which no kernel is `known`."""
    for node in graph.nodes:
        name, target = name_of(node), str(node.target)
        if not name or name in (*WEIGHTED, *PASSING) or "quantize" in target or "qparams" in target:
            continue
        if (known is not None and name not in known) or not all(_grid_behind(node)):
            yield name


def _grid_behind(node: Any) -> Iterator[bool]:
    """Whether each use of `node` puts it on a grid, or hands it to a clamp that does."""
    for user in node.users:
        yield "quantize" in str(user.target) or name_of(user) in ("relu", "hardtanh", "relu_", "hardtanh_")


def _labelled(node: Any) -> str:
    stack = [*(node.meta.get("nn_module_stack") or {}).values()]
    place = stack[-1][0] if stack else ""
    return f"{name_of(node)} {place or node.name}"
