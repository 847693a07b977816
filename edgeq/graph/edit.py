"""Edits of a .tflite graph: other values, other grids, a bias where there is none, a part of it.

The one rule: an edit names tensors and operators by their places in the Graph that was read, and
leaves all others where they are, so that what was learnt of one graph holds for the edited one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph.model import Operator, Quantization, Tensor
from edgeq.graph.read import enumeration, unpack, unpacked
from edgeq.graph.write import packed

FILTERED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # their third input is the bias


@dataclass(frozen=True, eq=False)
class Change:
    """What a tensor gets in place of what it has: `values` of its shape, a `grid`, or both."""

    values: Array | None = None
    grid: Quantization | None = None


def values_of(tensor: Tensor) -> Array:
    """The values of a constant tensor, in its shape; INT4 as int8, two of them in a byte."""
    if tensor.data is None:
        raise ValueError(f"{tensor.name!r} is no constant")
    raw = np.asarray(tensor.data)
    if tensor.dtype == "INT4":
        both = np.stack([raw << 4, raw & 0xF0], axis=-1).view(np.int8) >> 4  # low nibble first
        return both.reshape(-1)[: tensor.elements].reshape(tensor.shape)
    return raw.view(np.dtype(tensor.dtype.lower())).reshape(tensor.shape)


def edited(content: bytes, changes: Mapping[int, Change], origin: str = "the model") -> bytes:
    """The .tflite file `content` with `changes` by tensor index.

    A buffer that several tensors share is changed for the tensor that is named alone.
    """
    return packed(changed(unpacked(content, origin), changes))


def changed(model: Any, changes: Mapping[int, Change]) -> Any:
    """A copy of `model`, the schema's own ModelT, with `changes`; what they leave alone is shared."""
    main = copy.copy(model.subgraphs[0])
    main.tensors = list(main.tensors)
    copied = copy.copy(model)
    copied.subgraphs, copied.buffers = [main, *model.subgraphs[1:]], list(model.buffers)
    for index, change in changes.items():
        main.tensors[index] = tensor = copy.copy(main.tensors[index])
        if change.values is not None:
            _set_values(copied, tensor, change.values)
        if change.grid is not None:
            _set_grid(tensor, change.grid)
    return copied


def with_own_biases(content: bytes, origin: str = "the model") -> bytes:
    """The float model `content`, every convolution and dense layer with a bias of its own.

    Where there was none it is zero; one that several layers shared is written out for each.
    """
    model = unpack(content, origin)
    names = enumeration("BuiltinOperator")
    graph, taken = model.subgraphs[0], set[int]()
    for operator in graph.operators:
        if names[model.operatorCodes[operator.opcodeIndex].builtinCode] in FILTERED:
            _own_bias(model, graph, operator, taken)
    return packed(model)


def cut(model: Any, operators: Sequence[Operator], wanted: Sequence[int]) -> tuple[bytes, tuple[int, ...]]:
    """The part of `model` that `operators` are, and the tensors of `model` that are its inputs.

    They are what the operators read and do not write, constants apart; its outputs are the tensors
    `wanted`. The part holds no other tensors, and no other values: those cost time.
    """
    main = model.subgraphs[0]
    chosen = [main.operators[operator.index] for operator in operators]
    written = {*_present(operator.outputs for operator in chosen)}
    read = dict.fromkeys(_present(operator.inputs for operator in chosen))
    taken = tuple(tensor for tensor in read if tensor not in written and not _held(model, tensor))
    inside = _present(_intermediates(operator) for operator in chosen)
    return packed(_part(model, chosen, (taken, wanted), sorted({*read, *written, *wanted, *inside}))), taken


def _present(ends: Iterable[Iterable[int]]) -> list[int]:
    """All the tensors in `ends`, without those that stand for an optional one that is absent."""
    return [int(tensor) for tensors in ends for tensor in tensors if tensor >= 0]


def _part(
    model: Any, operators: Sequence[Any], ends: tuple[Sequence[int], Sequence[int]], kept: Sequence[int]
) -> Any:
    """A model of some `operators` of `model` and the tensors `kept`, with inputs and outputs as `ends`."""
    part, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    place = {old: new for new, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [_bare(model.subgraphs[0].tensors[old]) for old in kept]
    graph.operators = [_moved(operator, place) for operator in operators]
    graph.inputs, graph.outputs = ([place[old] for old in each] for each in ends)
    part.subgraphs = [graph, *model.subgraphs[1:]]
    part.signatureDefs, part.metadata, part.metadataBuffer = [], [], None
    if len(part.subgraphs) == 1:
        _drop_unread(part)
    return part


def _bare(tensor: Any) -> Any:
    """A copy of `tensor` without what nothing computes with: packing it costs more than running it."""
    bare = copy.copy(tensor)
    bare.name = bare.shapeSignature = None
    if tensor.quantization is None or tensor.quantization.scale is None:
        bare.quantization = None
    return bare


def _moved(operator: Any, place: Mapping[int, int]) -> Any:
    """`operator` with its tensors at their new places."""
    moved = copy.copy(operator)
    moved.inputs, moved.outputs, moved.intermediates = (
        np.array([place[int(old)] for old in ends], np.int32)
        for ends in (operator.inputs, operator.outputs, _intermediates(operator)))
    return moved


def _intermediates(operator: Any) -> Any:
    """What an LSTM keeps the grids of its gates in."""
    return () if operator.intermediates is None else operator.intermediates


def _drop_unread(part: Any) -> None:
    """Leave out the values that no tensor of the part has; the tensors are its own already."""
    tensors = part.subgraphs[0].tensors
    needed = {old: new for new, old in enumerate(sorted({0, *(tensor.buffer for tensor in tensors)}))}
    part.buffers = [part.buffers[old] for old in needed]
    for tensor in tensors:
        tensor.buffer = needed[tensor.buffer]


def _held(model: Any, index: int) -> bool:
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    return bool(tensor.isVariable) or (data is not None and len(data) > 0)


def _set_values(model: Any, tensor: Any, given: Array) -> None:
    kind = enumeration("TensorType")[tensor.type]
    values = given.reshape([] if tensor.shape is None else list(tensor.shape))
    raw = _nibbles(values) if kind == "INT4" else np.ascontiguousarray(
        values.astype(np.dtype(kind.lower()), casting="same_kind")).reshape(-1).view(np.uint8)
    buffer = copy.copy(model.buffers[tensor.buffer])
    buffer.data = raw
    if sum(other.buffer == tensor.buffer for graph in model.subgraphs for other in graph.tensors) > 1:
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    else:
        model.buffers[tensor.buffer] = buffer


def _nibbles(values: Array) -> Array:
    """Two values of -8..7 in a byte, the first in its lower half."""
    flat = values.reshape(-1).astype(np.int8)
    even = np.append(flat, np.int8(0)) if flat.size % 2 else flat
    halves = (even.view(np.uint8) & 0x0F).reshape(-1, 2)
    pairs: Array = halves[:, 0] | halves[:, 1] << 4
    return pairs


def _set_grid(tensor: Any, grid: Quantization) -> None:
    tensor.quantization = copy.copy(tensor.quantization)
    tensor.quantization.scale = np.asarray(grid.scales, np.float32)
    tensor.quantization.zeroPoint = np.asarray(grid.zero_points, np.int64)
    tensor.quantization.quantizedDimension = grid.axis
    tensor.quantization.min = tensor.quantization.max = None


def _own_bias(model: Any, graph: Any, operator: Any, taken: set[int]) -> None:
    inputs = [int(index) for index in operator.inputs]
    bias = inputs[2] if len(inputs) > 2 else -1
    if bias < 0:
        sink = graph.tensors[operator.outputs[0]]
        zeros = np.zeros(int(sink.shape[-1]), np.float32)
        inputs = [*inputs[:2], add_constant(model, sink, b"/bias", zeros)]
    elif bias in taken and _held(model, bias):
        graph.tensors.append(copy.copy(graph.tensors[bias]))
        inputs[2] = len(graph.tensors) - 1
        graph.tensors[-1].name = b"%s/%d" % (graph.tensors[bias].name, inputs[2])
    operator.inputs = np.asarray(inputs, np.int32)
    taken.add(inputs[2])


def add_constant(model: Any, like: Any, suffix: bytes, values: Floats) -> int:
    """A new float32 constant in `model`, a ModelT, named after the tensor `like`; its index."""
    graph, buffer = model.subgraphs[0], copy.copy(model.buffers[0])
    buffer.data = values.reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    tensor = copy.copy(like)
    tensor.name, tensor.shape = (like.name or b"") + suffix, np.asarray(values.shape, np.int32)
    tensor.shapeSignature, tensor.buffer = None, len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
