"""static-int8: integers throughout, int8 weights and activations, ranges from calibration.

real = scale * (q - zero_point), as in TFLite's int8 specification
(https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq import engines
from edgeq.ptq.ranges import Choice
from edgeq.quantization import FullInteger, write_static


@dataclass(frozen=True)
class StaticInt8(FullInteger):
    """Full-integer post-training quantization; `range` says where a grid begins and ends.

    `auto` chooses for each tensor by the error that it causes in the scores of the calibration samples.
    """

    precision: ClassVar = "int8"
    range: Choice = "auto"
    engine: engines.Engine = "litert-quantizer"
    signature: str = ""

    @property
    def inputs(self) -> tuple[Literal["source", "baseline"], Literal["calibration"]]:
        """The source or the baseline, as the engine has it, and calibration samples."""
        return (engines.model_input(self.engine), "calibration")

    @property
    def packages(self) -> tuple[str, ...]:
        """What the engine needs installed."""
        return engines.packages(self.engine)

    def quantize(self, out: Path, model: Path, calibration: Path) -> None:
        """Write `out/model.tflite`; Refused where the engine leaves anything in float."""
        wanted = self.wanted()
        content = engines.static(self.engine, (model, calibration), self.signature, wanted, self.range)
        write_static(out, content, wanted, self.engine)
