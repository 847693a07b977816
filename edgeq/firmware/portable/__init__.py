"""Portable kernels: plain C99 that is bit-exact with TensorFlow Lite Micro's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator
from edgeq.firmware.portable.convolution import convolution
from edgeq.firmware.portable.dense import dense
from edgeq.firmware.portable.depthwise import depthwise
from edgeq.firmware.portable.transposed import transposed

PORTABLE: Mapping[str, Generator] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
    "TRANSPOSE_CONV": transposed,
}
