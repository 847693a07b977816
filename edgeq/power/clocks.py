"""An instrument's clock and the host's: when, by the host, the instrument's time began.

The one rule: what arrives can only be late, never early; so the earliest of all arrivals tells best.
"""

from __future__ import annotations

import numpy as np

from edgeq.arrays import Array


def shift(arrived: Array, own: Array) -> tuple[float, float]:
    """What to add to the instrument's `own` times (s) to have the host's, and how far that may be off (s).

    `arrived` (n) are the host's times when what the instrument took at `own` (n) had arrived:
    shift = min(arrived - own), and the median delay is what it may be off.
    """
    late = np.asarray(arrived, np.float64) - np.asarray(own, np.float64)
    least = float(late.min())
    return least, float(np.median(late)) - least


def drift(arrived: Array, own: Array) -> float:
    """By what share the instrument's clock is slow (above 0) or fast (below), by the host's; as `shift`.

    The least delay of the second half, less that of the first, over half the time: one arrival in each half
    that was not late is enough.
    """
    late = np.asarray(arrived, np.float64) - np.asarray(own, np.float64)
    half = (float(own[-1]) - float(own[0])) / 2
    second = np.asarray(own) > float(own[0]) + half
    if half <= 0 or second.all() or not second.any():
        return 0.0
    return float(late[second].min() - late[~second].min()) / half
