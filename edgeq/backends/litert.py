"""No compiler: the target interprets the .tflite file itself (LiteRT, TensorFlow Lite Micro)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.program import counted, ship, write_costs
from edgeq.quantization import MODEL


@dataclass(frozen=True)
class Litert:
    """The program is the model."""

    packages: ClassVar = ("ai-edge-litert",)

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the model as it is, with its size and multiply-accumulates."""
        model = quantized / MODEL
        write_costs(out, ship(out, model, MODEL) | counted(model))
