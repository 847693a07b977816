"""Kernels for cores with Helium (Cortex-M55): VMLADAV on vectors of 16 bytes."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator
from edgeq.firmware.mve.adding import addition
from edgeq.firmware.mve.lookup import quantize, tabled
from edgeq.firmware.mve.pooling import average, mean, most
from edgeq.firmware.mve.scaling import multiplication
from edgeq.firmware.mve.windows import convolution, fully_connected, spread
from edgeq.firmware.portable.tables import hard_swish, relu, relu6, sigmoid, tanh

MVE: Mapping[str, Generator] = {
    "ADD": addition,
    "AVERAGE_POOL_2D": average,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": spread,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": tabled(hard_swish),
    "LOGISTIC": tabled(sigmoid),
    "MAX_POOL_2D": most,
    "MEAN": mean,
    "MUL": multiplication,
    "QUANTIZE": quantize,
    "RELU": tabled(relu),
    "RELU6": tabled(relu6),
    "SUB": addition,
    "TANH": tabled(tanh),
}
