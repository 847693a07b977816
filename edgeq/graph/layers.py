"""Weighted layers as matrix products: what convolution and dense layers have in common.

Every layer here is, group by group, `outputs = patches @ matrix + bias`, with patches (groups,
positions, K) cut from its input and a matrix (groups, K, channels). A convolution has one group (or
as many as it splits its channels into), a depthwise one a group a channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.graph.model import Graph, Operator, Tensor

LAST = {"DEPTHWISE_CONV_2D": 3}  # where the output channels are an axis of the weights other than 0
INPUTS = {"TRANSPOSE_CONV": (2, 1, 3)}  # where source, weights and bias stand, if not first
KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
SAME = 0  # of schema.fbs: Padding
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or dense layer with constant weights.

    `axis` is that of the output channels in its weights, `groups` how many parts its channels are
    split into; `shared` says that another operator reads the same weights or bias.
    """

    operator: Operator
    source: Tensor
    weights: Tensor
    bias: Tensor | None
    sink: Tensor
    axis: int
    groups: int
    shared: bool

    @property
    def channels(self) -> int:
        """How many output channels it has."""
        return self.weights.shape[self.axis]

    def matrix(self, weights: Array) -> Array:
        """Its weights, in the file's layout, as (groups, K, channels a group)."""
        rows = np.moveaxis(weights, self.axis, 0).reshape(self.groups, self.channels // self.groups, -1)
        return np.swapaxes(rows, 1, 2)

    def filters(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        shape = list(self.weights.shape)
        first = [shape.pop(self.axis), *shape]
        return np.moveaxis(np.swapaxes(matrix, 1, 2).reshape(first), 0, self.axis)

    def by_channel(self, values: Array) -> Array:
        """Figures (channels,) as they stand beside the matrix: (groups, 1, channels a group)."""
        return values.reshape(self.groups, 1, -1)

    def patches(self, samples: Floats) -> Floats:
        """What each output sums over, of its input for `samples` (n, …): (groups, n positions, K)."""
        if self.operator.name == "FULLY_CONNECTED":
            return samples.reshape(1, -1, self.weights.shape[1])
        if self.operator.name == "TRANSPOSE_CONV":
            return self._transposed(samples)
        options = self.operator.options
        strides, dilations = _pair(options, "stride"), _pair(options, "dilation", "Factor")
        spatial = samples.reshape(-1, *self.source.shape[1:])
        size, out = self._kernel(), self.sink.shape[1:3]
        if options["padding"] == SAME:
            missing = [max(0, (o - 1) * s + (k - 1) * d + 1 - n) for o, s, k, d, n in
                       zip(out, strides, size, dilations, spatial.shape[1:3], strict=True)]
            spatial = _padded(spatial, [each // 2 for each in missing], missing)
        return self._grouped(_windows(spatial, size, (strides, dilations), out))

    def _kernel(self) -> tuple[int, int]:
        return self.weights.shape[1], self.weights.shape[2]

    def _grouped(self, windows: Floats) -> Floats:
        """(n, h, w, kh, kw, channels) -> (groups, n h w, kh kw channels a group)."""
        *places, kh, kw, depth = windows.shape
        split = windows.reshape(int(np.prod(places)), kh * kw, self.groups, depth // self.groups)
        return np.moveaxis(split, 2, 0).reshape(self.groups, len(split), -1)

    def _transposed(self, samples: Floats) -> Floats:
        """A transposed convolution, as a convolution over its input with zeros between the pixels."""
        strides = _pair(self.operator.options, "stride")
        spatial, size, out = samples.reshape(-1, *self.source.shape[1:]), self._kernel(), self.sink.shape[1:3]
        count, *area, depth = spatial.shape
        spread = np.zeros((count, *((n - 1) * s + 1 for n, s in zip(area, strides, strict=True)), depth),
                          spatial.dtype)
        spread[:, :: strides[0], :: strides[1]] = spatial
        area = list(spread.shape[1:3])
        cropped = [max(0, n + k - 1 - o) // 2 for n, k, o in zip(area, size, out, strict=True)]
        before = [k - 1 - c for k, c in zip(size, cropped, strict=True)]
        room = [o + k - 1 - n for o, k, n in zip(out, size, area, strict=True)]
        windows = _windows(_padded(spread, before, room), size, ((1, 1), (1, 1)), out)
        return self._grouped(windows[:, :, :, ::-1, ::-1])


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of `graph` in execution order: KINDS whose weights the file holds."""
    readers = graph.consumers()
    return tuple(layer for operator in graph.operators if (layer := _layer(graph, operator, readers)))


def _layer(graph: Graph, operator: Operator, readers: Mapping[int, list[Operator]]) -> Layer | None:
    if operator.name not in KINDS:
        return None
    given = (*graph.inputs_of(operator), None, None)
    source, weights, bias = (given[place] for place in INPUTS.get(operator.name, (0, 1, 2)))
    sink = graph.outputs_of(operator)[0]
    if not (source and weights and weights.constant) or source.dynamic or sink.dynamic:
        return None
    shared = any(len(readers[tensor.index]) > 1 for tensor in (weights, bias) if tensor)
    return Layer(operator, source, weights, bias, sink, LAST.get(operator.name, 0),
                 _groups(operator, source, weights), shared)


def _groups(operator: Operator, source: Tensor, weights: Tensor) -> int:
    """How many parts the channels are split into: a channel each, as the weights have it, or none."""
    if operator.name == "DEPTHWISE_CONV_2D":
        return source.shape[3]
    return source.shape[3] // weights.shape[3] if operator.name == "CONV_2D" else 1


def _pair(options: Mapping[str, object], name: str, suffix: str = "") -> Pair:
    """An option along height and width: strideH and strideW."""
    high, wide = (cast("int", options[f"{name}{axis}{suffix}"]) for axis in "HW")
    return high, wide


def _padded(spatial: Floats, before: Sequence[int], room: Sequence[int]) -> Floats:
    """`room` more zeros along height and width, `before` of them first; fewer pixels where negative."""
    after = [total - first for total, first in zip(room, before, strict=True)]
    ends = [(max(0, a), max(0, b)) for a, b in zip(before, after, strict=True)]
    grown = np.pad(spatial, [(0, 0), *ends, (0, 0)])
    high, wide = (slice(max(0, -a), n + min(0, b))
                  for a, b, n in zip(before, after, grown.shape[1:3], strict=True))
    return grown[:, high, wide]


def _windows(spatial: Floats, size: Pair, steps: tuple[Pair, Pair], out: tuple[int, ...]) -> Floats:
    """(n, h, w, c) -> (n, out h, out w, kernel h, kernel w, c) by `steps`: strides and dilations."""
    (sh, sw), (dh, dw) = steps
    reach = [(k - 1) * d + 1 for k, d in zip(size, (dh, dw), strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(spatial, reach, axis=(1, 2))
    chosen = views[:, ::sh, ::sw, :, ::dh, ::dw][:, : out[0], : out[1]]
    return np.moveaxis(chosen, 3, -1)
