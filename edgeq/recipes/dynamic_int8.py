"""dynamic-int8: int8 weights, activations quantized at run time by the kernels. No calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq import engines
from edgeq.quantization import MODEL


@dataclass(frozen=True)
class DynamicInt8:
    """int8 weights per channel; inputs and outputs stay float32."""

    precision: ClassVar = "dynamic-int8"
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
        """Write `out/model.tflite`, a quarter of the size; Refused where the engine cannot."""
        (out / MODEL).write_bytes(engines.dynamic(self.engine, model, self.signature))
