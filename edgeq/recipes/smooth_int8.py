"""smooth-int8: outliers of normalized activations moved on to the weights that read them.

SmoothQuant (Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", arXiv 2211.10438):

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)     gamma / s, beta / s, W * s

for each channel j between a normalization and the dense layers that read it; all of them, queries, keys
and values, share one s. The larger alpha, the more of the difficulty goes to the weights. The
formulas stand in ptq/smoothing.py, and in ptq/gains.py which normalizations they hold for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgeq.ptq.posttraining import PostTraining, best, given, write_best
from edgeq.ptq.smoothing import Smoothed, smoothed

ALPHAS = 0.5, 0.25, 0.75
SURELY = 0.7  # of the plain model's loss: smoothed channels fill their grids, what exceeds them is clipped
Alpha = Annotated[float, msgspec.Meta(gt=0, lt=1)]


@dataclass(frozen=True)
class SmoothInt8(PostTraining):
    """Full-integer quantization of smoothed layers; `alpha: auto` tries several, and takes the best."""

    alpha: Alpha | Literal["auto"] = 0.5

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`, smoothed where that comes clearly closer to the float scores."""
        wanted = self.wanted()
        start = given(baseline, calibration, wanted, self.range)
        plain = start.static(start.baseline)
        alphas = ALPHAS if self.alpha == "auto" else (self.alpha,)
        tried = {alpha: smoothed(start.baseline, start.samples, alpha) for alpha in alphas}
        found = [start.static(made.content, f"smoothed with alpha {alpha:g}")
                 for alpha, made in tried.items() if made.done]
        if found:
            found.append(start.corrected(best(found)))
        closer = [each for each in found if each.loss < SURELY * plain.loss]
        said = told(max(tried.values(), key=lambda made: made.done))
        if found and not closer:
            said += ", which brought the scores not clearly closer"
        write_best(out, [plain, *closer], said, wanted)


def told(found: Smoothed) -> str:
    """What there was to smooth, and what became of it."""
    total = found.done + found.undone + len(found.left)
    names = ", ".join(dict.fromkeys(name for each in found.left for name in each))
    parts = [
        f"{found.done} of {total} normalizations smoothed" if total else "no normalization can be smoothed",
        f"{found.undone} undone because the float outputs moved" if found.undone else "",
        f"{len(found.left)} left, read by {names} as well" if found.left else "",
    ]
    return ", ".join(filter(None, parts)) + ("" if found.done else ": the float model is as it was")
