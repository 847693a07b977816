"""Nodes of a graph and what they stand for: shapes, constants, and new nodes with both.

Every node's `meta["val"]` is a tensor without values, of the shape and type that the node gives; whoever
adds a node here sees to that.
"""

from __future__ import annotations

from typing import Any


def see_shapes(module: Any, example: Any) -> None:
    """Note the shape and type that each node of `module` gives when it takes `example`."""
    import torch

    values: dict[Any, Any] = {}
    for node in module.graph.nodes:
        if node.op == "call_function":
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
        elif node.op != "output":
            values[node] = example if node.op == "placeholder" else held(module, node)
        node.meta["val"] = _without_values(values.get(node))


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape that `node` gives."""
    return tuple(node.meta["val"].shape)


def is_tensor(value: Any) -> bool:
    """Whether `value`, an argument of a node, is a node that gives one tensor."""
    return hasattr(value, "meta") and hasattr(value.meta.get("val"), "shape")


def is_constant(value: Any) -> bool:
    """Whether `value`, an argument of a node, is a tensor kept in the module, or a number."""
    return isinstance(value, (int, float)) or getattr(value, "op", "") == "get_attr"


def held(module: Any, value: Any) -> Any:
    """The tensor that a constant `value`, an argument of a node, stands for."""
    import torch

    if isinstance(value, (int, float)):
        return torch.tensor(float(value))
    for name in value.target.split("."):
        module = getattr(module, name)
    return module


def keep(module: Any, value: Any, before: Any) -> Any:
    """A node in front of `before` that stands for the tensor `value`, which a training may change."""
    import torch

    name = f"constant_{sum(1 for _ in module.parameters())}"
    learns = value.is_floating_point()
    kept = torch.nn.Parameter(value.detach().clone().contiguous(), requires_grad=learns)
    module.register_parameter(name, kept)
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = _without_values(value)
    return node


def add(module: Any, before: Any, target: Any, *args: Any) -> Any:
    """A node in front of `before` that calls `target`, an operator of torch, with `args`."""
    import torch

    with module.graph.inserting_before(before):
        node = module.graph.call_function(target, args)
    node.meta["val"] = target(*torch.fx.map_arg(args, lambda each: each.meta["val"]))
    return node


def replace(node: Any, by: Any) -> None:
    """Let all that reads `node` read `by`, which stands in front of it, and remove `node`."""
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _without_values(made: Any) -> Any:
    import torch

    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda value: value.to("meta"), made)
