"""How far what a board's kernels compute is from what this machine's compute, and how to say it.

The one rule: integers are compared by steps of their grid (LSB), reals by the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array


@dataclass(frozen=True)
class Difference:
    """Of `samples`, how many are `differing` and by how much at `most`: LSB where `integer`, else a share."""

    samples: int
    differing: int
    most: float
    integer: bool

    def __str__(self) -> str:
        if not self.differing:
            return f"give what this machine's give, bit for bit, in all {self.samples} samples"
        amount = f"{self.most:.0f} LSB" if self.integer else f"{self.most:.1e} of the largest output"
        return (f"differ from this machine's by at most {amount}, in {self.differing} of {self.samples} "
                "samples")


def difference(found: Array, wanted: Array) -> Difference:
    """How `found` differs from `wanted`, both (n, …) of one type."""
    integer = np.issubdtype(wanted.dtype, np.integer)
    kind = np.int64 if integer else np.float64
    rows = (np.ascontiguousarray(each).reshape(len(wanted), -1) for each in (found, wanted))
    one, other = (each.astype(kind) for each in rows)
    apart = np.abs(one - other)
    largest = 1 if integer else float(np.abs(other).max(initial=0)) or 1.0
    differing = int((one != other).any(axis=1).sum())
    return Difference(len(wanted), differing, float(apart.max(initial=0)) / largest, bool(integer))
