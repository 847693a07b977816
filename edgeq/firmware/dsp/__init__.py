"""Kernels for cores with the DSP extension (Cortex-M4, M7, M33): SMLAD on pairs of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator

DSP: Mapping[str, Generator] = {}
