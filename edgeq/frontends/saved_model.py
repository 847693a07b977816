"""TensorFlow SavedModels to the float baseline, one signature of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.converter import convert, converter_of
from edgeq.trust import code_in_saved_model, refuse_code


@dataclass(frozen=True)
class SavedModel:
    """Convert the function behind `signature`; `trust` lets operators that run code through."""

    packages: ClassVar = ("tensorflow",)
    trust: bool = False
    signature: str = ""

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; ConfigError where the folder is damaged or runs code."""
        found = list(code_in_saved_model(source))  # reads the file whole, and so proves it sound
        if not self.trust:
            refuse_code(found, source.name)
        write_baseline(out, convert(converter_of(source, self.signature)), source.name)
