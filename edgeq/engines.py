"""The two engines that quantize: litert-quantizer on the baseline, TFLiteConverter on the source.

A recipe names its engine; here is all that follows from the name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeq import converter, quantizer
from edgeq.arrays import Array
from edgeq.baseline import NAME
from edgeq.quantization import Static

Engine = Literal["litert-quantizer", "tflite-converter"]


def model_input(engine: Engine) -> Literal["source", "baseline"]:
    """What `engine` starts from."""
    return "source" if engine == converter.NAME else "baseline"


def packages(engine: Engine) -> tuple[str, ...]:
    """What `engine` needs installed."""
    if engine == converter.NAME:
        return ("tensorflow", "keras", "tf-keras")
    return (quantizer.NAME, "ai-edge-litert")


def static(
    engine: Engine, model: Path, signature: str, samples: Array, wanted: Static
) -> bytes:
    """`model` with weights and activations as `wanted`, ranges over `samples` (n, *shape)."""
    if engine == converter.NAME:
        return converter.static(converter.converter_of(model, signature), samples, wanted)
    return quantizer.static(model / NAME, samples, wanted)


def dynamic(engine: Engine, model: Path, signature: str) -> bytes:
    """`model` with int8 weights, its activations quantized at run time."""
    if engine == converter.NAME:
        return converter.dynamic(converter.converter_of(model, signature))
    return quantizer.dynamic(model / NAME)


def float16(engine: Engine, model: Path, signature: str) -> bytes:
    """`model` with its weights stored as float16."""
    if engine == converter.NAME:
        return converter.float16(converter.converter_of(model, signature))
    return quantizer.float16(model / NAME)
