"""Float `.tflite` models: the baseline already, once the batch is closed. Needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.interpret import litert


@dataclass(frozen=True)
class Tflite:
    """Take the file as it is. A .tflite holds no code, so `trust` has nothing to admit."""

    packages: ClassVar = ("ai-edge-litert",)
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; ConfigError where the file is damaged or quantized."""
        write_baseline(out, source.read_bytes(), source.name)
        litert(source, "reference")  # verifies the flatbuffer, which reading it does not
