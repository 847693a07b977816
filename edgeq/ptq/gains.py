"""Normalizations whose channels' scale can be moved on to the layers that read them.

What a layer reads is followed back, through sums and products, to constants with a value a channel:
gamma and beta, in whatever shape the converter left them. Dividing these divides each channel of
all that lies between; that is allowed where nothing but weighted layers reads any of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph import Graph, Layer, Operator, Tensor, layers
from edgeq.ptq.chains import NONE, PASSING, RELU, by_row, fan_in, incoming

SUMS = ("ADD", "SUB")
THROUGH = PASSING - {"RELU6"} | {"SLICE", "STRIDED_SLICE"}
OUTSIDE = "the caller"
LONGEST = 16  # tensors between a layer and the constants: a normalization ends in half as many
WAYS = 32  # of dividing one tensor that are looked at


@dataclass(frozen=True, eq=False)
class Reader:
    """An operator with constant weights over channels: a Layer, or a BATCH_MATMUL without one."""

    operator: Operator
    source: Tensor
    weights: Tensor
    layer: Layer | None

    @property
    def width(self) -> int:
        """How many channels it reads; a dense layer's are all its inputs."""
        return fan_in(self.layer) if self.layer else self.source.shape[-1]

    def most(self, weights: Array, channels: int) -> Floats:
        """The largest weight that reads each of `channels` (channels,)."""
        if self.layer:
            return incoming(self.layer, self.layer.matrix(weights), channels)
        rows = np.abs(np.moveaxis(weights, self._axis, 0)).reshape(self.width, -1).max(axis=1)
        most: Floats = rows.reshape(-1, channels).max(axis=0)
        return most

    def scaled(self, weights: Array, scale: Floats) -> Array:
        """`weights`, in the file's layout, with those that read a channel times its `scale`."""
        if self.layer:
            matrix = self.layer.matrix(weights)
            return self.layer.filters(matrix * by_row(self.layer, matrix, scale))
        return np.moveaxis(np.moveaxis(weights, self._axis, -1) * repeated(scale, self.width), -1, self._axis)

    @property
    def _axis(self) -> int:
        """That of the channels in the weights of a BATCH_MATMUL."""
        return -1 if self.operator.options.get("adjY") else -2


@dataclass(frozen=True)
class Region:
    """Tensors whose `channels` are divided together: activations, and the constants behind them."""

    channels: int
    tensors: frozenset[int] = frozenset()
    constants: frozenset[int] = frozenset()

    @property
    def divided(self) -> frozenset[int]:
        """All of it."""
        return self.tensors | self.constants


@dataclass(frozen=True, eq=False)
class Gain:
    """The `constants` that scale the channels of what `readers` read, `operators` between them.

    `foreign` names the operators that read some of it as well and forbid that it is moved.
    """

    channels: int
    constants: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    readers: tuple[Reader, ...]
    foreign: tuple[str, ...]


def gains(graph: Graph) -> tuple[Gain, ...]:
    """The normalizations that weighted layers of `graph` read, each once, in execution order."""
    reading, writers = readers(graph), graph.producers()
    found: dict[frozenset[int], Gain] = {}
    for reader in reading.values():
        if any(reader in gain.readers for gain in found.values()):
            continue
        start = Region(min(reader.width, reader.source.shape[-1]))
        ways = islice(_regions(graph, writers, reader.source.index, start), WAYS)
        tried = [_gain(graph, region, reading) for region in ways if region.channels > 1]
        if tried:
            gain = min(tried, key=lambda each: len(each.foreign))
            found.setdefault(frozenset(each.index for each in gain.constants), gain)
    return tuple(found.values())


def readers(graph: Graph) -> dict[int, Reader]:
    """Operator index -> the operator as a Reader, where it is one and its weights are its own."""
    found = {layer.operator.index: Reader(layer.operator, layer.source, layer.weights, layer)
             for layer in layers(graph) if not layer.shared}
    consumers = graph.consumers()
    for operator in graph.operators:
        if operator.name == "BATCH_MATMUL" and not operator.options.get("adjX"):
            source, weights = graph.present_inputs_of(operator)
            if weights.constant and len(consumers[weights.index]) == 1:
                found[operator.index] = Reader(operator, source, weights, None)
    return {index: found[index] for index in sorted(found) if not found[index].source.constant}


def repeated(scale: Floats, width: int) -> Floats:
    """`scale` (channels,) over and over, `width` in all."""
    return np.tile(scale, width // scale.size)


def _regions(graph: Graph, writers: Mapping[int, Operator], index: int, region: Region) -> Iterator[Region]:
    """`region` with the tensor `index` and what must be divided for it to be: each way there is."""
    tensor = graph.tensors[index]
    fits = tensor.dtype == "FLOAT32" and tensor.shape and tensor.shape[-1] % region.channels == 0
    if index in region.divided:
        yield region
    elif fits and tensor.constant:
        yield replace(region, constants=region.constants | {index})
    elif fits and index in writers and len(region.tensors) < LONGEST:
        yield from _behind(graph, writers, writers[index],
                           replace(region, tensors=region.tensors | {index}))


def _behind(
    graph: Graph, writers: Mapping[int, Operator], operator: Operator, region: Region
) -> Iterator[Region]:
    """`region` with those inputs of `operator` that must be divided for its output to be."""
    taken = operator.inputs
    if not _scales(graph, operator):
        return
    if operator.name in SUMS:
        for each in _regions(graph, writers, taken[0], region):
            yield from _regions(graph, writers, taken[1], each)
    elif operator.name == "MUL":
        for index in taken:
            yield from _regions(graph, writers, index, region)
    else:
        fewer = min([region.channels, *graph.tensors[taken[0]].shape[-1:]])
        if region.channels % max(1, fewer) == 0:
            yield from _regions(graph, writers, taken[0], replace(region, channels=fewer))


def _scales(graph: Graph, operator: Operator) -> bool:
    """Whether what divides the channels of its inputs divides those of its output."""
    if operator.options.get("fusedActivationFunction", NONE) not in (NONE, RELU):
        return False
    if operator.name in THROUGH - {"RESHAPE"}:
        source, sink = (graph.tensors[ends[0]] for ends in (operator.inputs, operator.outputs))
        return source.shape[-1:] == sink.shape[-1:]
    return operator.name in (*SUMS, "MUL", "RESHAPE")


def _gain(graph: Graph, region: Region, reading: Mapping[int, Reader]) -> Gain:
    """The gain of a `region`, with all that reads of it."""
    consumers = graph.consumers()
    region = _spread(graph, region, consumers)
    return Gain(
        channels=region.channels,
        constants=tuple(graph.tensors[i] for i in sorted(region.constants)),
        operators=tuple(op for op in graph.operators if op.outputs[0] in region.tensors),
        readers=tuple(each for each in reading.values() if each.source.index in region.tensors),
        foreign=tuple(dict.fromkeys(_foreign(graph, region, consumers, reading))),
    )


def _foreign(
    graph: Graph, region: Region, consumers: Mapping[int, list[Operator]], reading: Mapping[int, Reader]
) -> Iterator[str]:
    """The names of what reads some of `region` and could not bear that it is divided."""
    for index in sorted(region.divided):
        yield from (each.name for each in consumers.get(index, []) if not _agrees(each, region, reading))
    yield from (OUTSIDE for index in graph.outputs if index in region.tensors)


def _spread(graph: Graph, region: Region, consumers: Mapping[int, list[Operator]]) -> Region:
    """`region` with what only passes its channels on: several layers may read them in several shapes."""
    waiting = list(region.tensors)
    found = set(region.tensors)
    while waiting:
        for operator in consumers.get(waiting.pop(), []):
            sink = graph.outputs_of(operator)[0]
            passed = operator.name in THROUGH and _scales(graph, operator)
            if passed and sink.index not in found and sink.shape[-1] % region.channels == 0:
                found.add(sink.index)
                waiting.append(sink.index)
    return replace(region, tensors=frozenset(found))


def _agrees(operator: Operator, region: Region, reading: Mapping[int, Reader]) -> bool:
    """Whether `operator` undoes the division, or hands it on just once."""
    read = [index for index in operator.inputs if index in region.divided]
    if reader := reading.get(operator.index):
        return read == [reader.source.index] and reader.width % region.channels == 0
    wanted = len(operator.inputs) if operator.name in SUMS else 1
    return operator.outputs[0] in region.tensors and len(read) == wanted
