"""Recipes: how a baseline becomes a quantized model. One module each; RECIPES lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from edgeq.recipes.dynamic_int8 import DynamicInt8
from edgeq.recipes.float16 import Float16
from edgeq.recipes.float32 import Float32
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
        """What it takes, in the order in which `quantize` wants it. Never evaluation data."""

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
}
