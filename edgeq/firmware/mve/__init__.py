"""Kernels for cores with Helium (Cortex-M55): VMLADAV on vectors of 16 bytes."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator
from edgeq.firmware.mve.windows import convolution, fully_connected, spread

MVE: Mapping[str, Generator] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": spread,
    "FULLY_CONNECTED": fully_connected,
}
