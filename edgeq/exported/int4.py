"""Weights of 4 bits in groups: for the linear layers of transformers, by torchao.

A group of `group_size` weights along the inputs has a scale of its own; activations are either float
(weight-only) or int8 per token, found as the kernels run (8da4w). Linear layers whose inputs are no
multiple of the group keep float weights, and are named.

GPTQ (Frantar et al. 2022, arXiv 2210.17323) rounds the weights one input after the other, the rest making
up for each; torchao 0.18 has it for other kinds of tensors alone, so its few lines are here, on torchao's
own scales: see recipes/gptq_int8.py for the formula.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeq.arrays import Array
from edgeq.errors import Refused
from edgeq.exported.models import baseline_in, exported_again, save
from edgeq.exported.opening import Module, opened
from edgeq.exported.promise import name_of
from edgeq.quantization import note

Activations = Literal["int8", "float32"]
DAMPING = 0.01  # of the mean of the diagonal
LOWEST, HIGHEST = -8, 7


@dataclass(frozen=True)
class Groups:
    """How many weights share a scale, what activations are, and whether GPTQ rounds the weights."""

    size: int
    activations: Activations
    gptq: bool = False


def write_int4(out: Path, baseline: Path, calibration: Array, groups: Groups) -> None:
    """Write `out/model.pt2` of a baseline, its linear layers with weights of 4 bits.

    Raises Refused where it has no linear layer that groups go into.
    """
    module = opened(baseline_in(baseline))
    layers, left = _as_modules(module.graph, groups.size)
    if not layers:
        raise Refused(f"the model has no linear layer whose inputs are a multiple of {groups.size}",
                      "a smaller `group_size`, or static-int8")
    if left:
        note(out, f"float weights, for their inputs are no multiple of {groups.size}: {', '.join(left)}")
    inputs = _second_moments(module, layers, calibration) if groups.gptq else {}
    originals = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    _quantize(module.graph, groups)
    for name, moments in inputs.items():
        _round_in_turn(layers[name], originals[name], moments, groups.size)
    with warnings.catch_warnings(action="ignore"):
        exported = exported_again(module.graph, module.example).run_decompositions({})
    save(out, exported, baseline, calibration)


def _as_modules(graph: Any, size: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Make a torch.nn.Linear of each linear layer in `graph` that groups go into, for torchao takes no other.

    Returns them by their names, and the names of those that are left.
    """
    made, left = {}, []
    found = [each for each in graph.graph.nodes if name_of(each) == "linear"]
    for node in [each for each in found if each.args[1].op == "get_attr"]:
        weight = _attribute(graph, node.args[1].target)
        if weight.shape[1] % size:
            left.append(str(node.args[1].target))
            continue
        bias = _attribute(graph, node.args[2].target) if len(node.args) > 2 and node.args[2] else None
        name = f"{node.name}_of_4_bits"
        made[name] = _linear(weight, bias)
        graph.add_submodule(name, made[name])
        with graph.graph.inserting_after(node):
            node.replace_all_uses_with(graph.graph.call_module(name, (node.args[0],)))
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return made, tuple(left)


def _linear(weight: Any, bias: Any) -> Any:
    import torch

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    layer.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def _quantize(graph: Any, groups: Groups) -> None:
    """Let torchao put the weights of the layers made by `_as_modules` on grids of 4 bits."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    if groups.activations == "int8":
        quantize_(graph, Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=PerGroup(groups.size)))
    else:
        quantize_(graph, IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(groups.size)))


def _second_moments(module: Module, layers: dict[str, Any], calibration: Array) -> dict[str, Any]:
    """E[x xT] of what goes into each layer, over the calibration samples."""
    import torch

    moments = {name: torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64)
               for name, layer in layers.items()}

    def watching(name: str) -> Any:
        def add(_: Any, given: tuple[Any, ...]) -> None:
            flat = given[0].detach().reshape(-1, given[0].shape[-1]).double()
            moments[name] += flat.T @ flat
        return add

    hooks = [layer.register_forward_pre_hook(watching(name)) for name, layer in layers.items()]
    module.outputs(calibration)
    for hook in hooks:
        hook.remove()
    return moments


def _round_in_turn(layer: Any, weights: Any, moments: Any, size: int) -> None:
    """Replace the integers of a quantized layer by those of GPTQ, on the same scales."""
    import torch

    tensor = layer.weight
    diagonal = moments.diagonal()
    diagonal += DAMPING * float(diagonal.mean()) + 1e-9
    factor = torch.linalg.cholesky(torch.linalg.inv(moments), upper=True)
    left = weights.double()
    for column in range(left.shape[1]):
        scale = tensor.scale[:, column // size].double()
        integers = (left[:, column] / scale).round().clamp(LOWEST, HIGHEST)
        tensor.qdata[:, column] = integers.to(torch.int8)
        mistake = (left[:, column] - integers * scale) / factor[column, column]
        left[:, column + 1:] -= mistake[:, None] * factor[column, column + 1:]


def _attribute(graph: Any, name: str) -> Any:
    found = graph
    for part in name.split("."):
        found = getattr(found, part)
    return found
