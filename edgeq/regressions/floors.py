"""How finely a bench repeats itself: below that, no two of its figures are told apart.

The one rule: a floor says where it comes from. What is computed, or counted by an emulator, repeats exactly,
and has none; where a baseline keeps repeats of its own, these tell, and no rule of thumb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeq.regressions.differences import LIVE, Figure

FEWEST = 3  # repeats that say anything of a spread


@dataclass(frozen=True)
class Floor:
    """`share` of the older figure below which a change is no change, and where that is known from."""

    share: float
    source: str


EXACT = Floor(0.0, "")
LIKENESS = Floor(10**0.05 - 1, "0.5 dB of noise, as between the rungs of a ladder")
RIG = Floor(0.0015, "0.15 %: repeats of one board and program on one rig of MLPerf Tiny")
PHONE = Floor(0.05, "5 %: phones repeat to 2 to 5 %")
BOARD = Floor(0.02, "2 %: boards with an operating system, taken as the best of phones")
HOST = Floor(0.25, "25 %: this machine, shared (benchmarks/repeats.py); kept repeats tell better")
LIVE_ON = {"adb": PHONE, "ssh": BOARD, "edgetpu": BOARD, "serial": RIG}


def floor_of(there: Figure) -> Floor:
    """How finely the bench of an older figure repeats it."""
    if there.kind == "likeness":
        return LIKENESS
    if there.kind not in LIVE or there.value.source != "measured":
        return EXACT
    return _kept(there) or LIVE_ON.get(there.job.identity.get("runner", {}).get("name", ""), HOST)


def width(metric: str, there: Figure, floor: Floor) -> float:
    """The `floor` in the unit of `metric`: dB for a ratio in dB, and of a cosine its distance from 1."""
    value = there.value.value or 0.0
    if metric == "sqnr_db":
        return 10 * math.log10(1 + floor.share)
    return floor.share * abs(1 - value if metric == "cosine" else value)


def _kept(there: Figure) -> Floor | None:
    """What the repeats of `there` say, of which each side of a comparison may be any."""
    value = there.value
    if there.job.repeats < FEWEST or not value.interval or not value.value:
        return None
    spread = max(value.interval[1] - value.value, value.value - value.interval[0]) / abs(value.value)
    share = math.sqrt(2) * spread
    return Floor(share, f"{100 * share:.2g} %: the {there.job.repeats} repeats that are kept")
