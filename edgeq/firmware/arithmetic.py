"""TFLite's integer arithmetic, in numpy: what every kernel must compute, and constants are made from.

The formulas are those of gemmlowp's fixed point and of TensorFlow Lite Micro's kernel_util: a real
factor is a 31-bit mantissa and a power of two, and a product with it is rounded twice.
"""

from __future__ import annotations

import math

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.errors import Refused
from edgeq.graph import Quantization

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6")  # of schema.fbs: ActivationFunctionType
BOUNDS = {"relu": (0.0, math.inf), "relu_n1_to_1": (-1.0, 1.0), "relu6": (0.0, 6.0)}


def multiplier(factor: float) -> tuple[int, int]:
    """A real `factor` as (mantissa, shift): factor = mantissa * 2^(shift - 31), mantissa of 31 bits.

    Zero, and what is too small to matter, is (0, 0) (TFLite's QuantizeMultiplier).
    """
    if factor == 0:
        return 0, 0
    fraction, shift = math.frexp(factor)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, shift = mantissa // 2, shift + 1
    return (mantissa, shift) if shift >= -31 else (0, 0)


def multipliers(
    operator: str, source: Quantization, weights: Quantization, sink: Quantization
) -> tuple[Integers, Integers]:
    """What the accumulators of a layer are scaled by, an entry a scale of the weights: mantissas, shifts.

    FULLY_CONNECTED multiplies two single scales in single precision, all else in double (TFLite's
    GetQuantizedConvolutionMultipler and PopulateConvolutionQuantizationParams).
    """
    single = operator == "FULLY_CONNECTED" and not weights.per_channel
    kind = np.float32 if single else np.float64
    products = (source.scales[0].astype(kind) * weights.scales.astype(kind)).astype(np.float64)
    both = np.array([multiplier(float(each)) for each in products / float(sink.scales[0])], np.int64)
    return both[:, 0], both[:, 1]


def scaled(values: Array, mantissa: Array | int, shift: Array | int) -> Integers:
    """`values` * mantissa * 2^(shift - 31), rounded twice (MultiplyByQuantizedMultiplier).

    The shapes broadcast; values are within 32 bits, and so is the result.
    """
    left, right = np.maximum(shift, 0), np.maximum(-np.asarray(shift, np.int64), 0)
    high = ((np.asarray(values, np.int64) << left) * np.asarray(mantissa, np.int64) + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    rounded: Integers = (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))
    return rounded


def bounds(activation: int, grid: Quantization, dtype: str) -> tuple[int, int]:
    """The integers that a fused `activation` (its number in schema.fbs) leaves, lowest and highest.

    Raises Refused for an activation that full-integer kernels do not have.
    """
    kind = np.iinfo(dtype.lower())
    if activation >= len(ACTIVATIONS):
        raise Refused(f"its fused activation {activation} has no integer kernel", "use ReLU or ReLU6")
    low, high = BOUNDS.get(ACTIVATIONS[activation], (-math.inf, math.inf))
    return (max(int(kind.min), _on_grid(low, grid)) if math.isfinite(low) else int(kind.min),
            min(int(kind.max), _on_grid(high, grid)) if math.isfinite(high) else int(kind.max))


def _on_grid(value: float, grid: Quantization) -> int:
    """TFLite's Quantize of a bound: the zero point plus value / scale, rounded half away from zero."""
    ratio = np.float32(value) / np.float32(grid.scales[0])
    return int(grid.zero_points[0]) + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))
