"""The area under the ROC curve and how far it can be trusted, from the ranks of the scores.

Anomalies have the label 1 and should score higher than normal samples. A placement is the share of
the other kind that a sample is on the right side of, ties by half; their mean is the area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array
from edgeq.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Placements:
    """The placements of the anomalies (m,) and of the normal samples (n,), or differences of two."""

    anomalies: Array
    normal: Array

    @property
    def area(self) -> float:
        """The area under the ROC curve, or the difference of two."""
        return float(self.anomalies.mean())

    @property
    def standard_error(self) -> float | None:
        """That of the area: √(var(anomalies) / m + var(normal) / n); None for a kind of one sample.

        By DeLong, DeLong, Clarke-Pearson (Biometrics 44, 1988, 837). Where no placement differs
        from another this is 0, which is no evidence of certainty: then half a sample of the smaller
        kind is taken to lie either way, as Agresti and Min do with the cells of a table (Statistics
        in Medicine 24, 2005, 729), and it is 1 / (min(m, n) + 2).
        """
        fewer = min(self.anomalies.size, self.normal.size)
        if fewer < 2:
            return None
        variance = sum(float(each.var(ddof=1)) / each.size for each in (self.anomalies, self.normal))
        return variance**0.5 or 1 / (fewer + 2)

    def __sub__(self, other: Placements) -> Placements:
        """By how much each sample is placed better here than there, the same samples in both."""
        return Placements(self.anomalies - other.anomalies, self.normal - other.normal)


def placements(scores: Array, labels: Array) -> Placements:
    """The placements for scores (n,) and labels (n,), in O(n log n).

    By midranks, as Sun and Xu have it (IEEE Signal Processing Letters 21, 2014, 1389).
    Raises ConfigError where all samples are of one kind.
    """
    anomalous = labels.astype(bool)
    higher, lower = scores[anomalous], scores[~anomalous]
    if not higher.size or not lower.size:
        raise ConfigError("auc needs samples of both kinds, and all labels are the same",
                          "add normal samples (0) and anomalies (1)")
    ranks = midranks(scores)
    return Placements((ranks[anomalous] - midranks(higher)) / lower.size,
                      1 - (ranks[~anomalous] - midranks(lower)) / higher.size)


def midranks(values: Array) -> Array:
    """The rank of each value (n,), from 1 in ascending order; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
