"""Firmware for Cortex-M, made by edgeq.firmware: C ahead of time, compiled and linked for the device."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from edgeq import tool
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.firmware.order import ERROR, Order, compiler

MODULE = "edgeq.firmware"
ORDER = "order.json"
ERRORS = {kind.__name__: kind for kind in (ConfigError, Refused, ToolError)}


@dataclass(frozen=True)
class Firmware(Order):
    """All that can be ordered (see Order), and how long making it may take."""

    packages: ClassVar = ("ai-edge-litert", "tflite-micro")
    programs: ClassVar = (f"{MODULE}.__main__",)
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """The cross compiler; ToolError with what to install where there is none."""
        return (compiler(self.compiler),)

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
