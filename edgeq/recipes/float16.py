"""float16: weights stored as half floats, computed in float32: half the size, hardly any loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq import engines
from edgeq.quantization import MODEL


@dataclass(frozen=True)
class Float16:
    """Weights in float16; activations, inputs and outputs stay float32."""

    precision: ClassVar = "float16"
    engine: engines.Engine = "litert-quantizer"
    signature: str = ""

    @property
    def inputs(self) -> tuple[Literal["source", "baseline"]]:
        """The source or the baseline, as the engine has it."""
        return (engines.model_input(self.engine),)

    @property
    def packages(self) -> tuple[str, ...]:
        """What the engine needs installed."""
        return engines.packages(self.engine)

    def quantize(self, out: Path, model: Path) -> None:
        """Write `out/model.tflite`, half the size; Refused where the engine cannot."""
        (out / MODEL).write_bytes(engines.float16(self.engine, model, self.signature))
