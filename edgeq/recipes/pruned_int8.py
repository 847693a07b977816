"""pruned-int8: the smallest weights of convolutions and dense layers become zero, the others make up for it.

Zhu and Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878), with a constant share of zeros, or
two zeros in any four weights along the input channels (Mishra et al. 2021, arXiv 2104.08378):

    W <- W * mask,  mask = |W| among the largest (1 - sparsity) of its tensor, or two of its four

A weight of zero is the integer 0, so that a file with many of them packs well, and kernels that
know of it can leave them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgeq.errors import ConfigError
from edgeq.training.aware import refusals, see_some
from edgeq.training.int8 import Compressed, School, school

PRUNED = frozenset({"Conv2D", "Dense"})  # what both pruning and its keeping in QAT know
OFTEN = 100  # steps after which the smallest are looked for again
HALF = 0.5
Sparsity = Annotated[float, msgspec.Meta(gt=0, lt=1)]


@dataclass(frozen=True)
class PrunedInt8(Compressed):
    """Full-integer quantization of a model that was pruned by `sparsity`, or by `pattern`."""

    sparsity: Sparsity = HALF
    pattern: Literal["", "2:4"] = ""

    def quantize(
        self, out: Path, source: Path, training: Path, *calibration: Path, partial: Path | None = None,
    ) -> None:
        """Write `out/model.tflite`; a training that was stopped goes on from what is in `partial`.

        Raises Refused where TF-MOT does not take a layer, or a training diverges.
        """
        if self.pattern and self.sparsity != HALF:
            raise ConfigError(f"pruned-int8: the pattern {self.pattern} leaves half of the weights, not "
                              f"{1 - self.sparsity:g}", "leave out `sparsity:` or `pattern:`")
        given = school(out, source, training, self, partial)
        self.write(out, given, (self.compressed, "zeros"), calibration)

    def compressed(self, given: School) -> Any:
        """The school's model, pruned by training."""
        model = pruned(given.model, self.sparsity, self.pattern)
        given.learn(model, "pruning epoch", *callbacks())
        return stripped(model)


def pruned(model: Any, sparsity: float, pattern: str) -> Any:
    """The tf_keras `model` with a mask over the kernels of what can be pruned, to be trained."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    see_some(model, PRUNED, "prune")
    keras = tfmot.sparsity.keras
    schedule = keras.ConstantSparsity(sparsity, begin_step=1, frequency=OFTEN)
    blocks = tuple(map(int, pattern.split(":"))) if pattern else None

    def masked(layer: Any) -> Any:
        if type(layer).__name__ not in PRUNED:
            return layer
        return keras.prune_low_magnitude(layer, schedule, sparsity_m_by_n=blocks)

    with refusals("prune"):
        return tf_keras.models.clone_model(model, clone_function=masked)


def stripped(model: Any) -> Any:
    """The pruned `model` without its masks."""
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras.strip_pruning(model)


def callbacks() -> tuple[Any, ...]:
    """What a training must tell of its steps for masks to be made."""
    import tensorflow_model_optimization as tfmot

    return (tfmot.sparsity.keras.UpdatePruningStep(),)
