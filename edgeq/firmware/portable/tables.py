"""Functions of one 8-bit value, as tables of all 256: what TensorFlow Lite Micro computes for each.

The one rule: pure functions from values and grids to values, in TFLM's own integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.errors import Refused
from edgeq.firmware.arithmetic import multiplier, scaled
from edgeq.firmware.portable.fixed_point import halved, hyperbolic_tangent, logistic
from edgeq.graph import Quantization

INPUT_BITS = 4  # integer bits of the input of LOGISTIC and TANH
SIX = 6.0
Function = Callable[[Integers], Integers]


def requantized(values: Array, source: Quantization, sink: Quantization, kind: str) -> Integers:
    """QUANTIZE: `values` of one grid on another, as integers of the numpy type `kind`."""
    mantissa, shift = multiplier(float(source.scales[0]) / float(sink.scales[0]))
    limits = np.iinfo(kind)
    found = scaled(values - int(source.zero_points[0]), mantissa, shift) + int(sink.zero_points[0])
    return clipped(found, int(limits.min), int(limits.max))


def relu(values: Array, source: Quantization, sink: Quantization) -> Integers:
    """RELU: as QUANTIZE, and not below the zero point."""
    return np.maximum(requantized(values, source, sink, "int8"), int(sink.zero_points[0]))


def relu6(values: Array, source: Quantization, _: Quantization) -> Integers:
    """RELU6: TFLM clamps the integers as they are, by the grid of the input."""
    zero = int(source.zero_points[0])
    return clipped(values, zero, six(source, "int8"))


def six(grid: Quantization, kind: str) -> int:
    """The number 6 on a grid of `kind`, rounded half away from zero."""
    found = int(grid.zero_points[0]) + math.floor(float(np.float32(SIX) / grid.scales[0]) + 0.5)
    return min(found, int(np.iinfo(kind).max))


def sigmoid(values: Array, source: Quantization, sink: Quantization) -> Integers:
    """LOGISTIC, whose output grid is 1/256 from -128 on."""
    _require(sink, 1 / 256, -128)
    return _saturating(values, source,
                       lambda raw: clipped(halved(logistic(raw, INPUT_BITS), 23) - 128, -128, 127))


def tanh(values: Array, source: Quantization, sink: Quantization) -> Integers:
    """TANH, whose output grid is 1/128 around 0."""
    _require(sink, 1 / 128, 0)
    return _saturating(values, source,
                       lambda raw: clipped(halved(hyperbolic_tangent(raw, INPUT_BITS), 24), -128, 127))


def hard_swish(values: Array, source: Quantization, sink: Quantization) -> Integers:
    """HARD_SWISH: x * relu6(x + 3) / 6, in 16-bit fixed point as TFLM has it."""
    fine = np.float32(1 / 128) * source.scales[0]
    outward, down = _short(float(fine / sink.scales[0]))
    if down > 0:
        raise Refused("its output has a scale too small for that of its input", "calibrate the model again")
    inward, exponent = _short(float(fine / np.float32(3 / 32768)))
    raised = (np.asarray(values, np.int64) - int(source.zero_points[0])) << 7
    part = _reluish(raised, inward, exponent)
    whole = part * _high16(raised, outward)
    shrunk = np.sign(whole) * (np.abs(whole) >> 15)
    return clipped(halved(shrunk, -down) + int(sink.zero_points[0]), -128, 127)


def clipped(values: Array, low: int, high: int) -> Integers:
    """The values within low .. high."""
    found: Integers = np.clip(np.asarray(values, np.int64), low, high)
    return found


def _saturating(values: Array, source: Quantization, within: Function) -> Integers:
    """A function of real x of about -16 .. 16, and its ends beyond; `within` takes raw Q4."""
    fraction, shift = math.frexp(float(source.scales[0]) * (1 << (31 - INPUT_BITS)))
    mantissa = math.floor(fraction * 2**31 + 0.5)
    radius = math.floor(((1 << INPUT_BITS) - 1) * (1 << (31 - INPUT_BITS)) / 2.0**shift)
    raw = np.asarray(values, np.int64) - int(source.zero_points[0])
    inner = within(scaled(clipped(raw, -radius, radius), mantissa, shift))
    found: Integers = np.where(raw <= -radius, -128, np.where(raw >= radius, 127, inner))
    return found


def _require(sink: Quantization, scale: float, zero_point: int) -> None:
    if int(sink.zero_points[0]) != zero_point or float(sink.scales[0]) != scale:
        raise Refused(f"its output is on a grid other than {scale} around {zero_point}",
                      "quantize the model by TFLiteConverter, which gives it that grid")


def _short(factor: float) -> tuple[int, int]:
    """A factor as a 15-bit mantissa and an exponent."""
    mantissa, shift = multiplier(factor)
    return min((mantissa + (1 << 15)) >> 16, 0x7FFF), shift


def _high16(first: Array, second: int) -> Integers:
    """The product of 16-bit numbers by 2^15, rounded half up (away from zero below it)."""
    return clipped((first * second + (1 << 14)) >> 15, -(1 << 15), (1 << 15) - 1)


def _reluish(raised: Integers, mantissa: int, exponent: int) -> Integers:
    """relu6(x + 3) / 6, in 16 bits."""
    low, high = -(1 << 15), (1 << 15) - 1
    found = clipped(raised << max(exponent - 1, 0), low, high)
    found = _high16(found, mantissa)
    if exponent > 0:
        found = clipped(found << 1, low, high)
    if exponent < 0:
        found = halved(found, -exponent)
    return (found + (1 << 15)) >> 1
