"""Kernels for cores with the DSP extension (Cortex-M4, M7, M33): SMLAD on pairs of 16 bits.

They use no register of a floating-point unit, and read words at any address: unaligned access, which
these cores allow after reset, must not have been made to trap.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.dsp.addition import add
from edgeq.firmware.dsp.pooling import average_pool_2d
from edgeq.firmware.dsp.weighted import conv_2d, depthwise_conv_2d, fully_connected
from edgeq.firmware.kernel import Generator

DSP: Mapping[str, Generator] = {
    "ADD": add,
    "AVERAGE_POOL_2D": average_pool_2d,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
}
