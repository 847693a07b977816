"""The two engines that quantize: litert-quantizer on the baseline, TFLiteConverter on the source.

A recipe names its engine; here is all that follows from the name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeq import converter
from edgeq.baseline import NAME
from edgeq.errors import Refused
from edgeq.ptq import quantizer
from edgeq.ptq.posttraining import given
from edgeq.ptq.ranges import Choice
from edgeq.quantization import Static
from edgeq.samples import samples_in

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
    engine: Engine, folders: tuple[Path, Path], signature: str, wanted: Static, choice: Choice
) -> bytes:
    """The model with weights and activations as `wanted`, ranges by `choice`.

    `folders` are those of the model that `engine` starts from and of the calibration samples.
    Raises Refused where TFLiteConverter is asked for ranges that it has not.
    """
    model, calibration = folders
    if engine != converter.NAME:
        start = given(model, calibration, wanted, choice)
        return start.static(start.baseline).content
    if choice not in ("auto", "minmax"):
        raise Refused(f"TFLiteConverter has ranges of its own, and not {choice}",
                      "leave out `engine: tflite-converter`, or `range:`")
    return converter.static(converter.converter_of(model, signature), samples_in(calibration), wanted)


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
