"""What a layer with weights computes, taken from its operation: weights, sums, windows.

The one rule: only what TFLM's int8 kernels do, with TFLM's own arithmetic; a layer of any other kind is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Integers
from edgeq.firmware.arithmetic import bounds, multipliers
from edgeq.firmware.fit import Sums, reach
from edgeq.firmware.kernel import Operation
from edgeq.graph import Tensor, values_of

SAME = 0  # of schema.fbs: Padding


@dataclass(frozen=True)
class Axis:
    """Windows along one axis: `outputs` of `taps` values, `stride` apart, the first `before` ahead of 0."""

    size: int
    outputs: int
    taps: int
    stride: int
    before: int

    def origin(self, output: str, scale: int = 1) -> str:
        """Where the window of an output (its number in C) begins, `scale` times."""
        factor = self.stride * scale
        start = output if factor == 1 else f"{output} * {factor}"
        return f"{start} - {self.before * scale}" if self.before else start

    @property
    def first(self) -> int:
        """The first output whose window begins inside."""
        return min(-(-self.before // self.stride), self.outputs)

    @property
    def last(self) -> int:
        """One behind the last output whose window ends inside, `first` at least."""
        inside = (self.size + self.before - self.taps) // self.stride + 1
        return max(self.first, min(inside, self.outputs))


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of shape (outputs, …), and what becomes of the sums; `border` is the input's zero point."""

    weights: Integers
    sums: Sums
    border: int


def layer(operation: Operation, weights: Integers) -> Layer | None:
    """The layer of an operation; `weights` are its own with the output channels first.

    None where its bias, the zero point of the input taken in, is beyond 32 bits.

    Raises Refused for an activation without integer kernel.
    """
    flat = weights.reshape(len(weights), -1)
    border = int(operation.source.grid.zero_points[0])
    mantissas, shifts = (np.broadcast_to(each, len(flat)) for each in multipliers(
        operation.name, operation.source.grid, operation.input(1).grid, operation.sink.grid))
    least, most = reach(flat)
    low, high = bounds(operation.option("fusedActivationFunction"), operation.sink.grid, "INT8")
    bias = _bias(operation, len(flat)) - border * flat.sum(1)
    sums = Sums(mantissas, shifts, bias, least, most, int(operation.sink.grid.zero_points[0]), low, high)
    return Layer(weights, sums, border) if np.abs(bias).max() < 2**31 else None


def integers(tensor: Tensor) -> Integers:
    """The values of a constant tensor, in 64 bits."""
    return values_of(tensor).reshape(tensor.shape).astype(np.int64)


def suits(operation: Operation) -> bool:
    """Whether an operation has int8 at both ends, and constant weights of int8 and bias of int32."""
    ends = (operation.source, operation.input(1), operation.sink)
    constants = [each for each in operation.inputs[1:] if each is not None]
    return (all(each.dtype == "INT8" for each in ends) and all(each.constant for each in constants)
            and all(each.dtype == "INT32" for each in constants[1:]))


def windows(operation: Operation) -> tuple[Axis, Axis] | None:
    """The windows of a convolution, down and across; None for a dilated one, or more than one image."""
    taps = operation.input(1).shape[1:3]
    factors = (operation.option("dilationHFactor"), operation.option("dilationWFactor"))
    dilated = any(factor > 1 and tap > 1 for factor, tap in zip(factors, taps, strict=True))
    if operation.source.shape[0] != 1 or dilated:
        return None
    return padded(operation, (taps[0], taps[1]))


def padded(operation: Operation, taps: tuple[int, int]) -> tuple[Axis, Axis]:
    """The windows of `taps`, down and across, with strides and padding as an operation has them."""
    same = operation.option("padding") == SAME
    sizes, outputs = operation.source.shape[1:3], operation.sink.shape[1:3]
    strides = (operation.option("strideH"), operation.option("strideW"))
    down, across = (
        Axis(length, out, tap, stride, max((out - 1) * stride + tap - length, 0) // 2 if same else 0)
        for length, out, tap, stride in zip(sizes, outputs, taps, strides, strict=True))
    return down, across


def _bias(operation: Operation, channels: int) -> Integers:
    present = len(operation.inputs) > 2 and operation.inputs[2] is not None
    return integers(operation.input(2)).reshape(-1) if present else np.zeros(channels, np.int64)
