"""The Pareto front: of what costs more and scores no better, nothing is on it.

The one rule: pure arithmetic over (cost, score) pairs; where a figure comes from is for others to say.
"""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the `points` (cost, score) on the front, by cost; of equals, all.

    A point is on it where none costs no more and scores no less, and differs in one of both.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] > points[kept[-1]][1] or points[index] == points[kept[-1]]:
            kept.append(index)
    return kept
