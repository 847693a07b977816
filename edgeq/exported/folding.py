"""What a graph need not compute for every sample: constants, and arithmetic that fits into weights.

A convolution followed by steps of y = x - c, x * c, x + c with one constant a channel is a convolution
with W' = W * c and b' = b * c + c: a normalization at inference is no more than that.
"""

from __future__ import annotations

from typing import Any

from edgeq.exported.constants import add, held, is_constant, is_tensor, keep, replace, shape_of

ADDS = frozenset({"aten.add.Tensor"})
SUBTRACTS = frozenset({"aten.sub.Tensor", "aten.subtract.Tensor"})
SCALES = frozenset({"aten.mul.Tensor", "aten.multiply.Tensor"})
DIVIDES = frozenset({"aten.div.Tensor", "aten.divide.Tensor", "aten.true_divide.Tensor"})
CONVOLUTIONS = frozenset({"aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"})
PRODUCTS = frozenset({"aten.matmul.default", "aten.mm.default"})
LINEAR = "aten.linear.default"


def fold_constants(module: Any) -> None:
    """Compute what depends on no input, and keep the results as parameters."""
    import torch

    values: dict[Any, Any] = {}
    for node in list(module.graph.nodes):
        inputs = node.all_input_nodes
        if node.op == "get_attr":
            values[node] = held(module, node)
        elif node.op == "call_function" and inputs and set(inputs) <= values.keys():
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        if node.op == "call_function" and isinstance(value, torch.Tensor) and set(node.users) - values.keys():
            node.replace_all_uses_with(keep(module, value, node), lambda user: user not in values)
    module.graph.eliminate_dead_code()


def write_linear(module: Any) -> None:
    """Write a product with a constant matrix (a, b) as the linear layer that it is, of weights (b, a)."""
    import torch

    for node in list(module.graph.nodes):
        if str(node.target) not in PRODUCTS or getattr(node.args[1], "op", "") != "get_attr":
            continue
        weights = held(module, node.args[1])
        if weights.ndim == 2 and len(shape_of(node.args[0])) >= 2:
            kept = keep(module, weights.T, node)
            replace(node, add(module, node, torch.ops.aten.linear.default, node.args[0], kept))
    module.graph.eliminate_dead_code()


def fold_arithmetic(module: Any) -> None:
    """Put arithmetic with one constant a channel into the convolution or linear layer before it."""
    for node in list(module.graph.nodes):
        layer: Any = node.args[0] if node.op == "call_function" and node.args else None
        if is_tensor(layer) and _is_layer(layer) and len(layer.users) == 1:
            _fold(module, layer, node)
    module.graph.eliminate_dead_code()


def _is_layer(node: Any) -> bool:
    constant = len(node.args) > 1 and all(given is None or is_constant(given) for given in node.args[1:3])
    return constant and not node.kwargs and (str(node.target) in CONVOLUTIONS or str(node.target) == LINEAR)


def _fold(module: Any, layer: Any, step: Any) -> None:
    """Put `step`, which only `layer` feeds, into the weights of `layer` where it is such arithmetic."""
    affine = _affine(module, layer, step)
    if affine is None:
        return
    scale, shift = affine
    weights, bias = held(module, layer.args[1]), layer.args[2] if len(layer.args) > 2 else None
    shift = shift if bias is None else held(module, bias) * scale + shift
    scaled = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
    given = (layer.args[0], keep(module, scaled, step), keep(module, shift, step), *layer.args[3:])
    replace(step, add(module, step, layer.target, *given))


def _affine(module: Any, layer: Any, step: Any) -> tuple[Any, Any] | None:
    """(scale, shift), a value a channel, of a step y = x * scale + shift; None where it is none."""
    import torch

    if str(step.target) not in ADDS | SUBTRACTS | SCALES | DIVIDES or not _is_plain(step):
        return None
    axis = len(shape_of(layer)) - 1 if str(layer.target) == LINEAR else 1
    value = _by_channel(held(module, step.args[1]), shape_of(layer), axis)
    if value is None or shape_of(step) != shape_of(layer):
        return None
    one, none = torch.ones_like(value), torch.zeros_like(value)
    for names, pair in ((ADDS, (one, value)), (SUBTRACTS, (one, -value)), (SCALES, (value, none))):
        if str(step.target) in names:
            return pair
    return 1 / value, none


def _is_plain(step: Any) -> bool:
    """Whether a step has two arguments, of which the second is a constant, and no more."""
    return not step.kwargs and len(step.args) == 2 and is_constant(step.args[1])


def _by_channel(value: Any, shape: tuple[int, ...], axis: int) -> Any:
    """`value` as (channels,), where it is one a channel or one for all; None where it is not."""
    channels = shape[axis]
    if value.numel() == 1:
        return value.reshape(1).expand(channels)
    aligned = (1,) * (len(shape) - value.ndim) + tuple(value.shape)
    wanted = tuple(channels if each == axis else 1 for each in range(len(shape)))
    return value.reshape(channels) if aligned == wanted else None
