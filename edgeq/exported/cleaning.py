"""Graphs as Keras leaves them on its PyTorch backend, made into what ExecuTorch's partitioners know.

Keras writes conversions that convert nothing, checks of its own, a transposition round every
convolution, and a normalization as four steps of arithmetic. Here the first two go, what depends on
constants alone is computed, transpositions sink until they meet and cancel, and steps behind a convolution
or a matrix product go into its weights.
The one rule: the graph gives the outputs that it gave, or an error says that it does not.
"""

from __future__ import annotations

import copy
from typing import Any

from edgeq.errors import ToolError
from edgeq.exported.constants import held, is_tensor, replace, see_shapes
from edgeq.exported.folding import fold_arithmetic, fold_constants, write_linear
from edgeq.exported.transposing import sink_transpositions

CHECKS = ("aten._assert_tensor_metadata.default",)
COPIES = frozenset({
    "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other", "aten._to_copy.default",
    "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.detach_.default",
    "aten.alias.default", "aten.lift_fresh_copy.default"})
VIEWS = ("aten.view.", "aten.reshape.", "aten.permute.", "aten.transpose.", "aten.slice.", "aten.select.",
         "aten.squeeze.", "aten.unsqueeze.", "aten.expand.", "aten.flatten.", "aten.to.", "aten.contiguous.",
         "aten.detach.", "aten.alias.")
TOLERANCE = 1e-4  # of the largest output
SCALES = (1.0, 255.0)  # of the samples that it is checked on: as they often are, and as pixels are


def cleaned(graph: Any, example: Any) -> Any:
    """A copy of the GraphModule `graph`, which takes a tensor like `example`, without what only Keras needs.

    Raises ToolError where the copy gives other outputs.
    """
    import torch

    made = copy.deepcopy(graph)
    with torch.no_grad():
        see_shapes(made, example)
        drop_checks(made)
        write_nothing_in_place(made)
        drop_copies(made)
        fold_constants(made)
        write_linear(made)
        sink_transpositions(made)
        fold_arithmetic(made)
        made = with_what_is_used(made)
        _check(graph, made, example)
    return made


def drop_checks(module: Any) -> None:
    """Remove what only looks at types and shapes, which are fixed."""
    for node in [node for node in module.graph.nodes if str(node.target) in CHECKS]:
        module.graph.erase_node(node)


def drop_copies(module: Any) -> None:
    """Remove what gives the very values that it is given, in the same shape and type.

    Where something still writes in place, a copy may be what it is for, and all stay.
    """
    nodes = list(module.graph.nodes)
    writing = any(node.op == "call_function" and _elsewhere(node.target) is not None for node in nodes)
    for node in nodes if not writing else ():
        if node.op == "call_function" and str(node.target) in COPIES and is_tensor(node):
            given, made = node.args[0].meta["val"], node.meta["val"]
            if (given.shape, given.dtype) == (made.shape, made.dtype):
                replace(node, node.args[0])


def write_nothing_in_place(module: Any) -> None:
    """Let an operation that overwrites its first argument, which nothing else reads, make a new tensor."""
    for node in module.graph.nodes:
        if node.op == "call_function" and (other := _elsewhere(node.target)) is not None:
            given = node.args[0]
            fresh = given.op == "call_function" and not str(given.target).startswith(VIEWS)
            if fresh and len(given.users) == 1:
                node.target = other


def with_what_is_used(module: Any) -> Any:
    """The graph of `module` with the tensors alone that it reads, numbered in their order."""
    import torch

    kept = torch.nn.Module()
    for number, node in enumerate(node for node in module.graph.nodes if node.op == "get_attr"):
        value = held(module, node)
        learns = isinstance(value, torch.nn.Parameter)
        node.target = f"{'parameter' if learns else 'constant'}_{number}"
        (kept.register_parameter if learns else kept.register_buffer)(node.target, value)
    return torch.fx.GraphModule(kept, module.graph)


def _elsewhere(target: Any) -> Any:
    """The operator that does what `target` (`aten.add_.Tensor`) does, in a new tensor; None: it is that."""
    import torch

    packet, _, overload = str(target).removeprefix("aten.").partition(".")
    if packet.startswith("_") or not packet.endswith("_"):
        return None
    return getattr(getattr(torch.ops.aten, packet[:-1], None), overload, None)


def _check(graph: Any, made: Any, example: Any) -> None:
    """Raise ToolError where `made` does not give the outputs of `graph` on samples drawn at random."""
    import torch

    draw = torch.Generator().manual_seed(0)
    for scale in SCALES:
        sample = (torch.rand(example.shape, generator=draw) * scale).to(example.dtype)
        wanted, found = (torch.utils._pytree.tree_leaves(each(sample))[0] for each in (graph, made))
        if not float((wanted - found).abs().max()) <= TOLERANCE * float(wanted.abs().max()):
            raise ToolError("the graph of the Keras model gives other outputs once it is cleaned up",
                            "report its layers; a model in PyTorch does not need this step")
