"""qat-int8: the model is trained on with its quantization simulated, so that its weights allow for it.

Jacob et al. 2018 (arXiv 1712.05877), by TF-MOT (https://www.tensorflow.org/model_optimization):

    y = scale * (clip(round(x / scale) + zero_point, -128, 127) - zero_point)    going forward
    dL/dx = dL/dy where x lies in the range, else 0                              going back

for weights and activations. A Keras 3 model is carried over to tf_keras first, layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeq.training.int8 import Trained, quantize_aware, school


@dataclass(frozen=True)
class QatInt8(Trained):
    """Full-integer quantization by quantization-aware training from the Keras source."""

    inputs: ClassVar[tuple[Literal["source"], Literal["training"]]] = ("source", "training")

    def quantize(self, out: Path, source: Path, training: Path, partial: Path | None = None) -> None:
        """Write `out/model.tflite`; a training that was stopped goes on from what is in `partial`.

        Raises Refused where TF-MOT does not take a layer, or the training diverges.
        """
        given = school(out, source, training, self, partial)
        given.see(out, self.wanted())
        quantize_aware(out, given, given.model, self.wanted())
