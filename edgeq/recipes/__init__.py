"""Recipes: how a baseline becomes a quantized model. One module each; RECIPES lists them, cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from edgeq.recipes.adaquant_int8 import AdaquantInt8
from edgeq.recipes.adaround_int8 import AdaroundInt4, AdaroundInt8
from edgeq.recipes.clustered_int8 import ClusteredInt8
from edgeq.recipes.dynamic_int8 import DynamicInt8
from edgeq.recipes.equalized_int8 import EqualizedInt8
from edgeq.recipes.exported_dynamic_int8 import ExportedDynamicInt8
from edgeq.recipes.exported_float32 import ExportedFloat32
from edgeq.recipes.exported_int4_group import ExportedGptqInt4, ExportedInt4Group
from edgeq.recipes.exported_qat_int8 import ExportedQatInt8
from edgeq.recipes.exported_static_int8 import ExportedStaticInt8
from edgeq.recipes.float16 import Float16
from edgeq.recipes.float32 import Float32
from edgeq.recipes.gptq_int8 import GptqInt4, GptqInt8
from edgeq.recipes.pruned_int8 import PrunedInt8
from edgeq.recipes.qat_int8 import QatInt8
from edgeq.recipes.selective_int8 import SelectiveInt8
from edgeq.recipes.smooth_int8 import SmoothInt8
from edgeq.recipes.static_int4 import StaticInt4
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.recipes.static_int16x8 import StaticInt16x8

Input = Literal["source", "baseline", "calibration", "training"]


class Recipe(Protocol):
    """A frozen dataclass; its fields are what a rung of the ladder may set."""

    @property
    def precision(self) -> str:
        """What it yields (`int8`, `int16x8`, …): a target accepts it or not."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it takes, the model first, in the order of `quantize`. Never evaluation data."""

    @property
    def quantize(self) -> Callable[..., None]:
        """Of (out, *inputs): write `out/model.tflite` from `inputs`, all of them paths.

        Raises Refused where the model cannot be quantized in this way.
        """


RECIPES: Mapping[tuple[str, str], type[Recipe]] = {
    ("tflite", "float32"): Float32,
    ("tflite", "float16"): Float16,
    ("tflite", "dynamic-int8"): DynamicInt8,
    ("tflite", "static-int8"): StaticInt8,
    ("tflite", "static-int16x8"): StaticInt16x8,
    ("tflite", "smooth-int8"): SmoothInt8,
    ("tflite", "equalized-int8"): EqualizedInt8,
    ("tflite", "gptq-int8"): GptqInt8,
    ("tflite", "adaround-int8"): AdaroundInt8,
    ("tflite", "adaquant-int8"): AdaquantInt8,
    ("tflite", "selective-int8"): SelectiveInt8,
    ("tflite", "static-int4"): StaticInt4,
    ("tflite", "gptq-int4"): GptqInt4,
    ("tflite", "adaround-int4"): AdaroundInt4,
    ("tflite", "qat-int8"): QatInt8,
    ("tflite", "pruned-int8"): PrunedInt8,
    ("tflite", "clustered-int8"): ClusteredInt8,
    ("executorch", "float32"): ExportedFloat32,
    ("executorch", "dynamic-int8"): ExportedDynamicInt8,
    ("executorch", "static-int8"): ExportedStaticInt8,
    ("executorch", "int4-group"): ExportedInt4Group,
    ("executorch", "gptq-int4"): ExportedGptqInt4,
    ("executorch", "qat-int8"): ExportedQatInt8,
}

DEFAULT_LADDER: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("static-int8", {}),
    ("smooth-int8", {}),
    ("equalized-int8", {}),
    ("gptq-int8", {}),
    ("adaround-int8", {}),
    ("adaquant-int8", {}),
    ("selective-int8", {"keep": (1, 2, 4, 8)}),
    ("qat-int8", {}),
)  # cheapest first; a format takes those that it has


def expands(kind: type[Recipe]) -> tuple[str, ...]:
    """The fields of the recipe `kind` in which a list stands for a rung each."""
    fields: tuple[str, ...] = getattr(kind, "expands", ())
    return fields
