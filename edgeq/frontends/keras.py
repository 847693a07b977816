"""Keras 3 models (`.keras`) to the float baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.converter import convert, converter_of
from edgeq.trust import code_in_keras, keras_config, refuse_code


@dataclass(frozen=True)
class Keras:
    """Load with Keras 3 on TensorFlow and convert; `trust` lets code inside the file run."""

    packages: ClassVar = ("tensorflow", "keras")
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; ConfigError where the archive is damaged or holds code."""
        config = keras_config(source)
        if not self.trust:
            refuse_code(code_in_keras(config), source.name)
        write_baseline(out, convert(converter_of(source)), source.name)
