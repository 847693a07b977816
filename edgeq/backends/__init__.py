"""Backends: how a quantized model becomes what a target runs. One module each; BACKENDS lists them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgeq.backends.edgetpu import EdgeTpu
from edgeq.backends.executorch import Executorch
from edgeq.backends.firmware import Firmware
from edgeq.backends.litert import Litert
from edgeq.backends.nnapi import Nnapi
from edgeq.backends.vela import Vela


class Backend(Protocol):
    """A frozen dataclass; its fields are what a target.yaml may set."""

    def compile(self, out: Path, quantized: Path) -> None:
        """Write a program into `out`: ship/, costs.json, and what can be run of it (program.py).

        Raises Refused where the model has what the target cannot take, ToolError where the
        compiler fails.
        """


BACKENDS: Mapping[str, type[Backend]] = {
    "edgetpu": EdgeTpu,
    "executorch": Executorch,
    "firmware": Firmware,
    "litert": Litert,
    "nnapi": Nnapi,
    "vela": Vela,
}
