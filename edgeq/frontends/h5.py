"""Keras 2 models (`.h5`) to the float baseline, by tf_keras; an .h5 of Keras 3 by Keras 3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeq.baseline import write_baseline
from edgeq.converter import convert, converter_of
from edgeq.trust import code_in_keras, code_in_keras2, h5_config, refuse_code


@dataclass(frozen=True)
class H5:
    """Load with the Keras that wrote the file and convert; `trust` lets code inside it run."""

    packages: ClassVar = ("tensorflow", "tf-keras", "keras", "h5py")
    trust: bool = False

    def convert(self, out: Path, source: Path) -> None:
        """Write `out/baseline.tflite`; ConfigError where the file is damaged or holds code."""
        found = code_in_h5(source)
        if not self.trust:
            refuse_code(found, source.name)
        write_baseline(out, convert(converter_of(source)), source.name)


def code_in_h5(source: Path) -> Iterator[str]:
    """What in an `.h5` model is code, by the Keras that wrote it; ConfigError where the file is damaged."""
    config, written_by = h5_config(source)
    return code_in_keras2(config, _known_classes()) if written_by.startswith("2") else code_in_keras(config)


def _known_classes() -> frozenset[str]:
    """The names of the classes that tf_keras itself may put into a configuration."""
    import tf_keras

    def public() -> Iterator[str]:
        for part in (tf_keras, tf_keras.layers, tf_keras.layers.experimental, tf_keras.initializers,
                     tf_keras.regularizers, tf_keras.constraints, tf_keras.mixed_precision,
                     tf_keras.activations):
            yield from vars(part)

    return frozenset({*public(), "Functional"})
