"""qat-int8 for exported programs: the model is trained on with its quantization simulated.

Jacob et al. 2018 (arXiv 1712.05877), by torchao's PT2E (exported/training.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from edgeq.exported.quantizing import write_trained
from edgeq.exported.schemes import Grids, Scheme
from edgeq.exported.training import Course
from edgeq.quantization import Granularity

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


@dataclass(frozen=True)
class ExportedQatInt8:
    """Quantization-aware training of the baseline, with its normalizations folded."""

    precision: ClassVar = "int8"
    inputs: ClassVar[tuple[Literal["baseline"], Literal["training"]]] = ("baseline", "training")
    packages: ClassVar = ("torch", "torchao", "executorch")
    native: ClassVar = True
    granularity: Granularity = "per_channel"
    epochs: AtLeastOne | None = None
    learning_rate: Positive = 1e-4
    batch_size: AtLeastOne = 64
    seed: NotNegative = 0
    scheme: Scheme = "xnnpack"

    def quantize(self, out: Path, baseline: Path, training: Path) -> None:
        """Write `out/model.pt2`; Refused where a layer stays in float, or the training diverges."""
        course = Course(self.epochs or 1, self.learning_rate, self.batch_size, self.seed)
        write_trained(out, (baseline, training), Grids(self.scheme, self.granularity, "trained"), course)
