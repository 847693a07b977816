"""Transpositions in a graph: let down through what does not mind them, until two meet and are none.

What is channels last outside and channels first in every convolution has a pair round each of them.
The one rule: an operator is passed only where it does the same to transposed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.exported.constants import add, held, is_constant, is_tensor, keep, replace, shape_of

PERMUTE = "aten.permute.default"
EACH = frozenset(f"aten.{name}.default" for name in (
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "gelu", "elu",
    "leaky_relu", "clamp", "clamp_min", "exp", "neg", "abs", "sqrt", "rsqrt", "softplus", "log", "square"))
PAIRS = frozenset(f"aten.{name}.Tensor" for name in (
    "add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide"))
REDUCES = frozenset({"aten.mean.dim", "aten.sum.dim_IntList", "aten.amax.default"})
JOINS = frozenset({"aten.cat.default", "aten.concat.default"})
PADS = frozenset({"aten.pad.default", "aten.constant_pad_nd.default"})
RESHAPES = frozenset({"aten.reshape.default", "aten.view.default"})
ALONG = frozenset({"aten.softmax.int", "aten._softmax.default"})


def sink_transpositions(module: Any) -> None:
    """Let every transposition of `module` sink as far as it goes, and remove those that cancel."""
    sunk = True
    while sunk:
        found = [node for node in module.graph.nodes if str(node.target) == PERMUTE]
        moves = [_sunk(module, node) for node in found]
        sunk = any(moves)
        module.graph.eliminate_dead_code()


def _sunk(module: Any, permute: Any) -> bool:
    """Whether anything that reads `permute` could be put in front of it."""
    if permute.args[0] is None:  # it met another, and is gone
        return False
    order = [axis % len(permute.args[1]) for axis in permute.args[1]]
    if order == sorted(order):
        permute.replace_all_uses_with(permute.args[0])
        return True
    users = list(permute.users)
    if permute.args[0].op == "placeholder":  # at the entry there is none above that it could cancel
        users = [user for user in users if str(user.target) == PERMUTE]
    moves = [_passed(module, user, permute, order) for user in users]
    return any(moves)


def _passed(module: Any, user: Any, permute: Any, order: Sequence[int]) -> bool:
    """Put `user` in front of the transposition `permute` that it reads, where it may be put there."""
    import torch

    if str(user.target) == PERMUTE:
        after = [order[axis] for axis in user.args[1]]
        replace(user, add(module, user, torch.ops.aten.permute.default, permute.args[0], after))
        return True
    found = _before(module, user, permute, order)
    if found is None:
        return False
    args, left = found
    with module.graph.inserting_before(user):
        moved = module.graph.call_function(user.target, tuple(args), dict(user.kwargs))
    known, named = torch.fx.map_arg((moved.args, moved.kwargs), lambda each: each.meta["val"])
    moved.meta["val"] = user.target(*known, **named)
    replace(user, add(module, user, torch.ops.aten.permute.default, moved, left) if left else moved)
    return True


def _before(module: Any, user: Any, permute: Any, order: Sequence[int]) -> tuple[list[Any], list[int]] | None:
    """What `user` takes in front of the transposition, and the one that is left behind it; None: it minds."""
    name, given = str(user.target), list(user.args)
    if name in EACH:
        return [permute.args[0], *given[1:]], list(order)
    if name in PAIRS and not user.kwargs:
        pair = _all_turned(module, given, user, order)
        return (pair, list(order)) if pair else None
    if name in JOINS:
        parts, axis = _all_turned(module, given[0], user, order), (*given[1:], 0)[0]
        return ([parts, order[axis]], list(order)) if parts else None
    return _on_dimensions(permute, user, order)


def _all_turned(module: Any, values: Sequence[Any], user: Any, order: Sequence[int]) -> list[Any] | None:
    """Each of `values` as `_turned` has it; None where one of them cannot be."""
    turned = [_turned(module, each, user, order) for each in values]
    return None if None in turned else turned


def _on_dimensions(permute: Any, user: Any, order: Sequence[int]) -> tuple[list[Any], list[int]] | None:
    """The same for what names dimensions, and so must name others."""
    name, given = str(user.target), list(user.args)
    if name in PADS and (len(given) < 3 or given[2] in ("constant", 0, 0.0)):
        return [permute.args[0], _padding(given[1], order), *given[2:]], list(order)
    if name in RESHAPES and not _reorders(permute, order):
        return [permute.args[0], *given[1:]], []
    if name in ALONG:
        return [permute.args[0], order[given[1]], *given[2:]], list(order)
    return _reduced(permute, given, order) if name in REDUCES else None


def _turned(module: Any, value: Any, user: Any, order: Sequence[int]) -> Any:
    """The other side of `user`, `value`, as it is in front of the transposition; None: it cannot be."""
    if isinstance(value, (int, float)):
        return value
    if not is_tensor(value):
        return None
    if str(value.target) == PERMUTE and [axis % len(order) for axis in value.args[1]] == list(order):
        return value.args[0]
    if not is_constant(value):
        return None
    tensor = held(module, value)
    if tensor.numel() == 1:
        return value
    back = [list(order).index(axis) for axis in range(len(order))]
    whole = tensor.reshape((1,) * (len(order) - tensor.ndim) + tuple(tensor.shape))
    return keep(module, whole.permute(back), user)


def _reorders(permute: Any, order: Sequence[int]) -> bool:
    """Whether values come in another order: dimensions of 1 may stand anywhere."""
    given = shape_of(permute.args[0])
    wide = [axis for axis in order if given[axis] != 1]
    return wide != sorted(wide)


def _padding(pads: Sequence[int], order: Sequence[int]) -> list[int]:
    """Paddings in front of a transposition: pairs (before, after), from the last dimension on."""
    pairs = [tuple(pads[at:at + 2]) for at in range(0, len(pads), 2)]
    behind = [*reversed(pairs + [(0, 0)] * (len(order) - len(pairs)))]
    before = [behind[list(order).index(axis)] for axis in range(len(order))]
    while before[0] == (0, 0) and len(before) > 1:
        before = before[1:]
    return [amount for pair in reversed(before) for amount in pair]


def _reduced(permute: Any, given: list[Any], order: Sequence[int]) -> tuple[list[Any], list[int]] | None:
    """A mean and the like: over other dimensions, and without those where it does not keep them."""
    over = given[1] if len(given) > 1 and given[1] else range(len(order))
    dims = [order[axis] for axis in over]
    if len(given) > 2 and given[2]:
        return [permute.args[0], dims, *given[2:]], list(order)
    rest = [axis for axis in order if axis not in dims]
    return ([permute.args[0], dims, *given[2:]], []) if rest == sorted(rest) else None
