"""Kernels for cores with Helium (Cortex-M55): VMLADAV on vectors of 16 bytes."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.firmware.kernel import Generator

MVE: Mapping[str, Generator] = {}
