"""A layer with weights as its kernels see it: geometry, a row of weights a channel, requantization.

The one rule: what a kernel here cannot compute is None, never an error: another provider may.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.arithmetic import bounds, multipliers
from edgeq.firmware.dsp.requantize import Requantization, requantization
from edgeq.firmware.fit import Sums, reach
from edgeq.firmware.kernel import Operation
from edgeq.graph import values_of

SAME = 0  # of schema.fbs: Padding


@dataclass(frozen=True)
class Window:
    """What a convolution slides over: (rows, columns) of its input, output, kernel, and so on.

    `channels` are the input's; `pads` how many rows above and columns left of the input it begins.
    """

    source: tuple[int, int]
    sink: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    channels: int
    dilations: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Layer:
    """`weights` (outputs, inputs of each) and how sums of them times int8 inputs become outputs."""

    weights: Integers
    requantization: Requantization
    zero_point: int  # of the input

    @property
    def outputs(self) -> int:
        """How many channels it has."""
        return len(self.weights)

    @property
    def inputs(self) -> int:
        """How many inputs each output is a sum of."""
        return int(self.weights.shape[1])


def plain_int8(operation: Operation) -> bool:
    """Whether input, output and weights are int8, the weights symmetric, and weights and bias constants."""
    constants = [tensor for tensor in operation.inputs[1:] if tensor is not None]
    kinds = [tensor.dtype for tensor in (operation.source, operation.sink, *constants)]
    constant = all(tensor.constant for tensor in constants)
    return (constant and kinds[:3] == ["INT8"] * 3 and set(kinds[3:]) <= {"INT32"}
            and not operation.input(1).grid.zero_points.any())


def layer(operation: Operation, weights: Integers) -> Layer | None:
    """The layer of `operation`, its `weights` as (outputs, inputs); None where its sums are too large."""
    source, sink = operation.grids
    mantissas, shifts = multipliers(operation.name, source, operation.input(1).grid, sink)
    zero_point, count = int(source.zero_points[0]), len(weights)
    bias = _bias(operation, count) - zero_point * weights.sum(1)
    limits = bounds(int(operation.option("fusedActivationFunction")), sink, "INT8")
    least, most = reach(weights)
    sums = Sums(np.broadcast_to(mantissas, count), np.broadcast_to(shifts, count), bias, least, most,
                int(sink.zero_points[0]), *limits)
    found = requantization(sums)
    return None if found is None else Layer(weights, found, zero_point)


def window(operation: Operation) -> Window | None:
    """The geometry of a convolution of one image; None of more."""
    option = operation.option
    (batch, *source, channels), (_, *sink, _) = operation.source.shape, operation.sink.shape
    if batch != 1:
        return None
    kernel, strides = operation.input(1).shape[1:3], (int(option("strideH")), int(option("strideW")))
    dilations = int(option("dilationHFactor")), int(option("dilationWFactor"))
    reaches = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    pads = [0, 0] if int(option("padding")) != SAME else [
        max((after - 1) * stride + reach - before, 0) // 2
        for before, after, stride, reach in zip(source, sink, strides, reaches, strict=True)]
    return Window((source[0], source[1]), (sink[0], sink[1]), (kernel[0], kernel[1]), strides,
                  (pads[0], pads[1]), channels, dilations)


def weights_of(operation: Operation) -> Array:
    """The weights as they lie in the file, as int64."""
    values: Array = values_of(operation.input(1)).astype(np.int64)
    return values


def _bias(operation: Operation, count: int) -> Integers:
    if len(operation.inputs) < 3 or operation.inputs[2] is None:
        return np.zeros(count, np.int64)
    bias: Integers = values_of(operation.input(2)).reshape(-1).astype(np.int64)
    return bias
