"""Frontends: how a trained model becomes the float baseline. One module each; FRONTENDS lists them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgeq.frontends.h5 import H5
from edgeq.frontends.keras import Keras
from edgeq.frontends.keras_exported import KerasExported
from edgeq.frontends.pt2 import Pt2
from edgeq.frontends.pt2_tflite import Pt2Tflite
from edgeq.frontends.saved_model import SavedModel
from edgeq.frontends.tflite import Tflite
from edgeq.frontends.torch_function import TorchFunction
from edgeq.frontends.torch_tflite import TorchTflite


class Frontend(Protocol):
    """A frozen dataclass; its fields are what a model in pipeline.yaml may say of its source."""

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite` (or .pt2 for ExecuTorch), the float model with its batch fixed to 1.

        Raises ConfigError where the source is damaged, quantized, dynamic, or holds code.
        """


FRONTENDS: Mapping[tuple[str, str], type[Frontend]] = {
    ("tflite", "keras"): Keras,
    ("tflite", "h5"): H5,
    ("tflite", "saved-model"): SavedModel,
    ("tflite", "tflite"): Tflite,
    ("tflite", "torch"): TorchTflite,
    ("tflite", "pt2"): Pt2Tflite,
    ("executorch", "torch"): TorchFunction,
    ("executorch", "pt2"): Pt2,
    ("executorch", "keras"): KerasExported,
    ("executorch", "h5"): KerasExported,
}

CODE = "torch"  # the kind of a source that is a function of the user's: it makes a PyTorch module
SUFFIXES: Mapping[str, str] = {
    ".keras": "keras", ".h5": "h5", ".hdf5": "h5", ".tflite": "tflite", ".pt2": "pt2"}


def kind_of(source: Path) -> str | None:
    """The frontend's name for the file or folder at `source`; None where nothing reads it."""
    if source.is_dir():
        return "saved-model" if (source / "saved_model.pb").exists() else None
    return SUFFIXES.get(source.suffix.lower())
