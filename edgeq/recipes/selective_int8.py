"""selective-int8: the layers that lose most by quantization stay more precise, all others are int8.

A layer is the more sensitive, the more noise it brings into the model's output y when it alone is
quantized (ptq/sensitivity.py):

    S = 10 log10(sum y^2 / sum (y - y_alone)^2)

The layers of the lowest S are kept in float32, or in int16x8: activations in 16 bits, weights in 8,
which mends what is lost in activations, most of all between two kept layers. What moves values
between kept layers is kept with them. All others are as static-int8 has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from edgeq.errors import Refused
from edgeq.graph import parse
from edgeq.ptq.keeping import Kept, able_to, keeping
from edgeq.ptq.posttraining import Candidate, Given, PostTraining, best, given, write_best
from edgeq.ptq.sensitivity import Row, Table, sensitivity, write
from edgeq.quantization import DETAILS, KEPT, KeptAs, note

SMALL = 0.1  # dB


@dataclass(frozen=True)
class SelectiveInt8(PostTraining):
    """Full-integer quantization but for the `keep` most sensitive layers, kept as `keep_as`.

    That may be `either`: int16x8, unless float32 brings the scores clearly closer to the float ones.
    """

    expands: ClassVar[tuple[str, ...]] = ("keep",)
    keep: Annotated[int, msgspec.Meta(ge=1)] = 1
    keep_as: Literal["", "either", "int16x8", "float32"] = ""

    def quantize(self, out: Path, baseline: Path, calibration: Path) -> None:
        """Write `out/model.tflite`, and the table of its layers into `out/details`.

        Raises Refused where no layer would be left in int8, or too few can be kept in this way.
        """
        start = given(baseline, calibration, self.wanted(), self.range)
        plain = start.static(start.baseline)
        table = sensitivity(start.baseline, plain.content, start.samples)
        if self.keep >= len(table.layers):
            raise Refused(f"keep: {self.keep} leaves no layer in int8: the model has {len(table.layers)}",
                          "keep fewer, or take static-int16x8 or float32")
        tried = self._tried(start, plain, table)
        candidate = best([kept.candidate for kept in tried])
        wanted = next(kept.given.wanted for kept in tried if kept.candidate is candidate)
        names = ", ".join(map(str, self._chosen(start, table, wanted.kept_as)))
        write(out / DETAILS, table)
        write_best(out, [candidate], f"kept as {wanted.kept_as}: {names}", wanted)
        note(out, compared(candidate.loss, plain.loss))

    def _tried(self, start: Given, plain: Candidate, table: Table) -> list[Kept]:
        """What `keep_as` admits, as it is and with its biases corrected; Refused where none can be had."""
        found: list[Kept] = []
        refusals: list[Refused] = []
        for kind in KEPT:
            if self.keep_as in ("", "either", kind):
                try:
                    places = [row.index for row in self._chosen(start, table, kind)]
                    kept = keeping(start, plain, places, kind)
                    found += [kept, kept.corrected()]
                except Refused as refusal:
                    refusals.append(refusal)
        if not found:
            raise refusals[0]
        return found

    def _chosen(self, start: Given, table: Table, kept_as: KeptAs) -> list[Row]:
        """The most sensitive layers that can be kept as `kept_as`; Refused where there are too few."""
        able = able_to(parse(start.baseline, "the model"), start.wanted.ends, kept_as)
        rows = [row for row in table.layers if row.index in able]
        if self.keep > len(rows):
            raise Refused(f"keep: {self.keep} is too many: {len(rows)} of {len(table.layers)} layers can "
                          f"stay in {kept_as}", "keep fewer, or keep them as float32")
        return rows[: self.keep]


def compared(loss: float, plain: float) -> str:
    """How much closer to the float scores keeping layers brings those on calibration samples, in words."""
    tiny = float(np.finfo(np.float64).tiny)
    gain = 10 * np.log10(max(plain, tiny) / max(loss, tiny))
    if gain < SMALL:
        return "that comes no closer to the float scores than all layers in int8 do"
    return f"that comes {gain:.1f} dB closer to the float scores than all layers in int8 do"
