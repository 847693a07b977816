"""static-int16x8: int16 activations and int8 weights, for models that int8 activations hurt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from edgeq import engines
from edgeq.quantization import Granularity, Static, Weighted, write_static


@dataclass(frozen=True)
class StaticInt16x8:
    """Full-integer post-training quantization, activations symmetric in 16 bits.

    `granularity_by_operator` holds exceptions for single operators (`FULLY_CONNECTED`); a
    target's own constraints come in here.
    """

    precision: ClassVar = "int16x8"
    granularity: Granularity = "per_channel"
    granularity_by_operator: Mapping[Weighted, Granularity] = field(default_factory=dict)
    inference_input_type: Literal["int16", "float32"] = "int16"
    inference_output_type: Literal["int16", "float32"] = "int16"
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
        wanted = Static(16, self.granularity, self.granularity_by_operator,
                        (self.inference_input_type, self.inference_output_type))
        content = engines.static(self.engine, (model, calibration), self.signature, wanted, "minmax")
        write_static(out, content, wanted, self.engine)
