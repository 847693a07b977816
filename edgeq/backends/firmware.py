"""Firmware for Cortex-M, made by edgeq.firmware: C ahead of time, compiled and linked for the device."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from edgeq import tool
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.firmware.order import ERROR, LIBRARY, Order, compiler

MODULE = "edgeq.firmware"
ORDER = "order.json"
ERRORS = {kind.__name__: kind for kind in (ConfigError, Refused, ToolError)}


@dataclass(frozen=True)
class Firmware(Order):
    """All that can be ordered (see Order), and how long making it may take."""

    programs: ClassVar = (f"{MODULE}.__main__",)
    timeout_s: float = 600.0

    @property
    def packages(self) -> tuple[str, ...]:
        """What reads the model and computes its golden vectors; the copy of CMSIS-NN, where that is used."""
        copy = ("bakenn",) if self.kernels == "cmsis-nn" and not self._library else ()
        return ("ai-edge-litert", "tflite-micro", *copy)

    def tools(self) -> tuple[Path, ...]:
        """The cross compiler, and the user's CMSIS-NN where that is used.

        Raises ToolError with what to install where there is no compiler, or to name where no such folder.
        """
        here = () if self.images() else (compiler(self.compiler),)
        root = self._library
        if self.kernels != "cmsis-nn" or root is None:
            return here
        if not root.is_dir():
            raise ToolError(f"${LIBRARY} names {root}, which is no folder",
                            "name the folder of CMSIS-NN that has Include/ and Source/")
        return (*here, root)

    @property
    def _library(self) -> Path | None:
        root = os.environ.get(LIBRARY)
        return Path(root) if root else None

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the sources, the library and the test firmware, with their memory.

        Raises Refused for what has no kernel or does not fit, ToolError for a missing compiler.
        """
        (out / ORDER).write_text(json.dumps(asdict(self)), encoding="utf-8")
        finished = tool.run([sys.executable, "-P", "-m", MODULE, ORDER, quantized.absolute()],
                            timeout_s=self.timeout_s, cwd=out, name=MODULE)
        if (out / ERROR).exists():
            kind, message, hint = json.loads((out / ERROR).read_text(encoding="utf-8"))
            raise ERRORS[kind](message, hint)
        if finished.status:
            raise ToolError(f"{MODULE} ended with status {finished.status}", tool.tail(finished.output))
        (out / ORDER).unlink()
