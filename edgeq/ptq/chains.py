"""Pairs of layers between which a channel's scale can be moved, and where its weights stand in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Floats
from edgeq.graph import Graph, Layer, Operator, layers

NONE, RELU, RELU6 = 0, 1, 3  # of schema.fbs: ActivationFunctionType
PASSING = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "RELU", "RELU6", "RESHAPE"})


@dataclass(frozen=True, eq=False)
class Pair:
    """Two layers with only `between` them what lets a channel's scale through; `capped` at 6 or not."""

    first: Layer
    between: tuple[Operator, ...]
    second: Layer
    capped: bool


def chains(graph: Graph) -> tuple[Pair, ...]:
    """The pairs of layers in `graph` that can be equalized, in execution order.

    Left out: shared weights, outputs that another operator reads as well, and a layer without a
    bias of its own (graph.with_own_biases gives it one).
    """
    found = {layer.operator.index: layer for layer in layers(graph)}
    readers = graph.consumers()
    pairs = (_pair(graph, layer, found, readers) for layer in found.values())
    return tuple(pair for pair in pairs if pair)


def _pair(
    graph: Graph, first: Layer, found: Mapping[int, Layer], readers: Mapping[int, list[Operator]]
) -> Pair | None:
    fused = first.operator.options.get("fusedActivationFunction", NONE)
    if first.shared or not first.bias or fused not in (NONE, RELU, RELU6):
        return None
    chain = [first.operator]
    while len(following := readers.get(chain[-1].outputs[0], [])) == 1:
        if chain[-1].outputs[0] in graph.outputs:
            return None
        if second := found.get(following[0].index):
            fits = _reads(second, chain[-1].outputs[0], first.channels)
            return Pair(first, tuple(chain[1:]), second, _capped(chain)) if fits else None
        if not _passes(graph, following[0], first.channels):
            return None
        chain.append(following[0])
    return None


def _capped(chain: Sequence[Operator]) -> bool:
    """Whether one of the operators of `chain` cuts values off at 6."""
    return any(each.name == "RELU6" or each.options.get("fusedActivationFunction") == RELU6
               for each in chain)


def _reads(second: Layer, tensor: int, channels: int) -> bool:
    """Whether `second` reads the `channels` of `tensor` by weights that are its own."""
    return second.source.index == tensor and not second.shared and fan_in(second) % channels == 0


def fan_in(layer: Layer) -> int:
    """How many channels it reads, of all its groups; a dense layer's are all its inputs."""
    each = 1 if layer.operator.name == "DEPTHWISE_CONV_2D" else layer.weights.shape[-1]
    return each * layer.groups


def _passes(graph: Graph, operator: Operator, channels: int) -> bool:
    """Whether a channel's scale goes through `operator` unchanged."""
    plain = operator.options.get("fusedActivationFunction", NONE) in (NONE, RELU)
    last = graph.outputs_of(operator)[0].shape[-1]
    kept = last == channels or (operator.name == "RESHAPE" and last % channels == 0)
    return operator.name in PASSING and plain and kept


def outgoing(matrix: Floats) -> Floats:
    """The largest weight of each output channel (channels,)."""
    most: Floats = np.abs(matrix).max(axis=1).reshape(-1)
    return most


def incoming(layer: Layer, matrix: Floats, channels: int) -> Floats:
    """The largest weight that reads each of `channels` input channels (channels,)."""
    depth = fan_in(layer)
    rows = np.abs(matrix).max(axis=2).reshape(layer.groups, -1, depth // layer.groups)
    most: Floats = rows.max(axis=1).reshape(-1, channels).max(axis=0)
    return most


def by_row(layer: Layer, matrix: Floats, scale: Floats) -> Floats:
    """`scale` (channels,) of its inputs, beside the rows of its matrix: (groups, K, 1)."""
    repeated = np.tile(scale, fan_in(layer) // scale.size).reshape(layer.groups, 1, -1)
    return np.tile(repeated, (1, matrix.shape[1] // repeated.shape[2], 1)).reshape(*matrix.shape[:2], 1)
